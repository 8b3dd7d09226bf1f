"""How much of the exact validation row does one backward pass give? `python -m benchmarks.rows --data DIR`.

Peers of one of the paper's settings train for some rounds with `validation`; at every merge each peer also asks
`first-order` and `mixture` for a row on the same adapters. Printed for each round: Spearman's rank correlation of the
scores with the exact ones (mean over peers), the trust-split loss of the merge by each row, and what a row costs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.compare.plan import small
from p2pfinetune.merge import RULES
from p2pfinetune.model.adapter import attach
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.paper.populations import populate
from p2pfinetune.round.context import SplitContext
from p2pfinetune.scoring.evaluate import measure_of
from p2pfinetune.simulation.config import SettingText
from p2pfinetune.simulation.run import base_of
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers.adamw import AdamW
from p2pfinetune.trust import SCHEMES

COMPARED = ("validation", "first-order", "mixture")


@dataclass(frozen=True, slots=True)
class Found:
    """One scheme at one merge of one peer."""

    round: int
    peer: str
    scheme: str
    rank_correlation: float
    """Of the weights of the others with those of `validation`."""
    merged_loss: float
    """On the trust split, in nats a token."""
    seconds: float


def ranks(values: Sequence[float]) -> list[float]:
    """Places from 0; equal values share their mean place."""
    order = sorted(values)
    return [statistics.fmean(i for i, other in enumerate(order) if other == value) for value in values]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    """Spearman's; nan where all are equal."""
    a, b = ranks(one), ranks(other)
    if len(set(a)) == 1 or len(set(b)) == 1:
        return float("nan")
    return statistics.correlation(a, b)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--setting", default="languages")
    parser.add_argument("--rounds", type=int, default=4, help="merges")
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("rows.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options)
    print(f"{'round':>5}  {'scheme':<12}{'rank correlation':>18}{'loss of the merge':>19}{'seconds a row':>15}")
    for number in range(1, options.rounds + 1):
        for scheme in COMPARED:
            mine = [f for f in found if f.round == number and f.scheme == scheme]
            print(
                f"{number:>5}  {scheme:<12}{statistics.fmean(f.rank_correlation for f in mine):>18.2f}"
                f"{statistics.fmean(f.merged_loss for f in mine):>19.4f}"
                f"{statistics.median(f.seconds for f in mine):>15.2f}"
            )
    options.out.write_text(json.dumps([asdict(f) for f in found], indent=1), encoding="utf-8")


def measure(options: argparse.Namespace) -> list[Found]:
    """All peers at all merges."""
    setting = SettingText(name=options.setting, data=str(options.data))
    config = small(setting, options.model)
    base = base_of(options.model, "cpu")
    world = populate(setting.name, "specific", base=base, data=options.data, scale=setting.scale, seed=options.seed)
    adapted = attach(base, config.spec())
    stack = AdapterStack(adapted)
    learning = {peer: config.learner_options(peer).training for peer in world.peers}
    trainers = {peer: AdamW().trainer(adapted, world.texts[peer].train, learning[peer]) for peer in world.peers}
    rule = RULES.make("factor-mean")
    last: dict[tuple[PeerId, str], Mapping[PeerId, float]] = {}
    found: list[Found] = []
    train_together(list(trainers.values()), config.steps * config.warmup_rounds, stack=stack)
    for number in range(1, options.rounds + 1):
        train_together(list(trainers.values()), config.steps, stack=stack)
        adapters = {peer: trainer.adapter for peer, trainer in trainers.items()}
        for me in world.peers:
            split = world.texts[me].trust
            measure = measure_of(split, context=config.training.context, vocabulary=len(base.tokenizer))
            exact: TrustRow | None = None
            for scheme in COMPARED:
                begin = time.perf_counter()
                context = SplitContext(
                    adapted, base.device, measure, split, {}, last_row=last.get((me, scheme), {}), stack=stack
                )
                row = SCHEMES.make(scheme).row(me, adapters, context)
                seconds = time.perf_counter() - begin
                exact = exact or row
                others = [peer for peer in adapters if peer != me]
                alike = rank_correlation([row.weights[p] for p in others], [exact.weights[p] for p in others])
                merged = rule.merge(row, adapters, adapters[me])
                found.append(Found(number, me, scheme, alike, context.loss(merged), seconds))
                last[me, scheme] = row.weights
            trainers[me].set_adapter(rule.merge(exact or row, adapters, adapters[me]))
        print(f"round {number} of {options.rounds}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
