"""Who is dialled and when: for ever, with growing pauses, good peers first."""

from __future__ import annotations

from typing import Any

from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import (
    LONELY_DIAL_SECONDS,
    MAX_DIAL_BACKOFF_SECONDS,
    MAX_DIALS,
    MAX_KNOWN_PEERS,
    MIN_REPEAT_SECONDS,
    SILENT_SECONDS,
)
from peerd.core.outlook import next_deadline, sentence
from peerd.wire.messages import PeerRecord


def find(play: Any, peer: str = "peer-one", *addresses: str) -> list[do.AnyEffect]:
    return play.tell(on.PeerFound, peer=peer, addresses=addresses or (f"/sim/{peer}",), how="bootstrap")


def test_a_found_peer_is_dialled_at_once_even_before_the_worker_is_there(playbook: Any) -> None:
    play = playbook()

    assert find(play) == [do.Dial(peer="peer-one", addresses=("/sim/peer-one",))]
    assert find(play) == []


def test_remembered_peers_are_dialled_first(playbook: Any) -> None:
    known = tuple(PeerRecord(peer=f"friend-{number}", addresses=(f"/f/{number}",)) for number in range(MAX_DIALS + 2))
    play = playbook(known=known)

    assert [effect.peer for effect in play.effects] == [f"friend-{number}" for number in range(MAX_DIALS)]
    assert find(play, "stranger-1") == []
    assert find(play, "stranger-2") == []
    play.tell(on.DialFailed, peer="friend-0", reason="unreachable")
    assert [effect.peer for effect in play.wanted(do.Dial)] == ["stranger-1"]
    play.tell(on.DialFailed, peer="friend-1", reason="unreachable")
    assert [effect.peer for effect in play.wanted(do.Dial)] == [f"friend-{MAX_DIALS}"]


def test_a_peer_that_does_not_answer_is_dialled_for_ever_with_growing_pauses(playbook: Any) -> None:
    play = playbook()
    find(play)
    waits, since = [], play.at
    play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
    for _ in range(7200):
        play.tick(1.0)
        if play.wanted(do.Dial):
            waits.append(play.at - since)
            since = play.at
            play.tell(on.DialFailed, peer="peer-one", reason="unreachable")

    assert waits[0] <= 3.0
    assert waits[5] > 8.0
    assert max(waits) <= LONELY_DIAL_SECONDS + 1
    assert len(waits) > 20


def pauses(play: Any, peer: str, seconds: int = 1500) -> list[float]:
    """Between dials of a peer that never answers."""
    waits, since = [], play.at
    for _ in range(seconds):
        play.tick(1.0)
        if [effect for effect in play.wanted(do.Dial) if effect.peer == peer]:
            waits.append(play.at - since)
            since = play.at
            play.tell(on.DialFailed, peer=peer, reason="unreachable")
    return waits


def test_with_company_the_pauses_grow_to_five_minutes_and_no_more(playbook: Any) -> None:
    play = playbook()
    play.connect("peer-two")
    find(play)
    play.tell(on.DialFailed, peer="peer-one", reason="unreachable")

    assert LONELY_DIAL_SECONDS < max(pauses(play, "peer-one")) <= MAX_DIAL_BACKOFF_SECONDS + 1


def test_whoever_loses_the_last_connection_dials_everybody_within_a_minute(playbook: Any) -> None:
    play = playbook()
    play.connect("peer-two")
    find(play)
    play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
    pauses(play, "peer-one")
    play.tell(on.PeerDisconnected, peer="peer-two")

    assert pauses(play, "peer-one", 100)[0] <= LONELY_DIAL_SECONDS + 1


def test_one_that_announces_after_a_long_silence_is_dialled_at_once(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect("peer-two")
    find(play)
    play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
    pauses(play, "peer-one")
    play.hear("peer-one", 1)
    assert [effect.peer for effect in play.wanted(do.Dial)] == ["peer-one"]

    play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
    play.hear("peer-one", 2, after=SILENT_SECONDS / 2)  # it cannot be dialled, and is not for every round of its
    assert play.wanted(do.Dial) == []


def test_one_that_has_moved_is_dialled_within_a_minute(playbook: Any) -> None:
    play = playbook()
    play.connect("peer-two")
    find(play)
    play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
    pauses(play, "peer-one")
    find(play, "peer-one", "/sim/elsewhere")

    assert pauses(play, "peer-one", 100)[0] <= LONELY_DIAL_SECONDS + 1


def test_each_attempt_begins_with_another_address(playbook: Any) -> None:
    play = playbook()
    find(play, "peer-one", "/swallows/1", "/swallows/2", "/good")
    firsts = {play.effects[0].addresses[0]}
    for _ in range(2):
        play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
        while not play.wanted(do.Dial):
            play.tick()
        (dial,) = play.wanted(do.Dial)
        assert sorted(dial.addresses) == ["/good", "/swallows/1", "/swallows/2"]
        firsts.add(dial.addresses[0])

    assert firsts == {"/swallows/1", "/swallows/2", "/good"}


def test_one_dial_is_always_left_for_a_friend_however_many_strangers_are_found(playbook: Any) -> None:
    play = playbook(known=(PeerRecord(peer="friend", addresses=("/f",)),))
    play.tell(on.DialFailed, peer="friend", reason="unreachable")
    for number in range(50):
        find(play, f"stranger-{number}")
    play.tick(5.0)
    play.tell(on.DialFailed, peer="stranger-0", reason="unreachable")

    assert [effect.peer for effect in play.wanted(do.Dial)] == ["friend"]


def test_pauses_differ_between_peers_and_are_the_same_in_every_run(playbook: Any) -> None:
    def second_dial(peer: str) -> float:
        play = playbook()
        find(play, peer)
        play.tell(on.DialFailed, peer=peer, reason="unreachable")
        deadline = next_deadline(play.node)
        assert deadline is not None
        return deadline

    deadlines = [second_dial(f"peer-{number}") for number in range(10)]
    assert len(set(deadlines)) == 10
    assert deadlines == [second_dial(f"peer-{number}") for number in range(10)]


def test_a_lost_connection_is_dialled_again_soon(playbook: Any) -> None:
    play = playbook()
    find(play)
    for _ in range(4):
        play.tell(on.DialFailed, peer="peer-one", reason="unreachable")
        play.tick(60.0)
    play.connect()
    play.tell(on.PeerDisconnected, after=60.0, peer="peer-one")

    play.tick(2.0)
    assert [effect.peer for effect in play.wanted(do.Dial)] == ["peer-one"]


def test_a_peer_that_hangs_up_at_once_is_not_dialled_every_second(playbook: Any) -> None:
    play = playbook()
    find(play)
    dials = 0
    for _ in range(600):
        if play.wanted(do.Dial):
            dials += 1
            play.connect()
            play.tell(on.PeerDisconnected, peer="peer-one")
        play.tick(1.0)

    assert 5 <= dials <= 20


def test_one_dial_is_always_left_for_a_stranger(playbook: Any) -> None:
    play = playbook(known=tuple(PeerRecord(peer=f"gone-{number}", addresses=("/x",)) for number in range(100)))
    find(play)
    play.tell(on.DialFailed, peer="gone-0", reason="unreachable")

    assert [effect.peer for effect in play.wanted(do.Dial)] == ["peer-one"]


def test_a_connected_peer_is_not_dialled(playbook: Any) -> None:
    play = playbook()
    play.connect()

    assert find(play) == []
    assert not any(isinstance(effect, do.Dial) for _ in range(50) for effect in play.tick(10.0))


def test_only_so_many_connections_are_sought(playbook: Any) -> None:
    play = playbook(max_neighbours=2)
    for number in range(4):
        if number % 2:
            find(play, f"peer-{number}")
        play.connect(f"peer-{number}")

    assert find(play, "peer-nine") == []
    play.tell(on.PeerDisconnected, peer="peer-0")
    assert [effect.peer for effect in play.wanted(do.Dial)] == ["peer-nine"]


def test_a_crowd_that_connects_first_does_not_keep_me_from_whom_i_look_for(playbook: Any) -> None:
    play = playbook(max_neighbours=2)
    for number in range(20):
        play.connect(f"crowd-{number}")

    for number in range(2):
        assert [effect.peer for effect in find(play, f"peer-{number}")] == [f"peer-{number}"]
        play.connect(f"peer-{number}")
    assert find(play, "peer-nine") == []


def test_the_address_that_worked_is_tried_first_next_time(playbook: Any) -> None:
    play = playbook()
    find(play, "peer-one", "/old", "/sim/peer-one")
    play.connect()

    assert play.node.neighbours["peer-one"].addresses == ("/sim/peer-one", "/old")


def test_the_far_end_of_an_inbound_connection_is_no_address(playbook: Any) -> None:
    play = playbook()
    play.connect()

    assert play.node.neighbours["peer-one"].addresses == ()


def test_a_peer_of_another_network_is_left_in_peace_for_long(playbook: Any) -> None:
    play = playbook()
    play.worker()
    find(play)
    play.connect()
    play.hear(network="b" * 64)
    play.tell(on.PeerDisconnected, peer="peer-one")

    assert not any(isinstance(effect, do.Dial) for _ in range(50) for effect in play.tick(60.0))
    play.tick(900.0)
    assert play.wanted(do.Dial)


def test_a_dial_that_nobody_answers_is_taken_for_failed(playbook: Any) -> None:
    play = playbook()
    find(play)
    play.tick(61.0)
    play.tick(5.0)

    assert play.wanted(do.Dial)


def test_a_late_connection_event_is_put_right_by_the_next_tick(playbook: Any) -> None:
    play = playbook()
    find(play)
    play.tell(on.PeerDisconnected, peer="peer-one")
    play.connect()  # the dial's answer, overtaken by the end of its connection
    play.tell(on.Ticked, connected=frozenset())
    assert not play.node.neighbours["peer-one"].connected

    play.tell(on.Ticked, connected=frozenset({"peer-one", "peer-two"}))
    assert play.node.neighbours["peer-one"].connected
    assert play.node.neighbours["peer-two"].connected
    assert play.node.neighbours["peer-two"].addresses == ()
    play.tick()
    assert play.node.neighbours["peer-two"].connected


def test_a_tick_that_did_not_look_changes_no_connection(playbook: Any) -> None:
    play = playbook()
    play.connect()
    play.tick()

    assert play.node.neighbours["peer-one"].connected


def test_an_answer_to_no_dial_is_ignored(playbook: Any) -> None:
    play = playbook()

    assert play.tell(on.DialFailed, peer="peer-one", reason="unreachable") == []
    assert play.tell(on.PeerDisconnected, peer="peer-one") == []
    assert play.node.neighbours == {}


def test_whom_the_user_named_is_dialled_however_many_strangers_came_before(playbook: Any) -> None:
    play = playbook()
    play.worker()
    for number in range(2 * MAX_KNOWN_PEERS):
        find(play, f"sybil-{number}")
    play.tell(on.PeerFound, peer="peer-named", addresses=("/n",), how="peer")
    dialled = {dial.peer for dial in play.wanted(do.Dial)}
    for _ in range(2):
        play.tick(61.0)  # the first dials have failed by then
        dialled |= {dial.peer for dial in play.wanted(do.Dial)}

    assert "peer-named" in dialled


def test_who_has_moved_dials_at_once_whom_it_knows_to_be_there_and_all_others_within_a_minute(playbook: Any) -> None:
    play = playbook(known=(PeerRecord(peer="friend", addresses=("/f/1",)),))
    play.connect("peer-two")
    find(play, "rumour")
    for peer in ("friend", "rumour"):
        play.tell(on.DialFailed, peer=peer, reason="unreachable")
    pauses(play, "friend", 700)
    pauses(play, "rumour", 700)
    assert not play.wanted(do.Dial)
    play.tell(on.AddressesChanged)

    assert [effect.peer for effect in play.wanted(do.Dial)] == ["friend"]
    assert pauses(play, "rumour", 100)[0] <= LONELY_DIAL_SECONDS + 1


def test_who_has_moved_says_again_where_it_is_as_soon_as_it_may(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect("peer-two")
    play.trained()
    play.published()
    for _ in range(int(MIN_REPEAT_SECONDS) + 3):
        play.tick(1.0)
    play.tell(on.AddressesChanged)
    assert play.wanted(do.Repeat)

    play.tell(on.AddressesChanged)
    assert not play.wanted(do.Repeat)


def test_a_peer_behind_a_relay_is_kept_and_told_of_and_nobody_knocks_for_it(playbook: Any) -> None:
    relayed, direct = "/ip4/192.0.2.1/tcp/4001/p2p/RELAY/p2p-circuit/p2p/peer-one", "/ip4/192.0.2.7/tcp/1"
    play = playbook()
    play.worker()
    play.tell(on.PeerFound, peer="peer-one", addresses=(relayed,), how="bootstrap")

    assert not play.wanted(do.Dial)
    assert play.node.neighbours["peer-one"].addresses == (relayed,)
    assert "none of 1 known peer is connected (1 behind a relay, which this version cannot dial)" in sentence(play.node)
    assert play.node.knocks.is_used_up(play.at, is_friend=False) is False

    play.tell(on.PeerFound, after=120.0, peer="peer-one", addresses=(direct,), how="bootstrap")

    assert [dial.addresses for dial in play.wanted(do.Dial)] == [(direct,)]
