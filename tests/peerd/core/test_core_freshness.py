"""Announcements are taken while they are fresh, by whichever clock; wrong clocks are told and harm nobody."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfinetune.names import Digest, PeerId
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.clocks import opinion
from peerd.core.limits import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS, OWN_A_SECOND


def strange_clocks(node: Any) -> tuple[int, float]:
    said = opinion(node)
    return (0, 0.0) if said is None else (said.differ, said.seconds)


NAMES = ("peer-one", "peer-two", "peer-three")


@pytest.fixture
def play(playbook: Any) -> Any:
    play = playbook()
    play.worker()
    return play


def hear(play: Any, peer: str = "peer-one", sequence: int = 1, *, age: float, **fields: Any) -> list[do.AnyEffect]:
    said = play.said(peer, sequence, **fields)
    return play.tell(on.AnnouncementHeard, announcement=said, via=PeerId(peer), age_seconds=age)


@pytest.mark.parametrize(
    ("age", "reason"),
    [
        (MAX_AGE_SECONDS, ""),
        (MAX_AGE_SECONDS + 1.0, "stale"),
        (-MAX_AHEAD_SECONDS, ""),
        (-MAX_AHEAD_SECONDS - 1.0, "from-the-future"),
        (1e15, "stale"),
        (-1e15, "from-the-future"),
    ],
)
def test_an_announcement_is_fresh_for_five_minutes_back_and_one_ahead(play: Any, age: float, reason: str) -> None:
    play.connect()
    hear(play, age=age)

    assert dict(play.node.neighbours["peer-one"].refused) == ({reason: 1} if reason else {})
    assert (play.node.neighbours["peer-one"].latest is None) == bool(reason)


def test_a_stranger_that_is_stale_gets_no_entry(play: Any) -> None:
    assert hear(play, age=301.0) == [do.CountRefusal(peer="peer-one", reason="stale")]
    assert "peer-one" not in play.node.neighbours


def test_a_wrong_clock_is_no_offence(play: Any) -> None:
    play.connect()
    for sequence in range(1, 300):
        play.at += 5.0
        hear(play, sequence=sequence, age=3600.0 if sequence % 2 else -3600.0)

    assert play.node.standings == {}


def test_a_round_that_lasts_longer_than_freshness_is_repeated_with_the_present_time(play: Any) -> None:
    play.connect()
    hear(play, age=0.0, time=1000)
    node = play.node

    assert hear(play, age=0.0, time=2000) == []
    assert play.node.neighbours == node.neighbours
    hear(play, age=0.0, time=2000, blob=Digest("c" * 64))
    assert play.node.neighbours["peer-one"].refused == {"equivocation": 1}


def test_what_is_old_comes_before_what_is_stale(play: Any) -> None:
    """The order of the gate: network, replay, freshness, codec, size."""
    play.connect()
    hear(play, sequence=5, age=0.0)
    for fields, reason in [
        ({"network": Digest("b" * 64), "sequence": 4}, "other-network"),
        ({"sequence": 4}, "replay"),
        ({"sequence": 6, "codec": "zip"}, "stale"),
    ]:
        hear(play, age=999.0, **fields)
        assert reason in play.node.neighbours["peer-one"].refused, reason
    hear(play, sequence=6, age=0.0, codec="zip", size=2**40)

    assert dict(play.node.neighbours["peer-one"].refused) == dict.fromkeys(
        ("other-network", "replay", "stale", "unknown-codec"), 1
    )


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_where_most_peers_differ_alike_my_clock_is_the_wrong_one(play: Any, seconds: float) -> None:
    for name in NAMES:
        play.connect(name)
        hear(play, name, age=seconds)

    assert strange_clocks(play.node) == (3, seconds)


def test_where_one_of_them_differs_its_clock_is_the_wrong_one(play: Any) -> None:
    for name, age in zip(NAMES, (3600.0, 0.0, 0.0), strict=True):
        play.connect(name)
        hear(play, name, age=age)

    assert strange_clocks(play.node) == (0, 0.0)


def test_peers_that_differ_in_opposite_ways_say_nothing_of_my_clock(play: Any) -> None:
    for name, age in zip(NAMES, (3600.0, -3600.0, 0.0), strict=True):
        play.connect(name)
        hear(play, name, age=age)

    assert strange_clocks(play.node) == (0, 0.0)


def test_a_clock_that_was_set_shows_in_repetitions_and_is_forgotten_when_it_is_right_again(play: Any) -> None:
    for name in NAMES[:2]:
        play.connect(name)
        hear(play, name, age=0.0)
        assert hear(play, name, age=3600.0) == []
    assert strange_clocks(play.node) == (2, 3600.0)

    for name in NAMES[:2]:
        hear(play, name, age=0.0)
    assert strange_clocks(play.node) == (0, 0.0)
    assert not play.node.refused


@pytest.mark.parametrize(
    "fields", [{"sequence": 3}, {"sequence": 5}, {"sequence": 7}, {"sequence": 7, "network": Digest("b" * 64)}]
)
def test_who_repeats_what_a_peer_said_long_ago_silences_nobody(play: Any, fields: dict[str, Any]) -> None:
    """Recorded words are signed all the same, whether or not I had heard them."""
    for name in NAMES[:2]:
        play.connect(name)
        hear(play, name, 5, age=0.0)
    for name in NAMES[:2] * 1000:
        said = play.said(name, **fields)
        play.tell(on.AnnouncementHeard, 0.01, announcement=said, via=PeerId("peer-mallory"), age_seconds=3600.0)

    assert not play.node.standings
    assert strange_clocks(play.node) == (0, 0.0)
    assert play.node.neighbours["peer-one"].dial_not_before <= play.at
    hear(play, "peer-one", 9, age=0.0)
    assert play.node.neighbours["peer-one"].latest.sequence == 9


def test_who_holds_back_what_a_peer_said_and_tells_it_all_at_once_gets_nobody_banned(play: Any) -> None:
    """Quick rounds, heard only through a third who keeps them for as long as they are fresh, for a whole day."""
    spoken_in = int(MAX_AGE_SECONDS * OWN_A_SECOND)
    sequence = 0
    for _ in range(288):
        play.tick(MAX_AGE_SECONDS)
        for _ in range(spoken_in):
            sequence += 1
            said = play.said("peer-one", sequence)
            play.tell(on.AnnouncementHeard, announcement=said, via=PeerId("peer-mallory"), age_seconds=100.0)
        assert "peer-one" not in play.node.standings or not play.node.standings["peer-one"].bans

    assert play.node.neighbours["peer-one"].latest.sequence > sequence - spoken_in


def test_who_uses_up_its_own_numbers_silences_nobody_else(play: Any) -> None:
    last = 2**53
    for name in NAMES:
        play.connect(name)
    hear(play, "peer-one", last, age=0.0, epoch=last, round=last)
    hear(play, "peer-two", 1, age=0.0)

    assert play.node.neighbours["peer-one"].latest.order == (last, last)
    assert play.node.neighbours["peer-two"].latest.order == (1, 1)
    assert not play.node.refused
