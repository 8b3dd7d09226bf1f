"""Peers of different rank in one simulated network."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from msgspec import structs

from p2pfinetune.names import Sharing
from p2pfinetune.round.update import LoraUpdate
from p2pfinetune.simulation.config import AdapterChoice, SimulationConfig
from p2pfinetune.simulation.run import base_for, population_of
from p2pfinetune.simulation.shard import Shard

RANKS = AdapterChoice(rank=2, alpha=4, own_ranks=(1, 2), sharing="a")


def test_weak_and_strong_peers_publish_alike_and_a_part_of_them_holds_what_it_holds_in_the_whole(
    config: Callable[..., SimulationConfig],
) -> None:
    chosen = config(adapter=RANKS, steps=1)
    population, base = population_of(chosen), base_for(chosen)
    places = {peer: place for place, peer in enumerate(population.peers)}
    mine = population.peers[1::2]
    texts = {peer: population.texts[peer] for peer in mine}

    whole = Shard(chosen, population, population.peers[:2], base)
    part = Shard(chosen, replace(population, texts=texts), mine[:1], base, places)

    whole.train(population.peers[:2])
    assert len({len(whole.publish(peer).blob) for peer in population.peers[:2]}) == 1
    assert [whole._learners[peer].options.spec.held_rank for peer in population.peers[:2]] == [1, 2]
    assert part._learners[mine[0]].options.spec.held_rank == 2


@pytest.mark.parametrize("sharing", ["sketch", "alternate"])
def test_peers_that_work_by_turns_and_who_attacks_them_write_what_is_read(
    config: Callable[..., SimulationConfig], sharing: Sharing
) -> None:
    chosen = config(adapter=structs.replace(RANKS, sharing=sharing, own_ranks=(1, 2) * (sharing == "sketch")), steps=1)
    population, base = population_of(chosen), base_for(chosen)
    one, two = population.peers[:2]
    shard = Shard(chosen, population, (one, two), base)

    shard.train((one, two))
    blobs = {peer: shard.publish(peer).blob for peer in (one, two)}
    lie = shard.encode(3.0 * shard.delta(one))

    assert (len(blobs[one]) < len(blobs[two])) == (sharing == "sketch")
    admitted = [shard._learners[one].admit(blob, chosen.codec) for blob in (*blobs.values(), lie.blob)]
    assert all(isinstance(found, LoraUpdate) for found in admitted)
