"""Gradients compared in a whole network, in virtual time: whoever loses, delays or kills, rounds go on as without."""

from __future__ import annotations

from typing import Any


def test_comparing_gradients_costs_no_round_whatever_the_network_does_and_bans_nobody(world: Any) -> None:
    plain = world(1, 5, loss=0.2, fetch_loss=0.2).start().run(200.0)
    network = world(1, 5, loss=0.2, fetch_loss=0.2)
    network.pairing = 1.0
    network.start().run(100.0)
    victim = next(iter(network.peers.values()))
    network.crash(victim)
    network.run(200.0)

    rest = [peer for peer in network.peers.values() if peer is not victim]
    assert len(network.questions) > 10
    assert any(peer.node.products or peer.node.answering or peer.node.middles for peer in rest)
    for peer in rest:
        assert not peer.store.bans()
        assert peer.round >= plain.peers[peer.id].round - 3
