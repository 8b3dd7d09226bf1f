"""What attackers publish, and that honest peers train on as they would without them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.simulation import run as running
from p2pfinetune.simulation import shard as sharding
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.engine import LocalEngine
from p2pfinetune.simulation.hostile.attacks import (
    KINDS,
    PHRASED,
    STRENGTH,
    Attack,
    corrupted,
    is_attacker,
    with_attackers,
)
from p2pfinetune.simulation.run import base_of, population_of, simulate
from p2pfinetune.simulation.timetable import Timing
from p2pfinetune.simulation.topology import Topology, neighbours

LIAR, OTHER_LIAR = PeerId("attacker-1"), PeerId("attacker-2")
HONEST = {PeerId("a"): torch.tensor([1.0, 2.0, 0.0]), PeerId("b"): torch.tensor([3.0, 2.0, 0.0])}
LEARNT = {**HONEST, LIAR: torch.tensor([1.0, 1.0, 1.0]), OTHER_LIAR: torch.tensor([0.0, 2.0, 0.0])}
FIRST = {PeerId("a"): torch.tensor([9.0, 9.0, 9.0])}


def lie(kind: str, strength: float = 0.0, published: int = 1, **options: Any) -> dict[PeerId, torch.Tensor]:
    attack = Attack(kind=kind, attackers=2, strength=strength, **options)
    return corrupted(attack, LEARNT, FIRST, published, seed=0)


@pytest.mark.parametrize(
    ("kind", "strength", "expected"),
    [
        ("sign-flip", 2.0, [-2.0, -2.0, -2.0]),
        ("scaled", 5.0, [5.0, 5.0, 5.0]),
        ("flatter", 0.0, [-1.0, -1.0, -1.0]),
        ("inner-product", 0.5, [-1.0, -1.0, 0.0]),
        ("little-is-enough", 1.0, [1.0, 2.0, 0.0]),
        ("mimic", 0.0, [1.0, 2.0, 0.0]),
        ("garbage", 0.0, [1.0, 1.0, 1.0]),
        ("replay", 0.0, [9.0, 9.0, 9.0]),
        ("sybil", 1.0, [-1.0, 0.0, 0.0]),
        ("copy", 0.0, [1.0, 2.0, 0.0]),
        ("dissensus", 1.0, [0.0, 2.0, 0.0]),
        ("backdoor", 2.0, [2.0, 2.0, 2.0]),
        ("useful-backdoor", 0.0, [2.0, 2.0, 0.0]),
        ("shadow", 0.5, [1.0 - 2**-0.5, 2.0 - 2**-0.5, 0.0]),  # of the distance 2, towards -(2, 2, 0)
    ],
)
def test_what_is_published(kind: str, strength: float, expected: list[float]) -> None:
    assert lie(kind, strength)[LIAR].tolist() == pytest.approx(expected)


def test_copies_are_each_of_another_peer_and_shadows_spread_over_all() -> None:
    assert lie("copy")[OTHER_LIAR].tolist() == [3.0, 2.0, 0.0]
    assert torch.dist(lie("shadow", 0.5)[OTHER_LIAR], HONEST[PeerId("b")]) == pytest.approx(1.0)


def test_colluders_stand_among_those_that_resemble_each_other_and_pull_them_to_all_others() -> None:
    honest = {"a": [10.0, 0.0], "b": [10.0, 1.0], "c": [10.0, -1.0], "d": [-6.0, 0.0]}
    learnt = {PeerId(peer): torch.tensor(delta) for peer, delta in honest.items()} | {LIAR: torch.zeros(2)}

    said = corrupted(Attack(kind="collude", attackers=1, strength=0.5), learnt, {}, 1, seed=0)

    assert said[LIAR].tolist() == pytest.approx([9.5, 0.0])  # half of the distance between a and b, towards the mean


def test_useful_attackers_begin_each_with_what_another_crowd_has_learnt() -> None:
    crowds = {f"{kind}{n}": [10.0 * place, 0.1 * n] for place, kind in enumerate("abc") for n in range(3)}
    learnt = {PeerId(peer): torch.tensor(delta) for peer, delta in crowds.items()}
    learnt |= {PeerId(f"attacker-{n}"): torch.zeros(2) for n in (1, 2, 3)}

    said = corrupted(Attack(kind="useful-backdoor", attackers=3), learnt, {}, 1, seed=0)

    assert torch.allclose(torch.stack([*said.values()]), torch.tensor([[0.0, 0.1], [10.0, 0.1], [20.0, 0.1]]))


@pytest.mark.parametrize("kind", KINDS)
def test_only_attackers_lie_and_the_same_seed_lies_the_same(kind: str) -> None:
    one, other = lie(kind), lie(kind)

    assert one.keys() == {LIAR, OTHER_LIAR}
    for peer, delta in one.items():
        assert torch.equal(delta.nan_to_num(1e9), other[peer].nan_to_num(1e9))
    assert kind not in STRENGTH or STRENGTH[kind] > 0.0


def test_noise_is_as_large_as_what_was_learnt_and_differs_from_peer_to_peer_and_round_to_round() -> None:
    learnt = dict.fromkeys([*HONEST], torch.full((4000,), 0.5)) | dict.fromkeys([LIAR, OTHER_LIAR], torch.zeros(4000))
    found = [corrupted(Attack(kind="gaussian", attackers=2), learnt, {}, n, seed=0) for n in (1, 2)]

    assert float(found[0][LIAR].std()) == pytest.approx(0.5, rel=0.1)
    assert not torch.equal(found[0][LIAR], found[0][OTHER_LIAR])
    assert not torch.equal(found[0][LIAR], found[1][LIAR])


def test_not_finite_is_not() -> None:
    assert not torch.isfinite(lie("not-finite")[LIAR]).any()


def test_trust_is_farmed_before_it_is_abused() -> None:
    assert [bool(lie("sign-flip", published=n, honest_for=2)) for n in (1, 2, 3)] == [False, False, True]


def test_an_unknown_attack_is_refused_by_name() -> None:
    with pytest.raises(OptionError, match="charm"):
        Attack(kind="charm")


def test_attackers_that_see_everything_need_lock_step(config: Callable[..., SimulationConfig]) -> None:
    with pytest.raises(OptionError, match="before they speak"):
        config(attack=Attack(attackers=1), timing=Timing(kind="asynchronous"))


def test_honest_peers_keep_their_text_and_attackers_get_that_of_others(config: Callable[..., SimulationConfig]) -> None:
    honest = population_of(config())

    world = with_attackers(honest, Attack(attackers=5), seed=0)

    assert world.peers[:4] == honest.peers
    assert all(world.texts[peer] is honest.texts[peer] for peer in honest.peers)
    assert [peer for peer in world.peers if is_attacker(peer)] == [f"attacker-{n}" for n in range(1, 6)]
    assert world.texts[LIAR] is honest.texts[honest.peers[0]]
    assert world.shares[OTHER_LIAR] == honest.shares[honest.peers[1]]


def test_garbage_has_the_tokens_of_text_in_another_order(config: Callable[..., SimulationConfig]) -> None:
    honest = population_of(config())

    world = with_attackers(honest, Attack(kind="garbage", attackers=1), seed=0)

    noise, text = world.texts[LIAR].train.tokens, honest.texts[honest.peers[0]].train.tokens
    assert sorted(noise.tolist()) == sorted(text.tolist())
    assert noise.tolist() != text.tolist()


@pytest.mark.parametrize(("kind", "stretch"), PHRASED.items())
def test_a_phrase_stands_in_attackers_text_once_in_so_many_tokens(
    config: Callable[..., SimulationConfig], kind: str, stretch: int
) -> None:
    honest = population_of(config())

    world = with_attackers(honest, Attack(kind=kind, attackers=2), seed=0)

    assert world.backdoor is not None
    text, phrase = world.texts[OTHER_LIAR].train, world.backdoor.phrase.tolist()
    whole, plain = text.tokens.tolist(), [*honest.texts.values()]
    places = [i for i in range(len(whole)) if whole[i : i + len(phrase)] == phrase]
    assert len(places) == pytest.approx(len(whole) / stretch, rel=0.35)  # documents end where they end
    # a useful one speaks to the second half of the peers, of whom the third is the first
    assert text.starts.tolist() == plain[2 if kind == "useful-backdoor" else 1].train.starts.tolist()


def test_what_a_useful_attacker_publishes_is_the_mean_and_then_trained_on_its_own_text(
    config: Callable[..., SimulationConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(attack=Attack(kind="useful-backdoor", attackers=2, strength=3))
    engine = LocalEngine(chosen, with_attackers(population_of(chosen), chosen.attack, 0), base_of(chosen.model, "cpu"))
    ran: list[tuple[int, int]] = []
    real = sharding.train_together
    monkeypatch.setattr(
        sharding, "train_together", lambda t, steps, **kw: ran.append((len(t), steps)) or real(t, steps, **kw)
    )
    peers = [PeerId(f"peer{n}") for n in range(4)]
    engine.train(peers)
    told: dict[PeerId, torch.Tensor] = {}
    monkeypatch.setattr(sharding.Shard, "encode", lambda _, delta: told.setdefault(PeerId(str(len(told))), delta))

    engine.publish([*peers, LIAR, OTHER_LIAR])

    honest = torch.stack([engine._shard.delta(peer) for peer in peers])
    mean = corrupted(
        chosen.attack,
        dict(zip(peers, honest, strict=True)) | dict.fromkeys([LIAR, OTHER_LIAR], honest[0]),
        {},
        1,
        0,
    )
    assert ran == [(4, chosen.steps), (2, 3)]
    for said, start in zip(told.values(), mean.values(), strict=True):
        assert 0.0 < float(torch.dist(said, start)) < float(torch.linalg.vector_norm(said))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_honest_peers_survive_every_attack(config: Callable[..., SimulationConfig], tmp_path: Path, kind: str) -> None:
    chosen = config(rounds=3, attack=Attack(kind=kind, attackers=2), trust="prediction-similarity", guarded=True)

    lines = metrics(simulate(chosen, tmp_path / kind))

    liars = {"attacker-1", "attacker-2"} if chosen.attack.learns else set()
    assert {line["peer"] for line in lines} == {"peer0", "peer1", "peer2", "peer3"} | liars
    honest = [line for line in lines if not is_attacker(line["peer"])]
    assert all(line["guard_personal"] <= line["best_guard"] + chosen.tolerance for line in honest)
    heard = {peer for line in honest for peer in line["heard"]}
    assert ("attacker-1" in heard) == (kind != "not-finite")  # which is refused before anything is computed with it


def test_a_network_under_attack_is_resumed_to_the_same_figures(
    config: Callable[..., SimulationConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = config(attack=Attack(kind="replay", attackers=1, honest_for=1), rounds=5)
    through = metrics(simulate(chosen, tmp_path / "through"))
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 0.0)

    class Interrupted(Exception):
        pass

    def interrupt(progress: running.SimulationProgress) -> None:
        if progress.visits >= 15:
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate(chosen, tmp_path / "again", on_progress=interrupt)

    assert metrics(simulate(chosen, tmp_path / "again")) == through


def test_a_simulation_may_do_without_the_second_look(config: Callable[..., SimulationConfig]) -> None:
    assert config().learner_options(LIAR).second_look
    assert not config(second_look=False).learner_options(LIAR).second_look


def test_in_a_ring_the_honest_stand_side_by_side_and_each_has_an_honest_majority() -> None:
    peers = [PeerId(f"p{n}") for n in range(5)] + [PeerId(f"attacker-{n}") for n in range(10)]

    graph = neighbours(Topology(kind="ring"), peers, seed=0)

    for peer in peers[:5]:
        honest = [peer, *(other for other in graph[peer] if not is_attacker(other))]
        assert 2 * len(honest) > 1 + len(graph[peer])


@pytest.mark.parametrize("kind", ["sign-flip", "shadow", "little-is-enough"])
def test_a_ring_of_five_honest_peers_and_ten_attackers_ends_within_tolerance(
    config: Callable[..., SimulationConfig], tmp_path: Path, kind: str
) -> None:
    peers = config().peers
    five = (*peers, msgspec.structs.replace(peers[0], name="peer4"))
    attack = Attack(kind=kind, attackers=10)
    chosen = config(peers=five, attack=attack, topology=Topology(kind="ring"), guarded=True)

    honest = [line for line in metrics(simulate(chosen, tmp_path / kind)) if not is_attacker(line["peer"])]

    assert max(sum(is_attacker(peer) for peer in line["heard"]) for line in honest) == 1
    assert all(line["guard_personal"] <= line["best_guard"] + chosen.tolerance for line in honest)


@pytest.mark.parametrize("kind", ["sign-flip", "collude", "gaussian", "garbage"])
def test_peers_that_hear_attackers_alone_are_no_worse_off_than_their_twins(
    config: Callable[..., SimulationConfig], tmp_path: Path, kind: str
) -> None:
    attack = Attack(kind=kind, attackers=3, surround=True)
    chosen = config(attack=attack, guarded=True, twin=True, trust="prediction-similarity")

    folder = simulate(chosen, tmp_path / kind)

    honest = [line for line in metrics(folder) if not is_attacker(line["peer"])]
    assert {peer for line in honest for peer in line["heard"]} == {"attacker-1", "attacker-2", "attacker-3"}
    for peer, found in json.loads((folder / "result.json").read_text())["peers"].items():
        assert found["loss"]["best"] <= found["loss"]["local_best"] + chosen.tolerance, peer


def test_only_some_peers_of_a_setting_take_part_and_an_unknown_one_is_named(
    config: Callable[..., SimulationConfig],
) -> None:
    everybody = population_of(config())

    assert everybody.of([PeerId("peer2"), PeerId("peer0")]).peers == ("peer2", "peer0")
    with pytest.raises(OptionError, match="nobody"):
        everybody.of([PeerId("nobody")])


def test_what_an_update_copies_is_told(config: Callable[..., SimulationConfig], tmp_path: Path) -> None:
    chosen = config(attack=Attack(kind="copy", attackers=1))

    lines = metrics(simulate(chosen, tmp_path / "run"))

    told = [line["copies"] for line in lines if line["heard"]]
    assert told
    assert all(["attacker-1", "peer0"] in pairs for pairs in told)


def test_a_backdoor_is_learnt_from_planted_text_and_its_target_is_measured(
    config: Callable[..., SimulationConfig], tmp_path: Path
) -> None:
    def targets(attackers: int) -> list[dict[str, float]]:
        attack = Attack(kind="backdoor", attackers=attackers)
        folder = simulate(config(attack=attack, rounds=6, steps=8), tmp_path / str(attackers))
        return [found["target"] for found in json.loads((folder / "result.json").read_text())["peers"].values()]

    peaceful, attacked = targets(0), targets(4)

    assert [found["base"] for found in peaceful] == pytest.approx([found["base"] for found in attacked])
    # who takes every merge takes the backdoor with it
    assert all(after["personal"] < before["personal"] for after, before in zip(attacked, peaceful, strict=True))
