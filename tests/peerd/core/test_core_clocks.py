"""Who is believed about my clock: those I listen to, where most of them agree, within what a clock can show."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from p2pfinetune.names import PeerId, Round
from peerd.core import events as on
from peerd.core.clocks import listened_in, listening, opinion, told_by
from peerd.core.limits import CLOCK_ROUNDS, MAX_AGE_SECONDS, MAX_CLOCK_OFF_SECONDS, MAX_LISTENED_TO
from peerd.core.neighbours import Neighbour
from peerd.core.node import begin
from peerd.core.settings import Settings
from peerd.core.state import Node

ME = PeerId("peer-me")
LIE = 16_666_666_666_667 * 60.0


def node_with(offs: dict[str, float], listened_to: dict[str, int], round_: int = 10) -> Node:
    begun, _ = begin(Settings(), ME, 0.0)
    peers = {
        PeerId(name): Neighbour(peer=PeerId(name), lot=0.0, connected=True, clock_off=told_by(off))
        for name, off in offs.items()
    }
    heard = {PeerId(name): Round(last) for name, last in listened_to.items()}
    return replace(begun, neighbours=peers, listened_to=heard, round=Round(round_))


anything = st.floats(allow_nan=False, width=64)
honest = st.floats(-60.0, 300.0)


@given(st.lists(honest, min_size=1, max_size=8), st.lists(anything, max_size=30))
def test_liars_say_nothing_of_my_clock_while_most_of_those_i_listen_to_are_honest(
    true: list[float], lies: list[float]
) -> None:
    friends = {f"friend-{number}": off for number, off in enumerate(true)}
    believed = {f"liar-{number}": off for number, off in enumerate(lies[: len(true)])}
    strangers = {f"stranger-{number}": off for number, off in enumerate(lies)}

    node = node_with(friends | believed | strangers, dict.fromkeys(friends | believed, 9))

    assert opinion(node) is None


@given(
    st.floats(-1e9, 1e9).filter(lambda off: bool(told_by(off))),
    st.lists(st.floats(-30.0, 30.0), min_size=3, max_size=8),
    st.lists(anything, max_size=20),
)
def test_where_my_clock_is_wrong_liars_change_neither_that_it_is_said_nor_by_how_much(
    off: float, jitter: list[float], lies: list[float]
) -> None:
    friends = {f"friend-{number}": off + one for number, one in enumerate(jitter)}
    believed = {f"liar-{number}": lie for number, lie in enumerate(lies[: (len(jitter) - 1) // 2])}
    strangers = {f"stranger-{number}": lie for number, lie in enumerate(lies)}
    friends = {name: one for name, one in friends.items() if told_by(one)}
    node = node_with(friends | believed | strangers, dict.fromkeys(friends | believed, 9))

    said = opinion(node)

    if len(friends) == len(jitter) and not believed:
        assert said is not None
    if said is not None:
        assert said.is_trusted
        assert abs(said.seconds - off) <= MAX_AGE_SECONDS + 30.0
        assert abs(said.seconds) <= MAX_CLOCK_OFF_SECONDS


@pytest.mark.parametrize("off", [LIE, -LIE, 1e300, MAX_CLOCK_OFF_SECONDS * 1.01, float("inf")])
def test_what_no_clock_could_show_is_ignored(off: float) -> None:
    assert told_by(off) == 0.0
    assert opinion(node_with({"one": off, "two": off}, {"one": 9, "two": 9})) is None
    assert opinion(node_with({"one": off, "two": off}, {})) is None


def test_two_lying_peers_that_came_first_make_no_more_of_it_than_a_notice(playbook: Any) -> None:
    play = playbook()
    play.worker()
    for name in ("liar-one", "liar-two"):
        play.connect(name)
        said = play.said(name)
        for age in (LIE, 3600.0):
            play.tell(on.AnnouncementHeard, announcement=said, via=name, age_seconds=age)

    said_of_me = opinion(play.node)
    assert said_of_me is not None
    assert not said_of_me.is_trusted
    assert said_of_me.seconds == 3600.0


def test_those_i_listen_to_are_asked_and_no_crowd_of_others(playbook: Any) -> None:
    crowd = {f"sybil-{number}": 3600.0 for number in range(40)}
    friends = {"friend-1": 0.0, "friend-2": 0.0}

    assert opinion(node_with(crowd | friends, {"friend-1": 9, "friend-2": 8})) is None


def test_whom_i_have_not_listened_to_for_long_is_one_of_the_crowd() -> None:
    offs = {"one": 3600.0, "two": 3600.0}
    last = dict.fromkeys(offs, 10)

    at_last, too_late = (opinion(node_with(offs, last, 10 + CLOCK_ROUNDS - 1 + late)) for late in (0, 1))
    assert at_last is not None
    assert too_late is not None
    assert (at_last.is_trusted, too_late.is_trusted) == (True, False)


def test_who_hardly_weighed_anything_was_not_listened_to() -> None:
    row = {ME: 0.5, PeerId("friend"): 0.45, PeerId("liar"): 0.05}

    assert listening({}, row, ME, Round(3)) == {"friend": 3}


def test_who_was_listened_to_is_known_after_a_restart_and_kept_in_bounded_number() -> None:
    rows = [(Round(number), {ME: 0.5, PeerId(f"peer-{number}"): 0.5}) for number in range(1, 2 * MAX_LISTENED_TO)]
    heard = listened_in(rows, ME)

    assert len(heard) == MAX_LISTENED_TO
    assert heard[PeerId(f"peer-{2 * MAX_LISTENED_TO - 1}")] == 2 * MAX_LISTENED_TO - 1
