"""What attackers publish, and that honest peers train on as they would without them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from p2pfinetune.errors import OptionError
from p2pfinetune.names import PeerId
from p2pfinetune.simulation import run as running
from p2pfinetune.simulation.attacks import KINDS, STRENGTH, Attack, corrupted, is_attacker, with_attackers
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.run import population_of, simulate
from p2pfinetune.simulation.timetable import Timing

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
        ("inner-product", 0.5, [-1.0, -1.0, 0.0]),
        ("little-is-enough", 1.0, [1.0, 2.0, 0.0]),
        ("mimic", 0.0, [1.0, 2.0, 0.0]),
        ("garbage", 0.0, [1.0, 1.0, 1.0]),
        ("replay", 0.0, [9.0, 9.0, 9.0]),
        ("sybil", 1.0, [-1.0, 0.0, 0.0]),
    ],
)
def test_what_is_published(kind: str, strength: float, expected: list[float]) -> None:
    assert lie(kind, strength)[LIAR].tolist() == pytest.approx(expected)


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


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_honest_peers_survive_every_attack(config: Callable[..., SimulationConfig], tmp_path: Path, kind: str) -> None:
    chosen = config(attack=Attack(kind=kind, attackers=2), trust="prediction-similarity", guarded=True)

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

    def interrupt(progress: running.Progress) -> None:
        if progress.visits >= 15:
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate(chosen, tmp_path / "again", on_progress=interrupt)

    assert metrics(simulate(chosen, tmp_path / "again")) == through
