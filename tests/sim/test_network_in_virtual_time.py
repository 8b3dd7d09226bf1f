"""Whole networks in virtual time: everybody makes progress, nobody waits too long, whatever fails."""

from __future__ import annotations

from typing import Any

import pytest

from peerd.core import events as on
from peerd.core.clocks import opinion
from peerd.core.limits import MAX_KNOWN_PEERS, MAX_SEEN
from peerd.core.settings import Settings

SLACK_SECONDS = 6.0  # publish, inspect, merge, and a tick to notice the deadline


def longest_allowed(network: Any, peer: Any) -> float:
    return 1.1 * peer.train_seconds + network.settings.collect_seconds + SLACK_SECONDS


def everybody(network: Any) -> list[Any]:
    return list(network.peers.values())


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_fifty_peers_make_progress_through_loss_duplication_reordering_and_crashes(world: Any, seed: int) -> None:
    network = world(seed, 50, loss=0.2, duplication=0.2, delay_seconds=(0.01, 4.0), fetch_loss=0.1).start()
    unlucky = everybody(network)[:10]
    for number, peer in enumerate(unlucky):
        network.later(30.0 + 5 * number, lambda peer=peer: network.crash(peer))
        network.later(42.0 + 5 * number, lambda peer=peer: network.boot(peer))
        network.later(95.0 + number, lambda peer=peer: network.kill_worker(peer))
    network.run(130.0)

    for peer in everybody(network):
        assert peer.round >= (2 if peer in unlucky else 4)
        assert peer.merged
    for peer in everybody(network)[10:]:
        assert peer.longest_round <= longest_allowed(network, peer)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 31))])
def test_after_any_trouble_everybody_merges_with_everybody_again(world: Any, seed: int) -> None:
    network = world(seed, 7, loss=0.3, duplication=0.3, delay_seconds=(0.01, 5.0), fetch_loss=0.2).start()
    for _ in range(25):
        network.later(network.dice.uniform(5.0, 200.0), lambda: trouble(network))
    network.run(220.0)
    network.heal()
    network.faults = type(network.faults)()
    for peer in everybody(network):
        if peer.node is None:
            network.boot(peer)
    network.run(600.0)  # the longest pause between two dials is some minutes
    for peer in everybody(network):
        peer.merged.clear()
    network.run(700.0)

    for peer in everybody(network):
        assert peer.merged == network.peers.keys() - {peer.id}
        recorded = [record.round for record in peer.store.rounds()]
        assert recorded == list(range(1, len(recorded) + 1))


def trouble(network: Any) -> None:
    """One of the things that happen to networks, by the world's dice."""
    peer = network.dice.choice(everybody(network))
    match network.dice.randrange(5):
        case 0 if peer.node is not None:
            network.crash(peer)
        case 1 if peer.node is None:
            network.boot(peer)
        case 2 if peer.node is not None:
            network.kill_worker(peer)
        case 3:
            ids = network.dice.sample(list(network.peers), len(network.peers))
            network.partition(ids[:3], ids[3:])
        case _:
            network.heal()


def test_the_same_seed_gives_the_same_run_to_the_event(world: Any) -> None:
    traces = {
        seed: [world(seed, 8, loss=0.3, duplication=0.3).start().run(90.0).trace.hexdigest() for _ in range(2)]
        for seed in (1, 2)
    }

    assert traces[1][0] == traces[1][1]
    assert traces[2][0] == traces[2][1]
    assert traces[1] != traces[2]


def test_everybody_merges_with_everybody_in_a_small_quiet_network(world: Any) -> None:
    network = world(0, 6).start().run(120.0)

    for peer in everybody(network):
        assert peer.merged == network.peers.keys() - {peer.id}


def test_a_peer_alone_trains_on_and_says_so_once(world: Any) -> None:
    network = world(0, 1).start().run(300.0)

    (peer,) = everybody(network)
    assert peer.round >= 10
    assert peer.longest_round <= 1.1 * peer.train_seconds + 3.0
    assert sum("training alone" in note for note in peer.notes) == 1


def test_a_late_joiner_gets_everybodys_update(world: Any) -> None:
    network = world(3, 6).start().run(100.0)
    late = network.add("peer-late")
    network.run(200.0)

    assert late.merged == network.peers.keys() - {late.id}
    assert all(late.id in peer.merged for peer in everybody(network) if peer is not late)


def test_a_late_joiner_gets_the_updates_of_peers_that_rest(world: Any) -> None:
    network = world(3, 5, Settings(rounds=3, collect_seconds=10.0)).start().run(200.0)
    assert {peer.state for peer in everybody(network)} == {"resting"}
    network.settings = Settings(rounds=6, collect_seconds=10.0)
    late = network.add("peer-late")
    network.run(400.0)

    assert late.merged == network.peers.keys() - {late.id}
    assert all(late.id in peer.merged for peer in everybody(network) if peer is not late)


def test_a_resting_network_falls_silent(world: Any) -> None:
    network = world(3, 5, Settings(rounds=3, collect_seconds=10.0)).start().run(200.0)
    rounds = [peer.round for peer in everybody(network)]
    network.run(600.0)

    assert [peer.round for peer in everybody(network)] == rounds


def test_two_dead_peers_of_five_delay_nobody_beyond_the_budget(world: Any) -> None:
    network = world(4, 5).start().run(60.0)
    dead = everybody(network)[:2]
    for peer in dead:
        network.unreachable.add(peer.id)
        network.crash(peer)
    living = everybody(network)[2:]
    before = [peer.round for peer in living]
    network.run(240.0)

    for peer, round_ in zip(living, before, strict=True):
        assert peer.longest_round <= longest_allowed(network, peer)
        assert peer.round - round_ >= 180.0 / longest_allowed(network, peer) - 1


def test_two_peers_that_connect_and_never_serve_delay_nobody_beyond_the_budget(world: Any) -> None:
    network = world(5, 5)
    stallers = everybody(network)[:2]
    for peer in stallers:
        peer.serves = "never ends"
    network.start().run(240.0)

    for peer in everybody(network)[2:]:
        assert peer.longest_round <= longest_allowed(network, peer)
        assert {other.id for other in everybody(network)[2:]} - {peer.id} <= peer.merged
        assert peer.round >= 6


def test_a_crowd_of_peers_that_never_serve_does_not_keep_the_others_apart(world: Any) -> None:
    network = world(5, 16, Settings(collect_seconds=10.0, max_neighbours=16))
    honest = everybody(network)[:4]
    for peer in everybody(network)[4:]:
        peer.serves = "never ends"
    network.start().run(300.0)
    for peer in honest:
        peer.merged.clear()
    rounds = [peer.round for peer in honest]
    network.run(500.0)

    for peer, round_ in zip(honest, rounds, strict=True):
        assert {other.id for other in honest} - {peer.id} <= peer.merged
        assert peer.round - round_ >= 6  # nobody waits any more for those that never deliver


def test_a_slow_trainer_does_not_hold_up_the_quick(world: Any) -> None:
    network = world(6, 5)
    everybody(network)[0].train_seconds = 300.0
    network.start().run(400.0)

    for peer in everybody(network)[1:]:
        assert peer.longest_round <= longest_allowed(network, peer)
        assert peer.round >= 10


def test_a_partition_goes_on_in_both_halves_and_heals(world: Any) -> None:
    network = world(7, 6).start().run(60.0)
    left, right = list(network.peers)[:3], list(network.peers)[3:]
    network.partition(left, right)
    before = {peer.id: peer.round for peer in everybody(network)}
    network.run(300.0)
    assert all(peer.round >= before[peer.id] + 5 for peer in everybody(network))
    assert all(network.peers[one].connections.isdisjoint(right) for one in left)
    network.heal()
    for peer in everybody(network):
        peer.merged.clear()
    network.run(660.0)  # the longest pause between two dials is some minutes

    for peer in everybody(network):
        assert peer.connections == network.peers.keys() - {peer.id}
        assert peer.merged == network.peers.keys() - {peer.id}


def test_after_ten_minutes_without_anybody_a_peer_rejoins_without_a_restart(world: Any) -> None:
    network = world(8, 4).start().run(60.0)
    lonely = everybody(network)[0]
    network.partition([lonely.id], [peer.id for peer in everybody(network)[1:]])
    network.run(660.0)
    assert not lonely.connections
    network.heal()
    lonely.merged.clear()
    network.run(660.0 + 500.0)

    assert lonely.merged == network.peers.keys() - {lonely.id}
    assert lonely.life == 1


def test_sequence_numbers_are_never_reused_however_often_peers_crash(world: Any) -> None:
    network = world(9, 5).start()
    for moment in range(12, 200, 13):
        peer = everybody(network)[moment % 5]
        network.later(float(moment), lambda peer=peer: network.crash(peer))
        network.later(moment + 4.0, lambda peer=peer: network.boot(peer))
    network.run(260.0)  # the simulator fails the run where a number comes twice

    assert all(peer.life >= 3 for peer in everybody(network))
    assert all(peer.round >= 3 for peer in everybody(network))


def test_a_crashed_peer_resumes_its_round_and_finds_the_others_from_memory(world: Any) -> None:
    network = world(10, 4).start().run(100.0)
    peer = everybody(network)[0]
    round_ = peer.round
    network.crash(peer)
    network.introduce = lambda *_: None  # no bootstrap node any more
    network.boot(peer)
    network.run(104.0)

    assert peer.round >= round_
    assert peer.connections


def test_workers_that_die_again_and_again_lose_no_round(world: Any) -> None:
    network = world(11, 4).start()
    for moment in range(10, 190, 31):
        for peer in everybody(network):
            network.later(float(moment), lambda peer=peer: network.kill_worker(peer))
    network.run(300.0)

    for peer in everybody(network):
        recorded = [record.round for record in peer.store.rounds()]
        assert recorded == list(range(1, len(recorded) + 1))
        assert len(recorded) >= 5


def test_garbage_updates_are_refused_counted_and_used_by_nobody(world: Any) -> None:
    network = world(12, 5)
    liar, *honest = everybody(network)
    liar.sends_garbage = True
    network.start().run(240.0)

    for peer in honest:
        assert liar.id not in peer.merged
        assert peer.store.refusals()[liar.id]["not-finite"] >= 1
        assert [ban.peer for ban in peer.store.bans()] in ([], [liar.id])
        assert peer.round >= 6
        assert peer.merged == {other.id for other in honest} - {peer.id}


def test_corrupt_blobs_are_counted_and_do_not_stop_anybody(world: Any) -> None:
    network = world(13, 5)
    spoiler, *honest = everybody(network)
    spoiler.serves = "corrupt"
    network.start().run(240.0)

    for peer in honest:
        assert peer.store.refusals()[spoiler.id]["corrupt"] >= 1
        assert {other.id for other in honest} - {peer.id} <= peer.merged
        assert peer.longest_round <= longest_allowed(network, peer)


def test_ten_thousand_fake_peers_neither_fill_the_memory_nor_stop_the_round(world: Any) -> None:
    network = world(14, 5).start().run(40.0)
    victim = everybody(network)[0]
    for number in range(10_000):
        fake = network.announcement(f"fake-{number:05d}", 1, network="b" * 64 if number % 3 == 0 else "a" * 64)
        said = on.AnnouncementHeard(at=0, announcement=fake, via=everybody(network)[1].id)
        network.later(
            number / 500, lambda said=said: network.feed(victim, on.msgspec.structs.replace(said, at=network.now))
        )
    victim.merged.clear()
    began = victim.round
    network.run(200.0)

    assert len(victim.node.neighbours) <= MAX_KNOWN_PEERS
    assert len(victim.node.seen) <= MAX_SEEN
    assert victim.node.dropped > 5_000
    assert sum(map(len, victim.store.refusals().values())) < 600
    assert {peer.id for peer in everybody(network)[1:]} == victim.merged
    assert victim.round >= began + 4


def test_a_flood_from_one_peer_is_cut_off_and_counted(world: Any) -> None:
    network = world(15, 4).start().run(40.0)
    victim, flooder = everybody(network)[:2]
    for number in range(5_000):
        said = on.AnnouncementHeard(at=0, announcement=network.announcement(flooder.id, 10 + number), via=flooder.id)
        network.later(
            number / 500, lambda said=said: network.feed(victim, on.msgspec.structs.replace(said, at=network.now))
        )
    steps = network.steps
    network.run(55.0)

    assert victim.node.refused["rate"] >= 20
    assert victim.node.refused["throttled"] >= 100  # then it is slowed down further
    assert [ban.peer for ban in victim.store.bans()] == [flooder.id]  # and then nothing of it is wanted
    assert sum(victim.store.refusals()[flooder.id].values()) < 200  # on disk
    assert network.steps - steps < 6_000


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_a_clock_that_jumps_by_an_hour_bans_nobody_and_rounds_go_on(world: Any, seconds: float) -> None:
    settings = Settings(collect_seconds=10.0, max_neighbours=8, staleness_seconds=100.0)
    network = world(16, 5, settings).start().run(120.0)
    jumper, *others = everybody(network)
    jumper.clock_ahead = seconds
    network.run(240.0)
    for peer in everybody(network):
        peer.merged.clear()
    before = {peer.id: peer.round for peer in everybody(network)}
    network.run(500.0)

    assert all(peer.round >= before[peer.id] + 5 for peer in everybody(network))
    assert all(peer.longest_round <= longest_allowed(network, peer) for peer in everybody(network))
    assert not jumper.merged  # alone
    assert not any(jumper.id in peer.merged for peer in others)
    assert all({other.id for other in others} - {peer.id} <= peer.merged for peer in others)
    said = opinion(jumper.node)
    assert (said.differ, said.asked, said.is_trusted) == (len(others), len(others), True)
    assert said.seconds == pytest.approx(seconds, abs=90.0)
    assert not any(opinion(peer.node) for peer in others)
    assert not any(peer.store.bans() for peer in everybody(network))


def test_a_clock_that_is_set_right_again_brings_everybody_back(world: Any) -> None:
    network = world(17, 4).start().run(100.0)
    jumper, *others = everybody(network)
    for number in range(40):  # and a clock that is set to and fro meanwhile
        ahead = 3600.0 if number % 2 == 0 else -3600.0
        network.later(5.0 * number, lambda ahead=ahead: setattr(jumper, "clock_ahead", ahead))
    network.later(200.0, lambda: setattr(jumper, "clock_ahead", 0.0))
    network.run(300.0)
    for peer in everybody(network):
        peer.merged.clear()
    network.run(420.0)

    assert {other.id for other in others} == jumper.merged
    assert all(jumper.id in peer.merged for peer in others)
    assert opinion(jumper.node) is None
    assert not any(peer.store.bans() for peer in everybody(network))


def test_a_home_that_was_restored_from_an_old_copy_is_heard_at_once_and_blamed_by_nobody(world: Any) -> None:
    network = world(18, 5).start().run(100.0)
    restored, *others = everybody(network)
    copy = restored.store.reopened()
    network.run(400.0)
    lost = restored.round
    network.crash(restored)
    restored.store = copy
    network.boot(restored)
    restored.merged.clear()
    for peer in others:
        peer.merged.clear()
    network.run(460.0)

    assert restored.round < lost - 5  # it goes on where the copy stood
    assert restored.merged == {peer.id for peer in others}
    for peer in others:
        assert restored.id in peer.merged
        assert not {"replay", "equivocation"} & peer.node.neighbours[restored.id].refused.keys()
        assert not peer.node.standings


def test_a_resting_peer_that_has_moved_announces_where_it_is_now(world: Any) -> None:
    network = world(19, 5, Settings(rounds=3, collect_seconds=10.0)).start().run(200.0)
    mover, *others = everybody(network)
    assert mover.state == "resting"
    network.introduced = lambda _: []
    network.crash(mover)
    network.run(260.0)
    mover.address += "/moved"
    network.boot(mover)
    network.run(330.0)

    assert all(peer.node.neighbours[mover.id].latest.addresses == (mover.address,) for peer in others)
    assert all(peer.node.neighbours[mover.id].addresses[0] == mover.address for peer in others)
    assert all(peer.node.neighbours[mover.id].admitted.digest == mover.node.own.blob for peer in others)


def test_a_peer_whose_address_changes_while_it_runs_announces_the_new_one_with_its_next_repetition(world: Any) -> None:
    network = world(20, 4, Settings(rounds=3, collect_seconds=10.0)).start().run(200.0)
    mover, *others = everybody(network)
    mover.address += "/moved"
    network.run(240.0)

    assert all(peer.node.neighbours[mover.id].addresses[0] == mover.address for peer in others)
    assert not any(peer.node.neighbours[mover.id].refused for peer in others)
