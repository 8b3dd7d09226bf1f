"""Bytes of one peer an hour, admitted updates on disk, and offenders that are heard more rarely and served last."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from p2pfinetune.names import PeerId, Round
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.dice import key_of, roll
from peerd.core.limits import (
    BAN_AT,
    COUNTED_A_SECOND,
    COUNTED_BURST,
    KEPT_BANS_A_SECOND,
    KEPT_BANS_BURST,
    MAX_FETCH_TRIES,
    MAX_NEWCOMER_FETCHES,
    MAX_STANDINGS,
    OFFENCES_HALVE_SECONDS,
    QUOTA_BLOBS,
    QUOTA_BYTES,
    QUOTA_SECONDS,
)
from peerd.core.neighbours import Neighbour, Update
from peerd.core.outlook import standing
from peerd.core.quota import held_at_most, quota_bytes, within_disk
from peerd.core.state import throttled
from peerd.pacing import Bucket

LARGE = 2**30
ONE, TWO = PeerId("peer-one"), PeerId("peer-two")


@pytest.fixture
def play(playbook: Any) -> Any:
    """Blobs of this network are large."""
    play = playbook(warmup_rounds=99)
    play.worker(max_blob_bytes={"bf16": LARGE})
    play.connect()
    return play


def offend(play: Any, times: int, peer: PeerId = ONE) -> None:
    for _ in range(times):
        play.tell(on.MessageRefused, 0.01, peer=peer, reason="signature")


def admit(play: Any, sequence: int, size: int = LARGE) -> bool:
    """Whether an update came all the way in."""
    if not any(isinstance(effect, do.Fetch) for effect in play.hear(sequence=sequence, size=size)):
        return False
    play.fetched(sequence=sequence)
    play.admitted(sequence=sequence)
    return True


def test_an_honest_peer_with_the_largest_blobs_and_a_round_a_minute_never_meets_its_quota(play: Any) -> None:
    for sequence in range(1, 200):
        play.at += 60.0
        assert admit(play, sequence)

    assert not play.node.refused


def test_who_announces_large_blobs_all_the_time_is_fetched_up_to_its_quota(play: Any) -> None:
    began, taken = play.at, 0
    for sequence in range(1, 1200):
        play.at += 3.0
        taken += admit(play, sequence)

    hours = (play.at - began) / 3600.0
    assert taken * LARGE <= quota_bytes(play.node) * (1.0 + hours)
    assert taken >= QUOTA_BLOBS
    refused = play.node.neighbours[ONE].refused
    assert refused["quota"] > 300
    assert refused["quota"] + refused["throttled"] > 900
    assert not play.node.standings[ONE].bans  # nothing of it is fetched: that is enough


def test_small_blobs_meet_no_quota_however_quick_the_rounds(playbook: Any) -> None:
    play = playbook(warmup_rounds=99)
    play.worker(max_blob_bytes={"bf16": 100_000})
    play.connect()
    assert quota_bytes(play.node) == QUOTA_BYTES
    for sequence in range(1, 1000):
        play.at += 3.0
        assert admit(play, sequence, 100_000)


def test_every_attempt_counts(play: Any) -> None:
    """Else a blob that breaks off before its end could be asked for again and again."""
    play.hear(size=LARGE)
    left, began = [play.node.neighbours[ONE].quota.level], play.at
    for _ in range(MAX_FETCH_TRIES - 1):
        play.tell(on.FetchFailed, peer=ONE, digest=play.said().blob, reason="timeout")
        while not play.wanted(do.Fetch):
            play.tick(1.0)
        left.append(play.node.neighbours[ONE].quota.level)

    assert left == sorted(left, reverse=True)
    spent = left[0] - left[-1] + (play.at - began) / QUOTA_SECONDS  # as much of it comes back in time
    assert spent == pytest.approx((MAX_FETCH_TRIES - 1) / QUOTA_BLOBS)


def test_a_bucket_is_not_filled_beyond_its_brim_nor_by_a_clock_that_goes_back() -> None:
    bucket = Bucket(level=1.0, filled_at=1000.0)

    assert bucket.take(1e9, 2.0, 1.0, 2.5) is None
    assert bucket.take(1e9, 2.0, 1.0, 2.0) == Bucket(level=0.0, filled_at=1e9)
    assert bucket.take(0.0, 2.0, 1.0, 1.5) is None


def test_admitted_updates_on_disk_are_bounded_and_those_that_a_merge_wants_stay(playbook: Any) -> None:
    play = playbook(warmup_rounds=99, max_neighbours=2)
    play.worker()
    names = [f"peer-{number:02d}" for number in range(40)]
    forgotten = set()
    for name in names:
        play.connect(name)
        play.hear(name)
        play.tick()
        for fetch in play.wanted(do.Fetch):
            play.tell(on.BlobFetched, peer=fetch.peer, digest=fetch.digest, bytes_in=500)
            play.tell(on.UpdateAdmitted, peer=fetch.peer, digest=fetch.digest)
            forgotten |= {digest for forget in play.wanted(do.Forget) for digest in forget.digests}
        # whom the partial view wants changes with every peer that trust speaks for
        play.node = replace(play.node, row={PeerId(name): 0.5, play.node.me: 0.5})

    held = [known.peer for known in play.node.neighbours.values() if known.admitted is not None]
    assert 2 <= len(held) <= held_at_most(play.node) == 4
    assert not forgotten & {play.node.neighbours[peer].admitted.digest for peer in held}


def test_the_updates_that_go_are_the_oldest_of_those_that_no_merge_wants(playbook: Any) -> None:
    play = playbook(max_neighbours=2)
    names = [PeerId(f"peer-{number}") for number in range(6)]
    peers = {}
    for number, name in enumerate(names):
        said = play.said(name)
        update = Update(
            digest=said.blob,
            codec="bf16",
            round=Round(1),
            order=said.order,
            heard_at=90.0 + number,
            first_heard_at=90.0 + number,
            admitted_at=99.0,
        )
        peers[name] = Neighbour(peer=name, lot=0.5, latest=said, heard_at=90.0 + number, admitted=update)
    trusted = {names[0]: 0.4, names[1]: 0.4, play.node.me: 0.2}  # heard longest ago, and wanted in the next merge

    node = within_disk(replace(play.node, neighbours=peers, row=trusted))

    assert [name for name in names if node.neighbours[name].admitted is None] == names[2:4]
    assert set(node.garbage) == {peers[name].latest.blob for name in names[2:4]}


def test_two_offences_that_no_honest_peer_commits_throttle_and_two_more_ban(play: Any) -> None:
    assert standing(play.node, ONE) == "good"
    offend(play, 1)
    assert standing(play.node, ONE) == "good"
    offend(play, 1)
    assert standing(play.node, ONE) == "throttled"
    offend(play, 2)
    assert standing(play.node, ONE) == "banned"
    assert not throttled(play.node, ONE)


def test_a_throttled_peer_is_heard_more_rarely_which_is_hardly_held_against_it(play: Any) -> None:
    play.connect("peer-two")
    offend(play, 2)
    before = play.node.standings[ONE].offences
    for sequence in range(1, 101):
        play.at += 2.0
        play.hear("peer-one", sequence)
        play.hear("peer-two", sequence)

    assert play.node.neighbours[ONE].refused["throttled"] > 50
    assert play.node.neighbours[ONE].seen > (1, 80)
    assert "rate" not in play.node.neighbours[ONE].refused
    assert not play.node.neighbours[TWO].refused
    assert play.node.standings[ONE].offences <= before + 0.5


def test_throttling_ends_as_offences_fade(play: Any) -> None:
    offend(play, 3)
    play.tick(OFFENCES_HALVE_SECONDS)

    assert standing(play.node, ONE) == "good"
    assert play.node.standings[ONE].offences < BAN_AT


def test_a_throttled_peer_is_fetched_last(play: Any) -> None:
    names = [f"peer-{number}" for number in range(MAX_NEWCOMER_FETCHES)]
    for name in names:
        play.connect(name)
        play.hear(name)
    offend(play, 2)
    play.hear("peer-one")
    play.at += 1.0
    play.connect("peer-late")
    play.hear("peer-late")
    assert not play.wanted(do.Fetch)

    play.fetched("peer-0")

    assert [fetch.peer for fetch in play.wanted(do.Fetch)] == ["peer-late"]
    play.fetched("peer-1")
    assert [fetch.peer for fetch in play.wanted(do.Fetch)] == ["peer-one"]


def test_where_more_announce_than_are_wanted_a_throttled_peer_comes_last_however_trusted(playbook: Any) -> None:
    play = playbook(max_neighbours=1, warmup_rounds=99, row={ONE: 0.9, PeerId("peer-me"): 0.1})
    play.worker()
    for name in ("peer-one", "peer-two"):
        play.connect(name)
        play.hear(name)
    play.tick()
    assert play.node.partial_view == {ONE}

    offend(play, 2)
    play.tick()

    assert play.node.partial_view == {TWO}


def test_a_throttled_peer_is_dialled_last(playbook: Any) -> None:
    play = playbook(max_neighbours=1)  # two connections
    play.worker()
    play.tell(on.PeerFound, peer=PeerId("peer-there"), addresses=("/sim/peer-there",), how="peers")
    play.connect("peer-there")
    play.connect("peer-here")
    offend(play, 2)
    for name in ("peer-one", "peer-two"):
        play.tell(on.PeerFound, 0.1, peer=PeerId(name), addresses=(f"/sim/{name}",), how="peers")
        assert not play.wanted(do.Dial)

    play.tell(on.PeerDisconnected, peer=PeerId("peer-here"))
    assert [dial.peer for dial in play.wanted(do.Dial)] == [TWO]
    play.tell(on.DialFailed, peer=TWO, reason="unreachable")
    assert [dial.peer for dial in play.wanted(do.Dial)] == [ONE]


def test_a_crowd_that_chose_its_ids_for_my_lots_fills_no_partial_view_of_mine(playbook: Any) -> None:
    """Ids are free, and who I am and which round I am in is announced; what I draw lots from is not."""
    known = key_of("peer-me")
    spread = roll(known, "partial view", 0) * 2**30
    ids = sorted((PeerId(f"sybil-{n}") for n in range(4000)), key=lambda peer: roll(known, "peer", peer) * spread % 1.0)
    honest = {PeerId(f"honest-{n}") for n in range(16)}

    def chosen(**fields: Any) -> int:
        play = playbook(warmup_rounds=99, **fields)
        play.worker(round=Round(1))
        for peer in [*ids[:64], *honest]:
            play.at += 1.0
            play.hear(peer)
        play.tick()
        return len(play.node.partial_view & honest)

    assert chosen() == 0  # with lots that anybody can work out
    assert chosen(secret="known to me alone") > 0


def test_a_crowd_that_wants_to_be_banned_makes_the_disk_write_only_so_often(play: Any) -> None:
    kept = 0
    for number in range(1000):
        for _ in range(4):
            effects = play.tell(on.MessageRefused, peer=PeerId(f"sybil-{number}"), reason="signature")
            kept += sum(isinstance(effect, do.Ban | do.CountRefusal) for effect in effects)
        play.at += 0.01

    seconds = 11.0
    assert kept <= COUNTED_BURST + KEPT_BANS_BURST + seconds * (COUNTED_A_SECOND + KEPT_BANS_A_SECOND)


def test_a_crowd_that_got_itself_banned_leaves_room_to_remember_the_offences_of_others(play: Any) -> None:
    for number in range(2 * MAX_STANDINGS):
        play.at += 0.1
        for _ in range(4):
            play.tell(on.MessageRefused, peer=PeerId(f"sybil-{number}"), reason="signature")
    for number in range(40):
        play.at += 0.1
        play.tell(on.MessageRefused, peer=PeerId(f"sybil-of-late-{number}"), reason="signature")
        if number % 10 == 0:
            play.tell(on.MessageRefused, peer=ONE, reason="signature")

    assert len(play.node.standings) == MAX_STANDINGS
    assert play.node.standings[ONE].is_banned(play.at)
