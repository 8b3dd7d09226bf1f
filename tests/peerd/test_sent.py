"""The book of what left the device: nothing is lost in it, whatever is summed up."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.names import Digest, PeerId, Round
from peerd.store import sent
from peerd.store.sent import OLDER, SOMEBODY, Publication, SentBytes, Spending, attributed, entered, totals

PEERS = st.sampled_from([PeerId(f"peer-{number}") for number in range(6)])
ROWS = st.builds(
    SentBytes,
    round=st.integers(1, 9).map(Round),
    peer=PEERS,
    own=st.integers(0, 1000),
    passed_on=st.integers(0, 1000),
    gossip=st.integers(0, 1000),
    last_unix=st.floats(0, 1e9),
)
BLOBS = [Digest(f"{number:064x}") for number in range(4)]
COUNTS = st.dictionaries(st.tuples(PEERS, st.sampled_from([None, *BLOBS])), st.integers(0, 10**9))


def by_kind(rows):
    found = Counter()
    for row in rows:
        found.update(own=row.own, passed_on=row.passed_on, gossip=row.gossip)
    return found


@given(st.lists(st.lists(ROWS, max_size=8), max_size=8), st.integers(1, 12), st.integers(1, 4))
def test_no_byte_is_lost_however_little_room_there_is(lots, rows, peers):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sent, "MAX_SENT_ROWS", rows)
        patch.setattr(sent, "MAX_SENT_PEERS", peers)
        book = {}
        for lot in lots:
            book = entered(book, lot)
            assert sum(round_ != OLDER for round_, _ in book) <= rows
            assert sum(round_ == OLDER and peer != SOMEBODY for round_, peer in book) <= peers

    assert by_kind(book.values()) == by_kind(row for lot in lots for row in lot)
    assert all(key == (row.round, row.peer) for key, row in book.items())


@given(st.lists(COUNTS, max_size=5))
def test_the_book_adds_up_to_what_the_transport_counted_for_every_peer(drained):
    own = {BLOBS[0]: Round(3), BLOBS[1]: Round(4)}
    book = {}
    for number, counts in enumerate(drained, start=1):
        book = entered(book, attributed(counts, own, Round(number), float(number)))

    counted = Counter()
    for counts in drained:
        for (peer, _), count in counts.items():
            counted[peer] += count
    found = Counter()
    for row in book.values():
        found[row.peer] += row.total
    assert found == counted
    assert totals(book.values()) == (sum(counted.values()), len(counted))


def test_my_update_is_booked_under_its_round_and_all_else_under_the_present_one():
    bob = PeerId("bob")
    counts = {(bob, BLOBS[0]): 100, (bob, BLOBS[3]): 20, (bob, None): 3}

    rows = attributed(counts, {BLOBS[0]: Round(2)}, Round(5), 9.0)

    assert sorted((row.round, row.own, row.passed_on, row.gossip) for row in rows) == [(2, 100, 0, 0), (5, 0, 20, 3)]


def test_publications_are_counted_by_their_noise():
    spending = Spending(since_unix=0.0)
    made = Publication(round=Round(1), unix=1.0, blob=BLOBS[0], size=1)
    noised = Publication(round=Round(2), unix=2.0, blob=BLOBS[1], size=1, clip=1.0, noise=2.0, epsilon=3.0)

    for one in (made, noised, noised):
        spending = spending.after(one, 1e-6)

    assert (spending.bare, spending.noised, spending.hidden) == (1, ((2.0, 2),), 2)
    assert (spending.epsilon, spending.delta) == (3.0, 1e-6)
