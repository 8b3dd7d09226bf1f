"""The same signed bytes again: twice in a row, after something newer, and after a restart. Real envelopes and stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from peerd.config import Config
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.node import step
from peerd.daemon.journal import Journal
from peerd.daemon.resume import begin_node
from peerd.store.sqlite import SqliteStore
from peerd.testing.store import MemoryBlobs
from peerd.wire.envelope import open_announcement, seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement

NETWORK = Digest("a" * 64)
ME, KEY = PeerKey(b"m" * 32).peer_id, PeerKey(b"o" * 32)
OTHER = KEY.peer_id


def sealed(sequence: int) -> bytes:
    return seal(
        KEY,
        Announcement(
            network=NETWORK, peer=OTHER, epoch=1, sequence=sequence, round=Round(sequence), codec="bf16", size=100,
            blob=Digest(f"{sequence:064x}"), time=1000, addresses=("/ip4/1.2.3.4/tcp/1",),
        ),
    )  # fmt: skip


class Run:
    """One life of a daemon's core over a database that outlives it; what it wants written is written."""

    def __init__(self, database: Path) -> None:
        self.store = SqliteStore(database, epoch=1)
        self.journal = Journal(self.store, MemoryBlobs())
        self.at = 0.0
        config = Config(warmup_rounds=9)
        self.node, _ = begin_node(config, ME, self.at, (), self.store.seen(), self.journal, self.store.bans(), 1000.0)
        self.feed(
            on.WorkerStarted(
                at=0.0, network=NETWORK, device="cpu", max_blob_bytes={"bf16": 1000}, round=Round(1), trained=False,
                best_guard=None,
            )
        )  # fmt: skip
        self.feed(on.PeerConnected(at=0.0, peer=OTHER, address="/ip4/1.2.3.4/tcp/1"))

    def feed(self, event: on.AnyEvent) -> list[do.AnyEffect]:
        self.node, effects = step(self.node, event)
        for effect in effects:
            match effect:
                case do.Admit(peer=peer, order=order):
                    self.store.save_seen(peer, *order)
                case do.CountRefusal(peer=peer, reason=reason):
                    self.store.count_refusal(peer, reason)
        return effects

    def hear(self, data: bytes) -> list[do.AnyEffect]:
        self.at += 3.0
        said = open_announcement(data)
        assert isinstance(said, Announcement)
        return self.feed(on.AnnouncementHeard(at=self.at, announcement=said, via=OTHER, age_seconds=1.0))

    def take(self, sequence: int) -> None:
        assert any(isinstance(effect, do.Fetch) for effect in self.hear(sealed(sequence)))
        digest = Digest(f"{sequence:064x}")
        self.feed(on.BlobFetched(at=self.at, peer=OTHER, digest=digest, bytes_in=100))
        self.feed(on.UpdateAdmitted(at=self.at, peer=OTHER, digest=digest))

    def refused(self) -> dict[PeerId, dict[str, int]]:
        return self.store.refusals()

    def end(self) -> None:
        self.journal.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "peerd.sqlite"


def test_the_same_signed_message_twice_is_taken_once(database: Path) -> None:
    run = Run(database)
    run.take(5)

    assert run.hear(sealed(5)) == []
    assert run.refused() == {}
    run.end()


def test_an_older_signed_message_is_a_replay(database: Path) -> None:
    run = Run(database)
    run.take(5)

    assert run.hear(sealed(4)) == [do.CountRefusal(peer=OTHER, reason="replay")]
    assert run.refused() == {OTHER: {"replay": 1}}
    run.end()


@pytest.mark.parametrize(("sequence", "is_replay"), [(1, True), (4, True), (6, False)])
def test_after_a_restart_an_older_one_is_a_replay_still(database: Path, sequence: int, is_replay: bool) -> None:
    run = Run(database)
    run.take(5)
    run.end()
    run = Run(database)

    effects: list[Any] = run.hear(sealed(sequence))

    assert (do.CountRefusal(peer=OTHER, reason="replay") in effects) == is_replay
    assert any(isinstance(effect, do.Fetch) for effect in effects) != is_replay
    run.end()
