"""Carries an assembly out: asks for gates, has the worker put pieces together; and answers newcomers who ask.

    candidates' updates, from the shelf --+
                                          +--> worker: assemble, judge, checkpoint --> `Performer`: record (round 0) and
    gates, asked of the candidates     ---+    checkpoint in one transaction --> Assembled

The gates of others are files of the scratch folder for as long as the worker reads them. Whatever goes wrong before the
transaction leaves a home in which nothing was trained, and the next worker or start begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec

from p2pfinetune.names import Digest, PeerId
from p2pfinetune.round.figures import RoundFigures
from peerd.control.render import some
from peerd.core.effects import Assemble
from peerd.daemon.gates import OwnGates, asked_of, gates_exchange
from peerd.daemon.link import SupervisedTransport
from peerd.errors import WorkerError
from peerd.worker.messages import AnyAnswer, AssembleFrom, UpdateFile
from peerd.worker.supervisor import Worker


class Newcomer:
    """Both sides of it in one daemon."""

    def __init__(self, network: SupervisedTransport, worker: Worker, scratch: Path, *, shares: bool) -> None:
        """`shares`: whether gates of the own adapter are trained and given away."""
        self._network, self._worker, self._scratch = network, worker, scratch
        self._own = OwnGates(are_trained=shares)
        self._exchange = gates_exchange(Digest(""), 0)

    def join(self, network: Digest, gate_bytes: int) -> None:
        """Before the network is: newcomers are answered from then on."""
        self._exchange = gates_exchange(network, gate_bytes)
        self._network.answer(self._exchange, self._own.answer)

    async def has(self, gates: str) -> None:
        """The worker wrote the gates of what is published now; no path: it wrote none."""
        await self._own.take(gates)

    async def assemble(self, effect: Assemble, updates: list[UpdateFile]) -> AnyAnswer | str | None:
        """The worker's answer; why it was not even asked, in words; None if it died."""
        asked = [candidate.peer for candidate in effect.candidates]
        gates, why_not = await asked_of(asked, self._network, self._exchange)
        if not gates:
            return f"of {some(len(asked), 'neighbour')} nobody gave gates to find pieces by ({why_not})"
        files = await asyncio.to_thread(_written, gates, self._scratch)
        try:
            return await self._worker.call(AssembleFrom(id=0, updates=updates, gates=files))
        except WorkerError:
            return None
        finally:
            await asyncio.to_thread(_removed, files)


def timed(figures: RoundFigures, seconds: float) -> RoundFigures:
    """With how long it took, which the worker cannot know."""
    if figures.assembly is None:
        return figures
    return msgspec.structs.replace(figures, assembly=msgspec.structs.replace(figures.assembly, seconds=seconds))


def _written(gates: Mapping[PeerId, bytes], scratch: Path) -> dict[PeerId, str]:
    scratch.mkdir(mode=0o700, exist_ok=True)
    files = {peer: scratch / f"gates-{place}" for place, peer in enumerate(gates)}
    for peer, path in files.items():
        path.write_bytes(gates[peer])
    return {peer: str(path) for peer, path in files.items()}


def _removed(files: Mapping[PeerId, str]) -> None:
    for path in files.values():
        Path(path).unlink(missing_ok=True)
