"""What networks do to peers, in virtual time: late and lost messages, partitions, outages, crowds, churn."""

from __future__ import annotations

import itertools
import statistics
from typing import Any

import pytest

from peerd.core import events as on
from peerd.core.limits import KNOCK_BURST, KNOCKS_A_SECOND, LONELY_DIAL_SECONDS, MAX_DIAL_BACKOFF_SECONDS, MAX_DIALS
from peerd.core.settings import Settings

AFTER_TIMEOUT_SECONDS = 5.0  # what a round may go on for once waiting is over
BOOTSTRAP_SECONDS = 150.0  # the longest pause of `discovery.bootstrap`, jitter included


def seeds(quick: int, slow: int) -> list[Any]:
    return [*range(quick), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(quick, slow))]


def everybody(network: Any) -> list[Any]:
    return list(network.peers.values())


def others(network: Any, peer: Any) -> set[str]:
    return network.peers.keys() - {peer.id}


def is_one_group(network: Any) -> bool:
    return all(peer.connections == others(network, peer) for peer in everybody(network))


def until(network: Any, is_so: Any, at_most: float) -> float:
    """Seconds until it is so; fails beyond `at_most`."""
    began = network.now
    while not is_so(network):
        assert network.now - began <= at_most, [(peer.id, sorted(peer.connections)) for peer in everybody(network)]
        network.run(network.now + 1.0)
    return network.now - began


def merges_with_everybody(network: Any, seconds: float = 60.0) -> bool:
    for peer in everybody(network):
        peer.merged.clear()
    network.run(network.now + seconds)
    return all(peer.merged == others(network, peer) for peer in everybody(network))


def longest_allowed(network: Any, peer: Any) -> float:
    return 1.1 * peer.train_seconds + network.settings.collect_seconds + AFTER_TIMEOUT_SECONDS + 1.0  # and publishing


# --- late, lost, twice, out of order --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        {"loss": 0.1},
        {"loss": 0.3},
        {"duplication": 0.5},
        {"delay_seconds": (0.01, 8.0)},  # so wide that it reorders
        {"fetch_loss": 0.3},
        {"loss": 0.3, "duplication": 0.3, "delay_seconds": (0.01, 5.0), "fetch_loss": 0.2},
    ],
    ids=["loss-10", "loss-30", "duplication", "reordering", "broken-transfers", "all-of-it"],
)
def test_loss_duplication_and_reordering_delay_nobody_and_keep_nobody_apart(world: Any, faults: Any) -> None:
    network = world(1, 6, **faults).start().run(300.0)

    for peer in everybody(network):
        assert peer.merged == others(network, peer)
        assert peer.longest_round <= longest_allowed(network, peer)
        assert peer.node.refused.get("replay", 0) + peer.node.refused.get("equivocation", 0) <= peer.round * 5
        assert not peer.store.bans()  # what the network does is nobody's fault


@pytest.mark.parametrize("late", [1.0, 2.0, 3.0, 4.0, 5.0])
def test_links_that_are_seconds_late_for_two_minutes_cost_updates_but_no_round(world: Any, late: float) -> None:
    network = world(2, 5).start().run(60.0)
    network.faults = type(network.faults)(one_way_seconds=(late - 0.5, late + 0.5))
    rounds = [peer.round for peer in everybody(network)]
    network.run(180.0)
    for peer, round_ in zip(everybody(network), rounds, strict=True):
        assert peer.longest_round <= longest_allowed(network, peer)
        assert peer.round >= round_ + 3
    network.faults = type(network.faults)()
    network.run(200.0)

    assert is_one_group(network)
    assert merges_with_everybody(network)


@pytest.mark.parametrize("seconds", [10.0, 60.0])
def test_a_network_that_pauses_goes_on_alone_and_then_together(world: Any, seconds: float) -> None:
    network = world(3, 5).start().run(60.0)
    network.pause(seconds)
    network.run(60.0 + seconds)
    network.run(network.now + 1.0)

    assert until(network, is_one_group, at_most=60.0) <= 60.0
    assert merges_with_everybody(network)
    for peer in everybody(network):
        assert peer.longest_round <= longest_allowed(network, peer)


# --- failing inside a round -----------------------------------------------------------------------------------------

PHASES = ("training", "publishing", "collecting", "merging", "serving")


def fail_in(network: Any, peer: Any, phase: str, fail: Any) -> None:
    """Once, in that phase of its third round or a later one; `serving`: while others fetch what it announced."""

    def watch(_: Any, event: on.AnyEvent) -> None:
        if peer.life != 1 or peer.frozen is not None or peer.round < 3:
            return
        moment = {
            "serving": isinstance(event, on.AnnouncementHeard) and event.announcement.peer == peer.id,
            "collecting": isinstance(event, on.Published),  # there may be nothing left to wait for
        }
        if moment.get(phase, peer.state == phase):
            network.later(0.0, lambda: fail(peer) if peer.life == 1 and peer.frozen is None else None)

    before = network.watch
    network.watch = lambda other, event: (before(other, event), watch(other, event))


@pytest.mark.parametrize(("one", "two"), [*itertools.product(PHASES, PHASES)])
def test_two_of_five_that_fail_inside_a_round_hold_the_others_up_for_the_timeout_and_no_more(
    world: Any, one: str, two: str
) -> None:
    network = world(4, 5)
    dies, hangs, *rest = everybody(network)
    fail_in(network, dies, one, network.crash)
    fail_in(network, hangs, two, network.freeze)
    network.start().run(200.0)

    assert dies.node is None
    assert hangs.frozen is not None
    for peer in rest:
        assert peer.longest_wait <= network.settings.collect_seconds + AFTER_TIMEOUT_SECONDS
        assert peer.round >= 6
        assert peer.merged >= {other.id for other in rest} - {peer.id}


def test_suspended_peers_take_part_again_when_they_go_on(world: Any) -> None:
    network = world(5, 5).start().run(60.0)
    for peer in everybody(network)[:2]:
        network.freeze(peer)
    network.run(120.0)
    assert all(not peer.connections for peer in everybody(network)[:2])
    for peer in everybody(network)[:2]:
        network.thaw(peer)

    until(network, is_one_group, at_most=MAX_DIAL_BACKOFF_SECONDS)
    assert merges_with_everybody(network)


# --- partitions and outages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(2, 8))
@pytest.mark.parametrize(
    "sides", [(3, 3), (1, 5), (2, 2, 2), (1, 1, 1, 1, 1, 1), (4, 2)], ids=lambda sides: "-".join(map(str, sides))
)
def test_every_partition_goes_on_in_its_parts_and_heals(world: Any, seed: int, sides: tuple[int, ...]) -> None:
    network = world(seed, 6).start().run(60.0)
    network.introduced = lambda _: []  # nobody helps
    ids = iter(network.dice.sample(list(network.peers), 6))
    parts = [list(itertools.islice(ids, size)) for size in sides]
    network.partition(*parts)
    rounds = {peer.id: peer.round for peer in everybody(network)}
    network.run(660.0)
    for peer in everybody(network):
        (part,) = [set(part) for part in parts if peer.id in part]
        assert peer.connections == part - {peer.id}
        assert peer.round >= rounds[peer.id] + 15
        assert peer.longest_round <= longest_allowed(network, peer)
    network.heal()

    assert until(network, is_one_group, at_most=MAX_DIAL_BACKOFF_SECONDS) <= MAX_DIAL_BACKOFF_SECONDS
    assert merges_with_everybody(network)
    assert all(peer.life == 1 for peer in everybody(network))


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_all_peers_gone_for_ten_minutes_are_found_again_within_two_without_a_restart(world: Any, seed: int) -> None:
    network = world(seed, 4).start().run(60.0)
    lonely, *rest = everybody(network)
    network.introduced = lambda _: []
    for peer in rest:
        network.crash(peer)
    rounds = lonely.round
    network.run(660.0)
    assert lonely.round >= rounds + 25
    assert not lonely.connections
    for peer in rest:
        network.boot(peer)

    until(network, is_one_group, at_most=2 * LONELY_DIAL_SECONDS)
    assert merges_with_everybody(network)
    assert lonely.life == 1


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_a_peer_whose_own_link_is_down_for_ten_minutes_is_back_within_two(world: Any, seed: int) -> None:
    network = world(seed, 5).start().run(60.0)
    network.introduced = lambda _: []
    lonely, *rest = everybody(network)
    network.partition([lonely.id], [peer.id for peer in rest])
    network.run(660.0)
    network.heal()

    until(network, is_one_group, at_most=2 * LONELY_DIAL_SECONDS)
    assert merges_with_everybody(network)


@pytest.mark.parametrize("seed", seeds(4, 30))
def test_two_whose_only_link_was_down_for_ten_minutes_meet_again_within_a_minute(world: Any, seed: int) -> None:
    network = world(seed, 2).start().run(60.0)
    network.introduced = lambda _: []
    one, other = network.peers
    network.partition([one], [other])
    network.run(660.0)
    network.heal()

    until(network, is_one_group, at_most=62.0)


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_peers_that_come_back_on_other_ports_are_found_again(world: Any, seed: int) -> None:
    network = world(seed, 4).start().run(60.0)
    steady, *movers = everybody(network)
    network.introduced = lambda _: []
    for peer in movers:
        network.crash(peer)
    network.run(660.0)
    for peer in movers:
        peer.address += "/moved"
        network.boot(peer)

    until(network, is_one_group, at_most=2 * LONELY_DIAL_SECONDS)
    assert merges_with_everybody(network)
    assert all(steady.node.neighbours[peer.id].addresses[0].endswith("/moved") for peer in movers)


def test_one_that_has_moved_and_cannot_dial_back_is_found_by_what_the_bootstrap_node_says(world: Any) -> None:
    network = world(9, 2).start().run(60.0)
    steady, mover = everybody(network)
    network.introduced = lambda _: []
    network.crash(mover)
    network.run(660.0)
    mover.address += "/moved"
    steady.address = "/sim/nowhere"  # nobody can dial it
    network.introduced = lambda peer: [mover] if peer is steady else []
    network.boot(mover)

    until(network, is_one_group, at_most=60.0 + LONELY_DIAL_SECONDS)  # it is asked once a minute here


# --- one group ------------------------------------------------------------------------------------------------------


class Rendezvous:
    """A bootstrap node: who has asked is told of to whoever asks later, a few at random."""

    def __init__(self, network: Any, sample: int) -> None:
        self.network, self.sample, self.is_up = network, sample, True
        self.registered: list[str] = []
        network.introduced = self.ask

    def ask(self, peer: Any) -> list[Any]:
        if not self.is_up:
            return []
        known = [id_ for id_ in self.registered if id_ != peer.id]
        if peer.id not in self.registered:
            self.registered.append(peer.id)
        return [self.network.peers[id_] for id_ in self.network.dice.sample(known, min(self.sample, len(known)))]


@pytest.mark.parametrize("seed", seeds(12, 100))
@pytest.mark.parametrize("sample", [1, 3])
def test_four_peers_form_one_group_in_whatever_order_they_join(world: Any, seed: int, sample: int) -> None:
    network = world(seed, 4)
    Rendezvous(network, sample)
    network.start(spread_seconds=network.dice.choice([0.0, 5.0, 120.0])).run(120.0)

    until(network, is_one_group, at_most=BOOTSTRAP_SECONDS)
    assert merges_with_everybody(network)


@pytest.mark.parametrize("seed", seeds(4, 30))
def test_two_pairs_that_know_only_one_another_become_one_group_when_the_bootstrap_node_comes_back(
    world: Any, seed: int
) -> None:
    network = world(seed, 4)
    node = Rendezvous(network, 1)
    ids = list(network.peers)
    network.start(ids[:2], 1.0).run(200.0)
    node.registered.clear()  # it died, and lost what it knew
    network.start(ids[2:], 1.0).run(400.0)
    node.is_up = False
    network.partition(ids[:2], ids[2:])  # should they have met after all
    network.run(1000.0)
    network.heal()
    node.registered.clear()
    node.is_up = True

    until(network, is_one_group, at_most=MAX_DIAL_BACKOFF_SECONDS)
    assert merges_with_everybody(network)


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_a_bootstrap_node_that_is_gone_at_the_start_brings_all_together_when_it_comes(world: Any, seed: int) -> None:
    network = world(seed, 4)
    node = Rendezvous(network, 3)
    node.is_up = False
    network.start(spread_seconds=30.0).run(300.0)
    assert all(peer.round >= 8 and not peer.connections for peer in everybody(network))
    node.is_up = True

    until(network, is_one_group, at_most=BOOTSTRAP_SECONDS)
    node.is_up = False
    assert merges_with_everybody(network)
    assert is_one_group(network)


@pytest.mark.parametrize("seed", seeds(4, 30))
def test_a_chain_of_introductions_is_enough_for_one_group(world: Any, seed: int) -> None:
    network = world(seed, 4)
    chain = dict(itertools.pairwise(network.peers))  # each is told of the next, as by --peer
    network.introduced = lambda peer: [network.peers[chain[peer.id]]] if peer.id in chain else []
    network.start(spread_seconds=60.0).run(60.0)

    until(network, is_one_group, at_most=BOOTSTRAP_SECONDS)
    assert merges_with_everybody(network)


# --- churn, restarts, crowds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(1, 8))
def test_churn_holds_nobody_up_and_breaks_no_invariant(world: Any, seed: int) -> None:
    settings = Settings(collect_seconds=10.0, max_neighbours=16)
    network = world(seed, 10, settings, loss=0.1, duplication=0.1, delay_seconds=(0.01, 2.0), fetch_loss=0.1)
    network.start()
    steady, restless = everybody(network)[:4], everybody(network)[4:]

    def come_and_go() -> None:
        peer = network.dice.choice(restless)
        if peer.node is None:
            network.boot(peer)
        elif network.dice.random() < 0.5:
            network.crash(peer)
        else:
            network.kill_worker(peer)
        network.later(network.dice.uniform(2.0, 12.0), come_and_go)

    network.later(30.0, come_and_go)
    network.later(100.0, lambda: network.add("peer-late"))
    network.run(400.0)  # the invariants are checked after every step of everybody

    for peer in steady:
        assert peer.longest_round <= longest_allowed(network, peer)
        assert {other.id for other in steady} - {peer.id} <= peer.merged
        assert peer.round >= 8
    assert max(peer.life for peer in restless) >= 4


def test_a_flash_of_restarts_ends_in_one_network_without_a_storm_of_dials(world: Any) -> None:
    network = world(6, 20, Settings(collect_seconds=10.0, max_neighbours=20)).start().run(60.0)
    dials = []
    dial, network.dial = network.dial, lambda peer, effect: (dials.append(network.now), dial(peer, effect))
    for peer in everybody(network):
        network.later(network.dice.uniform(0.0, 5.0), lambda peer=peer: network.crash(peer))
        network.later(network.dice.uniform(5.0, 10.0), lambda peer=peer: network.boot(peer))
    network.run(75.0)

    until(network, is_one_group, at_most=60.0)
    assert merges_with_everybody(network)
    busiest = max(sum(second <= moment < second + 1 for moment in dials) for second in range(60, 140))
    assert busiest <= 20 * 4 * MAX_DIALS


def crowd(network: Any, size: int, serves: str) -> list[Any]:
    """Identities of one owner: they connect to everybody, announce at every chance and pass nothing on."""
    sybils = [network.add_puppet(f"sybil-{number:03d}") for number in range(size)]

    def act(sybil: Any, sequence: int) -> None:
        said = network.announcement(sybil.id, sequence)
        sybil.shelf.add(said.blob)
        for peer in everybody(network):
            if peer.node is not None:
                network.link(sybil, peer)
                network.feed(peer, on.AnnouncementHeard(at=network.now, announcement=said, via=sybil.id))
        network.later(network.dice.uniform(20.0, 30.0), lambda: act(sybil, sequence + 1))

    for sybil in sybils:
        sybil.serves = serves
        network.later(network.dice.uniform(0.0, 10.0), lambda sybil=sybil: act(sybil, 1))
    return sybils


@pytest.mark.parametrize(
    ("honest_peers", "serves"),
    [
        (10, "at once"),
        (10, "never ends"),
        (10, "corrupt"),
        *(
            pytest.param(20, serves, marks=pytest.mark.slow)
            for serves in ("at once", "never ends", "absent", "corrupt")
        ),
    ],
)
def test_a_crowd_of_four_sybils_for_each_honest_peer_captures_neither_partial_view_nor_table(
    world: Any, honest_peers: int, serves: str
) -> None:
    network = world(7, honest_peers, Settings(collect_seconds=10.0, max_neighbours=8))
    honest = everybody(network)
    for peer in honest:
        peer.trusts = lambda id_: not id_.startswith("sybil")  # as scores on the own text come out
    crowd(network, 4 * honest_peers, serves)
    network.later(15.0, lambda: network.start([peer.id for peer in honest]))  # the crowd was there first
    network.run(700.0)

    seats = [sum(not id_.startswith("sybil") for id_ in peer.node.partial_view) for peer in honest]
    links = [sum(not id_.startswith("sybil") for id_ in peer.connections) for peer in honest]
    for peer in honest:
        assert peer.longest_round <= longest_allowed(network, peer)
        assert {other.id for other in honest} - {peer.id} <= peer.node.neighbours.keys()
    assert min(seats) >= 4  # of 8
    assert statistics.median(seats) >= 5  # 5 to 6 by the draw
    assert min(links) >= 5


def test_a_crowd_that_was_connected_once_sends_nobody_knocking_and_hides_nobody_that_has_moved(world: Any) -> None:
    network = world(8, 5).start().run(60.0)
    honest = everybody(network)
    sybils, knocks = [network.add_puppet(f"sybil-{number:03d}") for number in range(40)], {}

    def announce(sybil: Any, sequence: int) -> None:
        victims = tuple(f"/ip4/192.0.2.{sequence % 250}/tcp/{port}" for port in range(1, 8))
        said = network.announcement(sybil.id, sequence, addresses=(honest[0].address, *victims))
        for peer in honest:
            if peer.node is not None:
                network.feed(peer, on.AnnouncementHeard(at=network.now, announcement=said, via=sybil.id))
        network.later(4.0, lambda: announce(sybil, sequence + 1))

    dial = network.dial

    def counted(peer: Any, effect: Any) -> None:
        began = knocks.setdefault(peer.id, [])
        began += [network.now for address in effect.addresses if address.startswith("/ip4/")]
        dial(peer, effect)

    network.dial = counted
    for sybil in sybils:
        for peer in honest:
            network.link(sybil, peer)
        for peer in honest:
            network.cut(sybil, peer)
        announce(sybil, 1)
    network.run(180.0)
    assert all(100 < len(knocks[peer.id]) <= KNOCK_BURST + 121 * KNOCKS_A_SECOND for peer in honest)

    mover, *rest = honest
    network.introduced = lambda _: []
    network.crash(mover)
    network.run(300.0)
    mover.address += "/moved"
    network.boot(mover)
    began = network.now
    while not all(mover.id in peer.connections for peer in rest):
        assert network.now - began <= 2 * LONELY_DIAL_SECONDS
        network.run(network.now + 1.0)
