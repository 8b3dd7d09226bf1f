"""Whatever happened to a core of a simulated network is written down and runs again to the same state."""

from __future__ import annotations

from typing import Any

from peerd.core.events import AnyEvent
from peerd.core.settings import Settings
from peerd.daemon.recorder import Ring
from peerd.testing.replay import decoded, encoded, fingerprint, replayed


def test_every_core_of_a_troubled_network_runs_again_to_the_state_it_ended_in(world: Any) -> None:
    settings = Settings(collect_seconds=10.0, max_neighbours=2)
    network = world(3, 6, settings, loss=0.1, duplication=0.1, delay_seconds=(0.01, 2.0), fetch_loss=0.1)
    rings: dict[tuple[str, int], Ring] = {}

    def witness(peer: Any, event: AnyEvent) -> None:
        rings.setdefault((peer.id, peer.life), Ring(peer.node, "a test")).add(peer.node, event)

    network.witness = witness
    network.start()
    victim = min(network.peers.values(), key=lambda peer: peer.id)
    network.later(40.0, lambda: network.crash(victim))
    network.later(50.0, lambda: network.boot(victim))
    network.later(70.0, lambda: network.kill_worker(victim))
    network.run(150.0)

    for peer in network.peers.values():
        record = decoded(encoded(rings[peer.id, peer.life].record("a test")()))
        turns = list(replayed(record))
        assert fingerprint(turns[-1].node) == record.ended == fingerprint(peer.node)
        assert not any(turn.broken or turn.error for turn in turns)
    assert sum(ring.events for ring in rings.values()) > 500
