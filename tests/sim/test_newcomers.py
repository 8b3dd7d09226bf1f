"""Newcomers in virtual time: nobody waits for ever, whatever fails, and each home assembles once."""

from __future__ import annotations

from typing import Any

from peerd.core.settings import Settings


def test_newcomers_among_one_another_train_and_one_who_comes_later_assembles_once_through_crashes(world: Any) -> None:
    settings = Settings(collect_seconds=10.0, max_neighbours=8, assemble=True, assemble_seconds=20.0)
    network = world(0, 4, settings, loss=0.2, delay_seconds=(0.01, 2.0), fetch_loss=0.1).start()
    first = list(network.peers.values())
    network.run(200.0)
    late = network.add("peer-late")
    network.later(4.0, lambda: network.kill_worker(late))
    network.later(8.0, lambda: network.crash(late))
    network.later(12.0, lambda: network.boot(late))
    network.run(260.0)
    network.crash(late)
    network.boot(late)
    network.run(400.0)

    assert all(peer.round > 2 and peer.assembled == [] for peer in first)
    assert set(late.assembled[-1]) <= {peer.id for peer in first}
    assert [record.round for record in late.store.rounds()][:3] == [0, 1, 2]
    assert sum(record.round == 0 for record in late.store.rounds()) == 1
    assert late.merged
