"""What is dear is done once: a signature for each message and each who hears it, a hash for each blob that comes."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.names import Digest, PeerId
from peerd.core.events import AnnouncementHeard, MessageRefused
from peerd.daemon.journal import Journal
from peerd.daemon.link import SupervisedTransport
from peerd.errors import LostError
from peerd.net.transport import Fetched
from peerd.store import blobs
from peerd.store.blobs import FileBlobs
from peerd.testing.network import MemoryNetwork
from peerd.testing.store import MemoryBlobs, MemoryStore
from peerd.wire import envelope
from peerd.wire.envelope import seal
from peerd.wire.keys import PeerKey
from peerd.wire.messages import Announcement

NETWORK = Digest("a" * 64)
KEYS = [PeerKey(bytes([number]) * 32) for number in (1, 2, 3)]
CONTENT = b"an update" * 1000


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> Counter[PeerId]:
    """Signatures verified, by who is said to have made them."""
    counts, really = Counter[PeerId](), envelope.verify

    def verify(peer: PeerId, signature: bytes, data: bytes) -> bool:
        counts[peer] += 1
        return really(peer, signature, data)

    monkeypatch.setattr(envelope, "verify", verify)
    return counts


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Files read through to be hashed, by how their names end."""
    counts, really = Counter[str](), blobs._digest_of

    def digest_of(path: Path) -> Digest:
        counts[path.suffix] += 1
        return really(path)

    monkeypatch.setattr(blobs, "_digest_of", digest_of)
    return counts


def announcement() -> Announcement:
    return Announcement(
        network=NETWORK,
        peer=KEYS[0].peer_id,
        epoch=1,
        sequence=1,
        round=1,
        codec="bf16",
        size=4,
        blob=Digest("b" * 64),
        time=1,
    )


def daemons_in_a_line(wires: MemoryNetwork, told: list[list[Any]]) -> list[SupervisedTransport]:
    def one(number: int) -> SupervisedTransport:
        async def tell(event: Any) -> None:
            told[number].append(event)

        return SupervisedTransport(
            lambda _: wires.node(KEYS[number].peer_id, MemoryBlobs(), NETWORK),
            tell,
            clock=lambda: 0.0,
            unix=lambda: 1.0,
        )

    return [one(number) for number in range(len(KEYS))]


def heard(messages: list[bytes]) -> list[list[Any]]:
    """What three daemons in a line are told while the first says these."""
    told: list[list[Any]] = [[], [], []]
    last = len(messages)

    async def main() -> None:
        daemons = daemons_in_a_line(MemoryNetwork(), told)
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            for daemon in daemons:
                tasks.create_task(daemon.run(lambda: None), name="daemon")
            while not all(daemon.addresses for daemon in daemons):  # noqa: ASYNC110
                await asyncio.sleep(0)
            for one, other, key in zip(daemons, daemons[1:], KEYS[1:], strict=False):
                await one.connect(key.peer_id, other.addresses)
            for message in messages:
                await daemons[0].publish(message)
            while sum(isinstance(event, AnnouncementHeard | MessageRefused) for event in told[1]) < last:  # noqa: ASYNC110
                await asyncio.sleep(0)
            for _ in range(20):
                await asyncio.sleep(0)
            for daemon in daemons:
                await daemon.stop()

    asyncio.run(main())
    return told


def test_a_signature_is_verified_once_by_each_who_hears_the_announcement(verified: Counter[PeerId]) -> None:
    told = heard([seal(KEYS[0], announcement())])

    assert [sum(isinstance(event, AnnouncementHeard) for event in events) for events in told] == [0, 1, 1]
    assert verified == {KEYS[0].peer_id: 2}  # by two, once each


def test_what_is_forged_is_verified_once_refused_and_goes_no_further(verified: Counter[PeerId]) -> None:
    forged = bytearray(seal(KEYS[0], announcement()))
    forged[-1] ^= 1

    told = heard([bytes(forged)])

    assert [event.reason for event in told[1] if isinstance(event, MessageRefused)] == ["signature"]
    assert not any(isinstance(event, AnnouncementHeard | MessageRefused) for event in told[2])
    assert verified == {KEYS[0].peer_id: 1}


def test_the_own_announcement_is_verified_when_it_is_read_and_never_again(verified: Counter[PeerId]) -> None:
    store = MemoryStore(epoch=1)
    store.save_announcement(seal(KEYS[0], announcement()))

    journal = Journal(store, MemoryBlobs())
    looks = [journal.envelope.said for _ in range(10)]

    assert looks == [announcement()] * 10
    assert verified == {KEYS[0].peer_id: 1}


def fetched(folder: Path) -> tuple[FileBlobs, Digest]:
    """A blob that came over the network into a shelf of files."""

    async def main() -> tuple[FileBlobs, Digest]:
        wires, shelf, source = MemoryNetwork(chunk_bytes=1000), FileBlobs(folder), MemoryBlobs()
        digest = source.put(CONTENT)
        here, there = (wires.node(key.peer_id, held, NETWORK) for key, held in zip(KEYS, (shelf, source), strict=False))
        await here.start()
        await there.start()
        await here.connect(there.me, (there.address,))
        assert isinstance(await here.fetch(digest, len(CONTENT), (there.me,), 10.0), Fetched)
        return shelf, digest

    return asyncio.run(main())


def test_a_fetched_blob_is_hashed_once_for_shelf_worker_and_every_merge(tmp_path: Path, hashed: Counter[str]) -> None:
    shelf, digest = fetched(tmp_path)
    journal = Journal(MemoryStore(epoch=1), shelf)

    async def handed_out() -> list[bytes]:
        return [(await journal.blob(digest)).read_bytes() for _ in range(5)]  # to be admitted, and for four merges

    assert asyncio.run(handed_out()) == [CONTENT] * 5
    assert hashed == {".partial": 1}


def test_a_blob_of_the_worker_is_hashed_once(tmp_path: Path, hashed: Counter[str]) -> None:
    (made := tmp_path / "made.update").write_bytes(CONTENT)
    shelf = FileBlobs(tmp_path / "shelf")

    digest = shelf.adopt(made)
    shelf.path(digest)
    assert shelf.put(CONTENT) == digest

    assert hashed == {".update": 1}


@pytest.mark.parametrize("change", ["bytes in place", "another file", "cut"])
def test_a_file_that_was_touched_since_is_hashed_again_however_soon(tmp_path: Path, change: str) -> None:
    shelf, digest = fetched(tmp_path)
    file, damaged = tmp_path / digest, b"X" + CONTENT[1:]
    assert (
        file.stat().st_ctime_ns - file.stat().st_mtime_ns > 500_000_000
    )  # no write now can leave this time of writing

    if change == "bytes in place":
        with file.open("r+b") as opened:
            opened.write(b"X")
    elif change == "another file":
        (tmp_path / "other").write_bytes(damaged)
        (tmp_path / "other").replace(file)
    else:
        file.write_bytes(CONTENT[:-1])

    with pytest.raises(LostError, match="was damaged"):
        shelf.path(digest)


def test_whoever_starts_trusts_no_file_that_an_earlier_run_has_hashed(tmp_path: Path, hashed: Counter[str]) -> None:
    _, digest = fetched(tmp_path)

    again = FileBlobs(tmp_path)
    again.path(digest)
    again.path(digest)

    assert hashed == {".partial": 1, "": 1}
