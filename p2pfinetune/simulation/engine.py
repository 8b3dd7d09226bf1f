"""What carries a simulation out, wave by wave; and the engine that does so in this very process.

An engine holds the peers. It is told what to do in the order of the timetable and decides nothing.

    train(wave's peers) -> publish(those online) -> merge(wave, updates held) ... -> test(all peers)

Within a wave nothing depends on the order of peers: all train, then all publish, then all merge. What was published is
a handle that only the engine reads, bytes here and a reference into an object store on a cluster, so that the loop
above it can hold updates for as long as somebody may still hear them without moving them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from p2pfinetune.data.population import Population
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId, Round
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.hostile.attacks import corrupted
from p2pfinetune.simulation.shard import Shard, SharedUpdate, Tested
from p2pfinetune.simulation.timetable import Visit, Wave

FIRST = "first"  # a folder: what each peer published first, which attackers may play back

Key = tuple[PeerId, Round]
Held = Mapping[Key, Any]
"""Published updates by peer and round, in whatever form the engine keeps them."""


class Size(NamedTuple):
    """What fetching an update costs."""

    blob: int
    """Bytes."""
    base: int = 0
    """Bytes of the key frame that it is a difference to, for those who have not got it."""
    since_key: int = 0
    """How many publications ago that was published."""

    @classmethod
    def of(cls, said: SharedUpdate) -> Size:
        return cls(len(said.blob), len(said.base or b""), said.since_key)


class Engine(Protocol):
    """The seam between the timetable and the machines."""

    def train(self, peers: Sequence[PeerId]) -> None:
        """One round's steps of each."""
        ...

    def publish(self, peers: Sequence[PeerId]) -> dict[PeerId, Any]:
        """Their updates, as handles that `merge` takes."""
        ...

    def size_of(self, handle: Any) -> Size:
        """Of one update."""
        ...

    def merge(self, wave: Wave, held: Held) -> list[dict[str, Any]]:
        """End the round of every visit; a line of metrics each, in the order of the wave."""
        ...

    def assemble(self) -> int:
        """All begin anew, each with a first adapter of what all others have now; the bytes that this takes."""
        ...

    def test(self, peers: Sequence[PeerId]) -> dict[PeerId, Tested]:
        """Open the test splits."""
        ...

    def save(self, folder: Path, held: Held) -> None:
        """Write all that the rest of the run depends on into an empty folder."""
        ...

    def restore(self, folder: Path) -> dict[Key, Any]:
        """Go on from there; the updates that were held."""
        ...


class LocalEngine:
    """All peers in one shard in this process."""

    def __init__(self, config: SimulationConfig, population: Population, base: Base) -> None:
        self._shard = Shard(config, population, population.peers, base)
        self._attack, self._seed = config.attack, config.seed
        self._first: dict[PeerId, Tensor] = {}
        self._published = 0

    def train(self, peers: Sequence[PeerId]) -> None:
        """Together, on one stack of adapters."""
        self._shard.train(peers)

    def publish(self, peers: Sequence[PeerId]) -> dict[PeerId, Any]:
        """The bytes themselves."""
        said = {peer: self._shard.publish(peer) for peer in peers}
        if not self._attack.attackers:
            return said
        self._published += 1  # in lock-step, a wave is a round
        deltas = {peer: self._shard.delta(peer) for peer in peers}
        self._first = {**deltas, **self._first}
        lies = corrupted(self._attack, deltas, self._first, self._published, self._seed)
        if steps := self._attack.extra_steps:
            lies = self._shard.trained_on(lies, steps, self._published)
        return said | {peer: self._shard.encode(lie) for peer, lie in lies.items()}

    def size_of(self, handle: Any) -> Size:
        """As it is."""
        return Size.of(handle)

    def merge(self, wave: Wave, held: Held) -> list[dict[str, Any]]:
        """One after the other, once those that meet at a middle have."""
        heard = {visit.peer: heard_by(visit, held) for visit in wave}
        met = self._shard.agreements(wave, heard)
        return [self._shard.merge(visit, heard[visit.peer], met.get(visit.peer, {})) for visit in wave]

    def assemble(self) -> int:
        """One after the other."""
        told = self._shard.told()
        self._shard.assemble(told)
        return bytes_of(told)

    def test(self, peers: Sequence[PeerId]) -> dict[PeerId, Tested]:
        """One after the other."""
        return {peer: self._shard.test(peer) for peer in peers}

    def save(self, folder: Path, held: Held) -> None:
        """The shard and the updates, and what attackers remember."""
        self._shard.save(folder)
        save_held(folder, held)
        if self._published:
            (folder / FIRST).mkdir()
            now = Round(self._published)
            first = {(peer, now): SharedUpdate(delta.numpy().tobytes()) for peer, delta in self._first.items()}
            save_held(folder / FIRST, first)

    def restore(self, folder: Path) -> dict[Key, Any]:
        """The other half of `save`."""
        self._shard.restore(folder)
        if (folder / FIRST).is_dir():
            for (peer, published), delta in load_held(folder / FIRST).items():
                self._published = published
                self._first[peer] = torch.frombuffer(bytearray(delta.blob), dtype=torch.float32)
        return load_held(folder)


def heard_by(visit: Visit, held: Held) -> dict[PeerId, Any]:
    """The updates that a visit hears."""
    return {peer: held[peer, number] for peer, number in visit.hears.items()}


def bytes_of(told: Mapping[PeerId, tuple[bytes, bytes]]) -> int:
    """If each peer fetches what all others tell newcomers."""
    return (len(told) - 1) * sum(len(update) + len(gates) for update, gates in told.values())


def save_held(folder: Path, held: Mapping[Key, SharedUpdate]) -> None:
    """One file an update, one more of its base if it has one, and an index of whose they are."""
    index = []
    for number, (key, said) in enumerate(sorted(held.items(), key=lambda item: item[0])):
        (folder / f"update-{number}").write_bytes(said.blob)
        if said.base is not None:
            (folder / f"base-{number}").write_bytes(said.base)
        index.append([*key, said.since_key])
    (folder / "updates.json").write_text(json.dumps(index), encoding="utf-8")


def load_held(folder: Path) -> dict[Key, SharedUpdate]:
    """The other half of `save_held`."""
    index = json.loads((folder / "updates.json").read_text(encoding="utf-8"))
    held: dict[Key, SharedUpdate] = {}
    for place, (peer, number, since_key) in enumerate(index):
        base = (folder / f"base-{place}").read_bytes() if since_key else None
        said = SharedUpdate((folder / f"update-{place}").read_bytes(), base, int(since_key))
        held[PeerId(str(peer)), Round(int(number))] = said
    return held
