"""Gates between peers: a newcomer asks each neighbour once for those of its adapter, and finds pieces by them.

They are no part of updates (docs/adr: gates are asked for): a network does not split over who trains any, no codec has
to know them, and nobody pays for them but newcomers. So they go over an exchange of their own (`peerd.net.exchanges`)
between connected peers of one network.

    asks:     nothing, 0 bytes
    answers:  1, then the gates as `p2pfinetune.round.pieces` writes them; or 0 and a word why there are none

What is answered with is of the update that was published last, kept in memory; after a restart the worker gives it
again. What is heard is a stranger's until the worker has inspected it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from p2pfinetune.names import Digest, PeerId
from peerd.control.render import printable, some
from peerd.daemon.link import SupervisedTransport
from peerd.net.exchanges import Asked, Exchange
from peerd.net.transport import Failed

PATIENCE_SECONDS: Final = 20.0  # a megabyte on a slow line
MAX_WORD: Final = 100  # bytes
NONE: Final = "trains no gates (peerd start --gate-steps N)"
LATER: Final = "has trained no gates yet"

_log = logging.getLogger("peerd.gates")


def gates_exchange(network: Digest, gate_bytes: int) -> Exchange:
    """`gate_bytes`: of the largest valid gates of the network."""
    return Exchange(
        protocol=f"/peerd/{network}/gates/1",
        max_request_bytes=0,
        max_answer_bytes=1 + max(gate_bytes, MAX_WORD),
        patience_seconds=PATIENCE_SECONDS,
    )


class OwnGates:
    """What this daemon answers with."""

    def __init__(self, *, are_trained: bool) -> None:
        self._word, self._gates = LATER if are_trained else NONE, b""

    async def take(self, path: str) -> None:
        """From a file of the worker, which is of no more use; nothing happens for no path."""
        if path:
            self._gates = await asyncio.to_thread(Path(path).read_bytes)
            await asyncio.to_thread(Path(path).unlink, missing_ok=True)

    async def answer(self, _: Asked) -> bytes | None:
        """For whichever neighbour asks."""
        return b"\x01" + self._gates if self._gates else b"\x00" + self._word.encode()


async def asked_of(
    peers: Sequence[PeerId], network: SupervisedTransport, exchange: Exchange
) -> tuple[dict[PeerId, bytes], str]:
    """Gates by peer, all asked at once; and in words, how those that gave none answered."""
    async with asyncio.TaskGroup() as group:
        tasks = {peer: group.create_task(network.ask(peer, exchange, b""), name=f"gates of {peer}") for peer in peers}
    said = {peer: task.result() for peer, task in tasks.items()}
    found = {peer: answer[1:] for peer, answer in said.items() if isinstance(answer, bytes) and answer[:1] == b"\x01"}
    words = [_word(answer) for peer, answer in said.items() if peer not in found]
    for word in words:
        _log.info("a neighbour gave no gates: %s", word)
    return found, ", ".join(f"{some(words.count(word), 'peer')}: {word}" for word in dict.fromkeys(words))


def _word(answer: bytes | Failed) -> str:
    """Why there are none. What a stranger says is one of our words, or shown as what it is."""
    if isinstance(answer, Failed):
        return NONE if answer.reason == "refused" else answer.reason
    word = answer[1 : 1 + MAX_WORD].decode(errors="replace")
    return word if word in (NONE, LATER) else f"says {printable(word)!r}"
