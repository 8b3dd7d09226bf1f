"""A playbook: feed a node one event after another and look at what it wants done."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import RoundFigures
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.node import begin, step
from peerd.core.settings import Settings
from peerd.testing.invariants import broken
from peerd.wire.messages import Announcement, PeerRecord

NETWORK = Digest("a" * 64)
ME = PeerId("peer-me")


def said(peer: str = "peer-one", sequence: int = 1, **fields: Any) -> Announcement:
    """What a peer announces; the blob's digest ends in the sequence number unless it is given."""
    usual: dict[str, Any] = {
        "network": NETWORK,
        "epoch": 1,
        "round": Round(sequence),
        "codec": "bf16",
        "size": 500,
        "time": 1,
    }
    usual["blob"] = Digest(peer.encode().hex().rjust(40, "0")[:40] + f"{sequence:024x}")
    return Announcement(peer=PeerId(peer), sequence=sequence, **(usual | fields))


class Playbook:
    """One node and its clock. Every step is checked against the invariants."""

    said = staticmethod(said)

    def __init__(self, *, known: tuple[PeerRecord, ...] = (), **fields: Any) -> None:
        begin_with = {
            name: fields.pop(name)
            for name in ("seen", "own", "row", "standings", "proven", "epoch", "said_before", "secret")
            if name in fields
        }
        self.at = 100.0
        self.settings = Settings(**({"warmup_rounds": 0, "collect_seconds": 30.0} | fields))
        self.node, self.effects = begin(self.settings, ME, self.at, known, **begin_with)
        assert not broken(self.node, self.effects)

    def feed(self, event: on.AnyEvent) -> list[do.AnyEffect]:
        before = self.node
        self.node, self.effects = step(self.node, event)
        assert not broken(self.node, self.effects, before), event
        return self.effects

    def tell(self, kind: type[Any], after: float = 0.0, **fields: Any) -> list[do.AnyEffect]:
        self.at += after
        return self.feed(kind(at=self.at, **fields))

    def tick(self, after: float = 1.0) -> list[do.AnyEffect]:
        return self.tell(on.Ticked, after)

    def wanted(self, kind: type[Any]) -> list[Any]:
        """Effects of one kind of the last step."""
        return [effect for effect in self.effects if isinstance(effect, kind)]

    # --- longer strides ---------------------------------------------------------------------------------------------

    def worker(self, **fields: Any) -> list[do.AnyEffect]:
        usual: dict[str, Any] = {
            "network": NETWORK,
            "device": "cpu",
            "max_blob_bytes": {"bf16": 1000},
            "round": Round(1),
        }
        return self.tell(on.WorkerStarted, **(usual | {"trained": False, "best_guard": None} | fields))

    def trained(self) -> list[do.AnyEffect]:
        return self.tell(on.Trained, round=self.node.round, steps=20)

    def published(self) -> list[do.AnyEffect]:
        round_ = self.node.round
        return self.tell(on.Published, announcement=said(ME, round_))

    def collaborated(self, guard: float | None = 3.0, **fields: Any) -> list[do.AnyEffect]:
        usual: dict[str, Any] = {"round": self.node.round, "row": {ME: 1.0}, "accepted": True, "reason": ""}
        figures = RoundFigures(guard_own=guard, guard_personal=guard)
        return self.tell(on.Collaborated, figures=figures, **(usual | {"best_guard": guard or 0.0} | fields))

    def connect(self, peer: str = "peer-one") -> list[do.AnyEffect]:
        return self.tell(on.PeerConnected, peer=PeerId(peer), address=f"/sim/{peer}")

    def hear(self, peer: str = "peer-one", sequence: int = 1, after: float = 0.0, **fields: Any) -> list[do.AnyEffect]:
        said_ = said(peer, sequence, **fields)
        return self.tell(on.AnnouncementHeard, after, announcement=said_, via=PeerId(peer))

    def fetched(self, peer: str = "peer-one", sequence: int = 1) -> list[do.AnyEffect]:
        return self.tell(on.BlobFetched, peer=PeerId(peer), digest=said(peer, sequence).blob, bytes_in=500)

    def admitted(self, peer: str = "peer-one", sequence: int = 1) -> list[do.AnyEffect]:
        return self.tell(on.UpdateAdmitted, peer=PeerId(peer), digest=said(peer, sequence).blob)

    def receive(self, peer: str = "peer-one", sequence: int = 1) -> list[do.AnyEffect]:
        """An update all the way in."""
        self.hear(peer, sequence)
        self.fetched(peer, sequence)
        return self.admitted(peer, sequence)

    def to_collecting(self) -> list[do.AnyEffect]:
        self.trained()
        return self.published()


@pytest.fixture
def playbook() -> type[Playbook]:
    """The class, since test files of this tree cannot import one another."""
    return Playbook
