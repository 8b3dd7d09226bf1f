"""One suite for every store: what the port promises, crashes between processes included."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import LossMargin, SplitFigures
from peerd.errors import LostError, StoreError
from peerd.store import limits, sqlite
from peerd.store import sent as book
from peerd.store.blobs import FileBlobs
from peerd.store.port import Blobs, Checkpoint, KeptBan, KnownPeer, Store
from peerd.store.rounds import StoredRound
from peerd.store.sent import Publication, SentBytes, Spending
from peerd.store.sqlite import SqliteStore
from peerd.testing import store as memory
from peerd.testing.store import MemoryBlobs, MemoryStore

Reopen = Callable[[], Store]
NO_DIGESTS = [
    "b" * 64 + "\n",
    "\n" + "b" * 64,
    "B" * 64,
    "b" * 63,
    "",
    "../../etc/passwd",
    "b" * 64 + ".partial",
    "\0" * 64,
]
HELLO = Digest(hashlib.sha256(b"hello").hexdigest())


@pytest.fixture(params=["sqlite", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Reopen:
    """Each call is a new process on the same state; the one before is simply dead."""
    stores: list[MemoryStore] = []

    def sqlite() -> Store:
        store = SqliteStore(tmp_path / "state.db", epoch=7)
        request.addfinalizer(store.close)
        return store

    def memory() -> Store:
        stores.append(stores[-1].reopened() if stores else MemoryStore(epoch=7))
        return stores[-1]

    return sqlite if request.param == "sqlite" else memory


@pytest.fixture
def store(reopen: Reopen) -> Store:
    return reopen()


@pytest.fixture(params=["files", "memory"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    return FileBlobs(tmp_path / "blobs") if request.param == "files" else MemoryBlobs(tmp_path)


def peer(number: int) -> PeerId:
    return PeerId(f"12D3KooPeer{number:05d}")


def record(number: int, reason: str = "") -> StoredRound:
    return StoredRound(
        round=Round(number),
        finished_unix=1000.0 + number,
        loss_train=2.5,
        loss_trust=None,
        guard_base=3.0,
        guard_own=2.4,
        guard_personal=2.3,
        guard_twin=None,
        row={peer(0): 0.75, peer(1): 0.25},
        accepted=not reason,
        reason=reason,
        steps=20,
        bytes_in=10,
        bytes_out=11,
        on_guard=SplitFigures(tokens=512, documents=3, windows=9, against_base=LossMargin(nats=-0.7, within=0.1)),
    )


def test_sequence_numbers_rise_within_the_epoch(store: Store) -> None:
    given = [store.reserve_sequence() for _ in range(3 * limits.SEQUENCE_BLOCK)]

    assert given == sorted(set(given))
    assert {epoch for epoch, _ in given} == {7}


def test_no_sequence_number_is_ever_given_twice_whatever_crashes(reopen: Reopen) -> None:
    given = []
    for calls in (1, 0, limits.SEQUENCE_BLOCK, 3, limits.SEQUENCE_BLOCK + 1):
        store = reopen()
        given += [store.reserve_sequence() for _ in range(calls)]

    assert given == sorted(set(given))


def test_a_new_store_holds_nothing(store: Store) -> None:
    assert store.announcement() is None
    assert store.checkpoint() is None
    assert (store.rounds(), store.peers(), store.seen(), store.refusals()) == ([], [], {}, {})


def test_the_last_announcement_is_there_after_a_crash(reopen: Reopen) -> None:
    store = reopen()
    store.save_announcement(b"first")
    store.save_announcement(b"second\0\xff")

    assert reopen().announcement() == b"second\0\xff"


def test_checkpoint_and_record_are_there_together_after_a_crash(reopen: Reopen) -> None:
    checkpoint = Checkpoint(round=Round(3), trained=True, blob=HELLO, best_guard=2.25, best_blob=HELLO)
    reopen().save_checkpoint(checkpoint, record(2, "worse on the guard split"))

    store = reopen()
    assert store.checkpoint() == checkpoint
    assert store.rounds() == [record(2, "worse on the guard split")]


def test_a_checkpoint_without_a_record_leaves_the_rounds_alone(store: Store) -> None:
    store.save_checkpoint(Checkpoint(round=Round(1), trained=True, blob=HELLO))

    assert store.rounds() == []


def test_rounds_come_oldest_first_and_only_as_many_as_asked_for(store: Store) -> None:
    for number in (1, 2, 3):
        store.save_checkpoint(Checkpoint(round=Round(number), trained=False, blob=HELLO), record(number))

    assert [entry.round for entry in store.rounds()] == [1, 2, 3]
    assert [entry.round for entry in store.rounds(last=2)] == [2, 3]
    assert store.rounds(last=0) == []


def test_a_round_recorded_again_replaces_its_record(store: Store) -> None:
    checkpoint = Checkpoint(round=Round(1), trained=False, blob=HELLO)
    store.save_checkpoint(checkpoint, record(1))
    store.save_checkpoint(checkpoint, record(1, "again"))

    assert [entry.reason for entry in store.rounds()] == ["again"]


def test_old_rounds_fall_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite, memory):
        monkeypatch.setattr(module, "MAX_ROUNDS", 5)
    for number in range(1, 9):
        store.save_checkpoint(Checkpoint(round=Round(number), trained=False, blob=HELLO), record(number))

    assert [entry.round for entry in store.rounds()] == [4, 5, 6, 7, 8]


def test_good_peers_come_most_recently_good_first(reopen: Reopen) -> None:
    store = reopen()
    store.save_peer(KnownPeer(peer=peer(1), addresses=("/ip4/1.2.3.4/tcp/1", "/dns4/a/tcp/2"), last_good_unix=10.0))
    store.save_peer(KnownPeer(peer=peer(2), addresses=(), last_good_unix=20.0))
    store.save_peer(KnownPeer(peer=peer(3), addresses=("/x",), last_good_unix=5.0))
    store.save_peer(KnownPeer(peer=peer(3), addresses=("/y",), last_good_unix=30.0))

    assert reopen().peers() == [
        KnownPeer(peer=peer(3), addresses=("/y",), last_good_unix=30.0),
        KnownPeer(peer=peer(2), addresses=(), last_good_unix=20.0),
        KnownPeer(peer=peer(1), addresses=("/ip4/1.2.3.4/tcp/1", "/dns4/a/tcp/2"), last_good_unix=10.0),
    ]


def test_the_least_recently_good_peers_fall_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite, memory):
        monkeypatch.setattr(module, "MAX_PEERS", 3)
    for number in range(6):
        store.save_peer(KnownPeer(peer=peer(number), addresses=("/a",), last_good_unix=float(number)))

    assert [known.peer for known in store.peers()] == [peer(5), peer(4), peer(3)]


def test_what_was_seen_is_known_after_a_crash_and_never_goes_back(reopen: Reopen) -> None:
    store = reopen()
    store.save_seen(peer(1), 5, 9)
    store.save_seen(peer(1), 5, 3)
    store.save_seen(peer(2), 1, 1)
    store.save_seen(peer(2), 2, 0)

    assert reopen().seen() == {peer(1): (5, 9), peer(2): (2, 0)}


def test_what_was_seen_longest_ago_falls_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite, memory):
        monkeypatch.setattr(module, "MAX_SEEN", 3)
    for number in (0, 1, 2, 0, 3):
        store.save_seen(peer(number), 1, number)

    assert list(store.seen()) == [peer(2), peer(0), peer(3)]


def test_refusals_are_counted_by_peer_and_reason(reopen: Reopen) -> None:
    store = reopen()
    for reason in ("oversize", "replay", "oversize"):
        store.count_refusal(peer(1), reason)

    assert reopen().refusals() == {peer(1): {"oversize": 2, "replay": 1}}


def test_a_flood_of_reasons_is_bounded_and_loses_no_count(store: Store) -> None:
    for number in range(2 * limits.MAX_REASONS):
        store.count_refusal(peer(1), f"{number}" * 99)

    counts = store.refusals()[peer(1)]
    assert len(counts) == limits.MAX_REASONS
    assert sum(counts.values()) == 2 * limits.MAX_REASONS
    assert max(map(len, counts)) <= limits.MAX_REASON


def test_a_flood_of_refused_peers_is_bounded_and_offenders_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sqlite, memory):
        monkeypatch.setattr(module, "MAX_REFUSED_PEERS", 4)
    for _ in range(3):
        store.count_refusal(peer(0), "corrupt")
    for number in range(1, 10):
        store.count_refusal(peer(number), "replay")

    assert len(store.refusals()) == 4
    assert store.refusals()[peer(0)] == {"corrupt": 3}


def test_a_blob_is_found_under_its_digest(blobs: Blobs) -> None:
    digest = blobs.put(b"hello")

    assert digest == HELLO
    assert blobs.size(digest) == 5
    assert blobs.read(digest, 1, 3) == b"ell"
    assert blobs.read(digest, 4, 100) == b"o"
    assert blobs.path(digest).read_bytes() == b"hello"
    assert blobs.put(b"hello") == digest


def test_an_absent_blob_has_no_size_no_bytes_and_no_path(blobs: Blobs) -> None:
    assert blobs.size(HELLO) is None
    assert blobs.read(HELLO, 0, 10) == b""
    with pytest.raises(StoreError, match=HELLO):
        blobs.path(HELLO)


def test_a_file_that_vanished_before_it_was_kept_is_lost_and_not_waited_for(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(LostError, match="vanished"):
        blobs.adopt(tmp_path / "tidied away")


def test_a_finished_file_is_moved_in(blobs: Blobs, tmp_path: Path) -> None:
    for _ in range(2):  # a second time the blob is there already
        source = tmp_path / "checkpoint"
        source.write_bytes(b"hello")

        assert blobs.adopt(source) == HELLO
        assert not source.exists()
        assert blobs.read(HELLO, 0, 5) == b"hello"


def test_an_interrupted_transfer_goes_on_where_it_stopped(blobs: Blobs) -> None:
    assert blobs.partial_size(HELLO) == 0
    blobs.append_partial(HELLO, 0, b"hel")
    assert blobs.partial_size(HELLO) == 3
    assert blobs.size(HELLO) is None
    blobs.append_partial(HELLO, 3, b"lo")

    assert blobs.complete_partial(HELLO)
    assert blobs.read(HELLO, 0, 5) == b"hello"
    assert blobs.partial_size(HELLO) == 0


def test_bytes_are_added_nowhere_but_at_the_end(blobs: Blobs) -> None:
    blobs.append_partial(HELLO, 0, b"hel")

    assert not any(blobs.append_partial(HELLO, offset, b"x") for offset in (0, 2, 4))
    assert blobs.partial_size(HELLO) == 3


@pytest.mark.parametrize("name", NO_DIGESTS)
def test_a_name_that_is_no_digest_is_the_name_of_no_blob_and_raises_nothing(
    blobs: Blobs, name: str, tmp_path: Path
) -> None:
    digest = Digest(name)

    assert blobs.size(digest) is None
    assert blobs.read(digest, 0, 10) == b""
    assert not blobs.append_partial(digest, 0, b"bytes")
    assert blobs.partial_size(digest) == 0
    assert not blobs.complete_partial(digest)
    blobs.drop_partial(digest)
    blobs.delete([digest, HELLO])
    assert blobs.sweep([digest]) == 0
    with pytest.raises(LostError):
        blobs.path(digest)
    assert not [found for found in tmp_path.rglob("*") if found.is_file()]


def test_what_is_no_digest_keeps_nobody_from_deleting_the_others(blobs: Blobs) -> None:
    blobs.put(b"hello")

    blobs.delete([Digest(name) for name in NO_DIGESTS] + [HELLO])

    assert blobs.size(HELLO) is None


@pytest.mark.parametrize(
    "do",
    [
        lambda store: store.count_refusal(PeerId("\ud800"), "reason"),
        lambda store: store.count_refusal(peer(1), "\ud800"),
        lambda store: store.save_seen(peer(1), 2**64, 1),
        lambda store: store.save_peer(KnownPeer(peer=peer(1), addresses=("\ud800",), last_good_unix=1.0)),
        lambda store: store.lift_ban(PeerId("\ud800")),
    ],
)
def test_what_no_row_can_hold_is_refused_in_words_and_the_store_goes_on(
    do: Callable[[Store], None], store: Store
) -> None:
    with contextlib.suppress(StoreError):  # memory holds anything
        do(store)

    store.count_refusal(peer(2), "reason")
    assert store.refusals()[peer(2)] == {"reason": 1}


def test_wrong_bytes_never_become_a_blob(blobs: Blobs) -> None:
    blobs.append_partial(HELLO, 0, b"jello")

    assert not blobs.complete_partial(HELLO)
    assert blobs.size(HELLO) is None
    assert blobs.partial_size(HELLO) == 0


def test_completing_what_never_began_is_no_blob(blobs: Blobs) -> None:
    assert not blobs.complete_partial(HELLO)


def test_a_dropped_transfer_begins_anew(blobs: Blobs) -> None:
    blobs.append_partial(HELLO, 0, b"hel")
    blobs.drop_partial(HELLO)
    blobs.drop_partial(HELLO)

    assert blobs.partial_size(HELLO) == 0


def test_a_flood_of_begun_transfers_is_bounded(blobs: Blobs) -> None:
    digests = [Digest(f"{number:064x}") for number in range(limits.MAX_PARTIALS + 10)]
    for digest in digests:
        blobs.append_partial(digest, 0, b"x")

    assert sum(blobs.partial_size(digest) for digest in digests) == limits.MAX_PARTIALS
    assert blobs.partial_size(digests[-1]) == 1


def test_begun_transfers_are_bounded_in_bytes_and_the_longest_untouched_give_way(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("peerd.store.blobs", "peerd.testing.store"):
        monkeypatch.setattr(f"{module}.MAX_PARTIAL_BYTES", 100)
    first, second, third = (Digest(f"{number:064x}") for number in range(3))
    kept = blobs.put(b"x" * 500)  # what is whole may be needed for a merge, and is no business of this limit
    for digest in (first, second):
        blobs.append_partial(digest, 0, b"x" * 40)
    blobs.append_partial(first, 40, b"x" * 10)
    blobs.append_partial(third, 0, b"x" * 20)

    assert [blobs.partial_size(digest) for digest in (first, second, third)] == [50, 0, 20]
    blobs.append_partial(third, 20, b"x" * 200)  # the one that grows is never the one that goes
    assert [blobs.partial_size(digest) for digest in (first, second, third)] == [0, 0, 220]
    assert blobs.size(kept) == 500


def test_a_sweep_deletes_all_that_is_not_kept(blobs: Blobs) -> None:
    kept, gone, coming = blobs.put(b"kept"), blobs.put(b"gone"), Digest("a" * 64)
    blobs.append_partial(coming, 0, b"abc")
    blobs.append_partial(HELLO, 0, b"he")

    assert blobs.sweep([kept, coming]) == 4 + 2
    assert blobs.size(kept) == 4
    assert blobs.size(gone) is None
    assert (blobs.partial_size(coming), blobs.partial_size(HELLO)) == (3, 0)


def test_forgotten_blobs_are_gone_and_absent_ones_are_no_error(blobs: Blobs) -> None:
    digest = blobs.put(b"hello")

    blobs.delete([digest, Digest("b" * 64)])

    assert blobs.size(digest) is None


def ban(number: int, until: float = 1000.0, bans: int = 1) -> KeptBan:
    return KeptBan(peer=peer(number), until_unix=until, seconds=600.0, bans=bans, reason="norm")


def test_bans_survive_a_crash_the_last_to_end_first(reopen: Reopen) -> None:
    store = reopen()
    store.save_ban(ban(1, 100.0))
    store.save_ban(ban(2, 300.0))
    store.save_ban(ban(1, 200.0, bans=2))

    assert reopen().bans() == [ban(2, 300.0), ban(1, 200.0, bans=2)]


def test_a_lifted_ban_is_gone_and_lifting_none_is_no_error(reopen: Reopen) -> None:
    store = reopen()
    store.save_ban(ban(1))
    store.lift_ban(peer(1))
    store.lift_ban(peer(2))

    assert reopen().bans() == []


def test_a_crowd_of_bans_is_bounded_and_the_longest_stay(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerd.store.sqlite.MAX_BANS", 3)
    monkeypatch.setattr("peerd.testing.store.MAX_BANS", 3)
    for number in range(10):
        store.save_ban(ban(number, float(number)))

    assert [kept.peer for kept in store.bans()] == [peer(9), peer(8), peer(7)]
    assert limits.MAX_BANS >= 256


def test_what_a_stranger_was_banned_for_is_cut_to_size(store: Store) -> None:
    store.save_ban(KeptBan(peer=peer(1), until_unix=1.0, seconds=1.0, bans=1, reason="x" * 500))

    assert store.bans()[0].reason == "x" * limits.MAX_REASON


def publication(number: int, **changes: Any) -> Publication:
    fields = {"round": Round(number), "unix": 100.0 + number, "blob": HELLO, "size": 5, "noise": 2.0, "epsilon": 1.5}
    return Publication(**{**fields, **changes})


def test_an_announcement_its_publication_and_its_spend_are_one_and_survive(reopen: Reopen) -> None:
    store = reopen()
    spending = Spending(since_unix=1.0)
    assert (store.spending(), store.publications(), store.sent()) == (None, [], [])
    store.save_spending(spending)
    store = reopen()
    assert store.spending() == spending

    for number in (1, 2):
        made = publication(number)
        spending = spending.after(made, 1e-5)
        store.save_announcement(b"%d" % number, made, spending)

    store = reopen()
    assert store.announcement() == b"2"
    assert store.publications() == [publication(1), publication(2)]
    assert store.publications(last=1) == [publication(2)]
    assert store.spending() == spending
    assert (spending.noised, spending.epsilon) == (((2.0, 2),), 1.5)


def test_old_publications_fall_out_and_what_they_spent_does_not(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, sqlite):
        monkeypatch.setattr(module, "MAX_PUBLICATIONS", 3)
    spending = Spending(since_unix=1.0)
    for number in range(1, 6):
        spending = spending.after(publication(number), 1e-5)
        store.save_announcement(b"said", publication(number), spending)

    assert [made.round for made in store.publications()] == [3, 4, 5]
    assert store.spending() == spending
    assert spending.hidden == 5


def sent(round_: int, number: int, **counts: int) -> SentBytes:
    return SentBytes(round=Round(round_), peer=peer(number), last_unix=float(round_), **counts)


def test_bytes_sent_add_up_by_round_and_peer_and_survive(reopen: Reopen) -> None:
    store = reopen()
    store.save_sent([sent(1, 1, own=10), sent(1, 2, gossip=3)])
    store.save_sent([sent(1, 1, own=5, passed_on=7), sent(2, 1, gossip=1)])

    assert reopen().sent() == [sent(1, 1, own=15, passed_on=7), sent(1, 2, gossip=3), sent(2, 1, gossip=1)]


def test_the_book_of_what_was_sent_is_bounded_and_loses_no_byte(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (book, sqlite):
        monkeypatch.setattr(module, "MAX_SENT_ROWS", 20)
    monkeypatch.setattr(book, "MAX_SENT_PEERS", 5)
    for round_ in range(1, 12):
        store.save_sent([sent(round_, number, own=number, gossip=1) for number in range(1, 9)])

    rows = store.sent()
    assert len(rows) <= 20 + 5 + 1
    assert sum(row.total for row in rows) == 11 * sum(number + 1 for number in range(1, 9))
    assert {row.peer for row in rows if row.round == 11} == {peer(number) for number in range(1, 9)}
    assert rows[0].round == book.OLDER
