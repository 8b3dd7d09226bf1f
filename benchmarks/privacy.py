"""What private publishing costs and hides. `python -m benchmarks.privacy --data DIR --model nano`.

The six peers and three languages of `benchmarks.languages`. Each arm is a noise multiplier; `none` publishes as it is.
Reported: test loss of the personal model in nats a token, what it gains over `local`, merges that guards refused, the
norm of a published update, the epsilon of all rounds, and how well a neighbour tells text that was trained on from text
that was held out (area under the curve; 0.5 is a coin): it ranks windows by how much the published adapter lowers their
loss against the base. Arms differ in what is published alone.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import multiprocessing
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.languages import CODEC, Plan, corpora, learners
from p2pfinetune.names import PeerId, Refusal
from p2pfinetune.system import interpreter

if TYPE_CHECKING:
    from p2pfinetune.batched.stack import AdapterStack
    from p2pfinetune.data.corpus import Corpus
    from p2pfinetune.model.adapter import AdaptedModel
    from p2pfinetune.model.base import Base
    from p2pfinetune.round.update import LoraUpdate

DELTA = 1e-5


@dataclass(frozen=True, slots=True)
class Found:
    """One arm with one seed, means over the peers."""

    noise: float | None
    """None: nothing is clipped or noised; 0.0: `local`, nobody hears anybody."""
    seed: int
    loss: float
    refused: int
    merges: int
    norm: float
    """Of the updates published in the last round."""
    epsilon: float | None
    membership: float
    """Area under the curve of the attack on the last update."""


def run(plan: Plan, noise: float | None, clip: float, seed: int) -> Found:
    """All rounds of one arm."""
    import torch

    from p2pfinetune.batched.stack import AdapterStack
    from p2pfinetune.model.adapter import attach
    from p2pfinetune.model.base import load_base
    from p2pfinetune.options import AdapterSpec
    from p2pfinetune.round.privacy import epsilon, privatised
    from p2pfinetune.round.update import default_max_norm, inspect

    torch.set_num_threads(1)
    base = load_base(plan.model, device="cpu")
    adapted = attach(base, AdapterSpec())
    longest = default_max_norm(adapted.shared_schema)
    merges = refused = 0
    with tempfile.TemporaryDirectory() as scratch:
        texts = corpora(plan, base, seed, Path(scratch))
        peers = learners(plan, base, texts, plan.schemes[0], seed)
        hide = (lambda delta: privatised(delta, clip, noise)) if noise else None
        said: dict[PeerId, LoraUpdate] = {}
        for number in range(1, plan.rounds + 1):
            for learner in peers.values():
                learner.train(plan.steps)
            for peer, learner in peers.items():
                told = inspect(learner.encode(CODEC, hide), CODEC, adapted.schema, max_norm=math.inf)
                assert not isinstance(told, Refusal), told
                said[peer] = told
            is_merging = number > plan.warmup_rounds and noise != 0.0
            for learner in peers.values():
                fit = {other: update for other, update in said.items() if update.delta.norm() <= longest}
                done = learner.collaborate(fit if is_merging else {})  # which leaves out its own
                merges += is_merging and bool(fit)
                refused += not done.accepted
        stack = AdapterStack(adapted)
        areas = [membership(plan, base, adapted, stack, texts[peer], update) for peer, update in said.items()]
        return Found(
            noise=noise,
            seed=seed,
            loss=statistics.fmean(learner.evaluate("test", "personal").loss for learner in peers.values()),
            refused=refused,
            merges=merges,
            norm=statistics.fmean(update.delta.norm() for update in said.values()),
            epsilon=epsilon([(noise, plan.rounds)], DELTA) if noise else None,
            membership=statistics.fmean(areas),
        )


def membership(
    plan: Plan, base: Base, adapted: AdaptedModel, stack: AdapterStack, text: Corpus, update: LoraUpdate
) -> float:
    """Area under the curve of telling windows of the train split from those of the test split."""
    from p2pfinetune.batched.measuring import evaluate_together
    from p2pfinetune.scoring.evaluate import measure_of

    vocabulary = int(adapted.model.config.get_text_config().vocab_size)
    scores = []
    for split in (text.train, text.test):
        measure = measure_of(split, context=plan.context, vocabulary=vocabulary)
        both = [adapted.initial, update.adapter(adapted.initial)]
        before, after = evaluate_together(adapted, both, measure, base.device, stack=stack)
        scores.append(before.per_window - after.per_window)
    return area(*scores)


def area(members: np.ndarray, others: np.ndarray) -> float:
    """The chance that a member ranks above one that is none; ties count half."""
    above = members[:, None] > others[None, :]
    same = members[:, None] == others[None, :]
    return float(above.mean() + same.mean() / 2)


def main() -> None:
    """Parse the command line, run, print, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds wikineural/")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clip", type=float, default=8.0, help="about the norm of an update here")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0003, 0.003, 0.03, 1.0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("privacy.json"))
    given = parser.parse_args()
    plan = replace(Plan(data=given.data), model=given.model, rounds=given.rounds, schemes=("prediction-similarity",))
    arms = [0.0, None, *given.noise]
    tasks = [(noise, seed) for seed in range(given.seeds) for noise in arms]
    results = []
    interpreter.guard_children()
    with concurrent.futures.ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for future in [pool.submit(run, plan, noise, given.clip, seed) for noise, seed in tasks]:
            results.append(future.result())
            print(results[-1], file=sys.stderr, flush=True)
            given.out.write_text(json.dumps([asdict(found) for found in results], indent=1), encoding="utf-8")
    print("| noise | epsilon of all rounds | norm | test loss | gain over local | merges refused | membership, area |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    local = {found.seed: found.loss for found in results if found.noise == 0.0}
    for noise in arms:
        mine = [found for found in results if found.noise == noise]
        name = {None: "none", 0.0: "local: hears nobody"}.get(noise, f"{noise:g}")
        spent = mine[0].epsilon
        print(
            f"| {name} | {'-' if spent is None else f'{spent:,.0f}'} | {statistics.fmean(f.norm for f in mine):.1f} "
            f"| {spread([f.loss for f in mine])} | {spread([local[f.seed] - f.loss for f in mine])} "
            f"| {sum(f.refused for f in mine)} of {sum(f.merges for f in mine)} "
            f"| {spread([f.membership for f in mine])} |"
        )


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    return f"{statistics.fmean(values):.3f} ± {statistics.stdev(values) if len(values) > 1 else 0.0:.3f}"


if __name__ == "__main__":
    main()
