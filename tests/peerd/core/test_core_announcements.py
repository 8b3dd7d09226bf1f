"""What is taken of what strangers say, what is refused, and that all of it is bounded."""

from __future__ import annotations

from typing import Any

import pytest

from p2pfinetune.names import Digest, PeerId
from peerd.core import effects as do
from peerd.core import events as on
from peerd.core.limits import MAX_KNOWN_PEERS, MAX_REASON, MAX_REASONS, MAX_SEEN, REPEAT_SECONDS, SETTLE_SECONDS
from peerd.core.state import is_banned
from peerd.wire.messages import MAX_ADDRESSES, PeerRecord


def refusals(play: Any, peer: str = "peer-one") -> dict[str, int]:
    return dict(play.node.neighbours[peer].refused)


def test_before_the_network_is_known_nothing_is_taken(playbook: Any) -> None:
    play = playbook()

    assert play.hear() == []
    assert play.node.neighbours == {}


def test_my_own_announcement_coming_back_is_ignored(playbook: Any) -> None:
    play = playbook()
    play.worker()

    assert play.hear("peer-me", epoch=play.node.epoch) == []
    assert play.node.neighbours == {}


def test_an_announcement_records_name_and_addresses(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.hear(name="Ann\x1b[31m\n", addresses=("/ip4/1.2.3.4/tcp/4001",))

    known = play.node.neighbours["peer-one"]
    assert known.name == "Ann[31m"
    assert known.addresses == ("/ip4/1.2.3.4/tcp/4001",)


@pytest.mark.parametrize("end", ["\n", "\r", "\u2028", "\0", "\n/ip4/5.6.7.8/tcp/1"])
def test_what_holds_a_line_break_is_no_address(playbook: Any, end: str) -> None:
    play = playbook()
    play.worker()
    play.hear(addresses=("/ip4/1.2.3.4/tcp/4001" + end, "/ip4/1.2.3.4/tcp/4002"))

    assert play.node.neighbours["peer-one"].addresses == ("/ip4/1.2.3.4/tcp/4002",)


def test_another_network_is_refused_and_counted(playbook: Any) -> None:
    play = playbook()
    play.worker()

    assert play.hear(network="b" * 64) == [do.CountRefusal(peer="peer-one", reason="other-network")]
    assert "peer-one" not in play.node.neighbours
    play.connect()
    play.hear(network="b" * 64)
    assert refusals(play) == {"other-network": 1}


def test_an_exact_repetition_is_normal_gossip(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.hear()
    node = play.node

    for _ in range(100):
        assert play.hear() == []
    assert play.node is node


def test_an_older_announcement_is_a_replay(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.hear(sequence=5)

    assert play.hear(sequence=4) == [do.CountRefusal(peer="peer-one", reason="replay")]
    assert play.hear(sequence=9, epoch=0) == [do.CountRefusal(peer="peer-one", reason="replay")]
    assert play.node.neighbours["peer-one"].latest.sequence == 5


def test_a_new_epoch_begins_its_sequence_anew(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.hear(sequence=5)
    play.hear(sequence=1, epoch=2)

    assert play.node.neighbours["peer-one"].latest.epoch == 2


def test_nobody_is_silenced_or_banned_by_others_who_repeat_its_words(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.hear(sequence=5)
    for _ in range(500):
        play.hear(sequence=4)

    assert not is_banned(play.node, PeerId("peer-one"))
    assert [type(effect) for effect in play.hear(sequence=6)] != [do.CountRefusal]
    assert play.node.neighbours[PeerId("peer-one")].seen == (1, 6)


def test_a_replay_is_refused_after_a_restart_too(playbook: Any) -> None:
    play = playbook(seen={"peer-one": (1, 5)})
    play.worker()

    assert play.hear(sequence=4) == [do.CountRefusal(peer="peer-one", reason="replay")]
    play.connect()
    assert play.hear(sequence=5) != []  # what was taken before the restart is wanted again


def test_two_announcements_under_one_number_are_refused(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.hear(sequence=5)

    assert play.hear(sequence=5, blob=Digest("c" * 64)) == [do.CountRefusal(peer="peer-one", reason="equivocation")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"codec": "zip"}, "unknown-codec"), ({"size": 1001}, "oversize"), ({"size": 2**40}, "oversize")],
)
def test_what_cannot_be_valid_is_refused_unfetched(playbook: Any, fields: dict[str, Any], reason: str) -> None:
    play = playbook()
    play.worker()
    play.connect()

    assert play.hear(**fields) == [do.CountRefusal(peer="peer-one", reason=reason)]
    assert play.node.neighbours["peer-one"].latest is None


def test_one_peer_announces_only_so_often(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()
    for sequence in range(1, 40):
        play.hear(sequence=sequence)

    assert refusals(play)["rate"] > 20
    play.tick(10.0)
    play.hear(sequence=99)
    assert play.node.neighbours["peer-one"].latest.sequence == 99


def test_bytes_that_were_no_message_are_counted_against_whoever_passed_them_on(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect()

    refused = play.tell(on.MessageRefused, peer="peer-one", reason="bad-signature")
    assert refused == [do.CountRefusal(peer="peer-one", reason="bad-signature")]
    assert refusals(play) == {"bad-signature": 1}
    assert play.node.refused == {"bad-signature": 1}


def test_refusal_words_are_bounded_in_number_and_length_and_no_count_is_lost(playbook: Any) -> None:
    play = playbook()
    play.connect()
    for number in range(100):
        play.tell(on.MessageRefused, after=3600.0, peer="peer-one", reason=f"{number}" * 50)  # or it would be banned

    counts = refusals(play)
    assert len(counts) == MAX_REASONS
    assert sum(counts.values()) == 100
    assert max(map(len, counts)) <= MAX_REASON


def test_a_flood_of_refusals_is_written_to_disk_only_so_often(playbook: Any) -> None:
    play = playbook()
    play.connect()
    crowd = [PeerId(f"peer-{number}") for number in range(1000)]  # one alone would soon be banned
    written = sum(len(play.tell(on.MessageRefused, peer=peer, reason="framing")) for peer in crowd)

    assert written <= 50
    assert play.node.refused == {"framing": 1000}


def test_strangers_beyond_a_burst_are_dropped_and_counted(playbook: Any) -> None:
    play = playbook()
    play.worker()
    for number in range(1000):
        play.hear(f"stranger-{number}")

    assert len(play.node.neighbours) <= 64
    assert play.node.dropped >= 936


def test_the_table_of_peers_is_bounded_and_keeps_those_that_proved_good(playbook: Any) -> None:
    play = playbook()
    play.worker()
    play.connect("quiet-peer")
    play.connect("good-peer")
    play.receive("good-peer")
    for number in range(2 * MAX_KNOWN_PEERS):
        play.tell(on.PeerFound, after=1.0, peer=f"hearsay-{number}", addresses=("/nowhere",), how="bootstrap")
    play.connect("late-peer")

    assert len(play.node.neighbours) == MAX_KNOWN_PEERS
    assert {"good-peer", "late-peer"} <= play.node.neighbours.keys()
    for number in range(2 * MAX_KNOWN_PEERS):
        play.connect(f"guest-{number}")
    assert len(play.node.neighbours) == MAX_KNOWN_PEERS
    assert {"quiet-peer", "good-peer", "late-peer"} <= play.node.neighbours.keys()


def test_who_was_pushed_out_cannot_replay(playbook: Any) -> None:
    play = playbook()
    play.worker()
    for number in range(MAX_KNOWN_PEERS + 50):
        play.at += 1.0
        play.hear(f"stranger-{number}", sequence=9)
    for number in range(MAX_KNOWN_PEERS):
        play.connect(f"guest-{number}")
    gone = next(iter(play.node.seen))
    assert gone.startswith("stranger")

    play.tell(on.PeerDisconnected, peer="guest-0", after=100.0)
    play.tell(on.DialFailed, peer="guest-0", reason="gone")
    assert play.hear(gone, sequence=8) in ([], [do.CountRefusal(peer=gone, reason="replay")])
    assert gone not in play.node.neighbours or play.node.neighbours[gone].latest is None


def test_orders_of_peers_that_left_are_bounded(playbook: Any) -> None:
    play = playbook(seen={f"old-{number}": (1, number) for number in range(3 * MAX_SEEN)})

    assert len(play.node.seen) == MAX_SEEN
    assert f"old-{3 * MAX_SEEN - 1}" in play.node.seen


def test_hearsay_does_not_push_out_the_addresses_that_a_peer_signed(playbook: Any) -> None:
    play = playbook()
    play.worker()
    signed = tuple(f"/signed/{number}" for number in range(MAX_ADDRESSES - 1))
    play.hear(addresses=signed)
    for number in range(50):
        play.tell(on.PeerFound, peer="peer-one", addresses=(f"/hearsay/{number}", "x" * 999, ""), how="bootstrap")

    addresses = play.node.neighbours["peer-one"].addresses
    assert addresses == (*signed, "/hearsay/49")


def test_a_newcomer_hears_my_announcement_soon_and_everybody_now_and_then(playbook: Any) -> None:
    play = playbook(warmup_rounds=9)
    play.worker()
    play.to_collecting()
    assert [effect for effect in play.tick(60.0) if isinstance(effect, do.Repeat)] == []  # there is nobody to hear
    play.connect()
    play.tick(SETTLE_SECONDS)
    assert len(play.wanted(do.Repeat)) <= 1
    repeats = 0
    for _ in range(300):
        play.tick(1.0)
        repeats += len(play.wanted(do.Repeat))

    assert 300 / (1.3 * REPEAT_SECONDS) <= repeats <= 300 / (0.7 * REPEAT_SECONDS)


def test_many_newcomers_do_not_make_me_repeat_for_each(playbook: Any) -> None:
    play = playbook(warmup_rounds=9)
    play.worker()
    play.to_collecting()
    repeats = 0
    for number in range(20):
        play.at += 1.0
        play.connect(f"peer-{number}")
        repeats += len(play.wanted(do.Repeat))
        play.tick(0.5)
        repeats += len(play.wanted(do.Repeat))

    assert 1 <= repeats <= 7


def test_after_a_restart_the_last_announcement_is_repeated(playbook: Any) -> None:
    play = playbook(own=playbook.said("peer-me", 4), rounds=1)
    play.worker(round=9)
    play.connect()
    play.tick(60.0)

    assert play.wanted(do.Repeat)


def test_an_announcement_for_another_network_is_not_repeated(playbook: Any) -> None:
    play = playbook(own=playbook.said("peer-me", 4, network="b" * 64), rounds=1)
    play.worker(round=9)
    play.connect()
    play.tick(60.0)

    assert play.wanted(do.Repeat) == []


def test_remembered_peers_do_not_include_me(playbook: Any) -> None:
    play = playbook(known=(PeerRecord(peer="peer-me", addresses=("/me",)), PeerRecord(peer="peer-two", addresses=())))

    assert list(play.node.neighbours) == ["peer-two"]
    assert play.tell(on.PeerFound, peer="peer-me", addresses=("/me",), how="mdns") == []
    assert play.connect("peer-me") == []
