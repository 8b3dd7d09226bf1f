"""What a first adapter made of others' pieces is worth. `python -m benchmarks.assemble --data DIR --model NAME`.

All peers of a setting train alone, and then the gates of what they have. Each in turn is then the newcomer, and all
others its sharers, who have never heard of it: leave one out. Measured on its test split, in this order of effort:

    base        nothing                       uniform    the mean of all sharers' adapters
    random      a piece a layer by lot        single     the whole adapter of the sharer that is best on the trust split
    scores      Per-Pcs: one pass, top 1      of-kind    the mean of the sharers of its own kind: what nobody knows
    scores-3    the same, top 3               alone      trained for the processor time that `scores` and its guard took
    by-loss     each layer's piece measured   alone-N     N steps from the start; scores+N and so on, from there

`of kind` says which part of the chosen pieces is of sharers of the newcomer's own kind of text, beside what lot would
give. Perplexities are means over newcomers and seeds; `worst tenth` is that of the changes against `alone-N`, in
percent, of the largest N. Results lie in --out by seed and are not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.compare.plan import small
from p2pfinetune.data.population import Population
from p2pfinetune.merge.factor_mean import FactorMean
from p2pfinetune.model.adapter import Adapter, attach
from p2pfinetune.model.base import Base
from p2pfinetune.names import DEFAULT_ADAPTER, PeerId, TrustRow
from p2pfinetune.options.pieces import AssemblyOptions
from p2pfinetune.paper.populations import populate
from p2pfinetune.round.collaborate import layer_of
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.pieces import Assembly, Sharer, assemble, history_of, refined
from p2pfinetune.scoring.difference import worst_tenth
from p2pfinetune.simulation.config import SettingText, SimulationConfig
from p2pfinetune.simulation.run import base_of
from p2pfinetune.training.together import train_together

STEPS_AFTER = (5, 20, 100)
GONE_ON_FROM = ("scores", "by-loss", "single", "uniform")
DRAWS = 3  # of pieces by lot


def mean_of(adapters: Sequence[Adapter]) -> Adapter:
    """Of the factors."""
    peers = {PeerId(str(number)): adapter for number, adapter in enumerate(adapters)}
    return FactorMean().merge(TrustRow({peer: 1.0 / len(peers) for peer in peers}), peers, adapters[0])


def by_lot(adapters: Sequence[Adapter], paths: Sequence[str], dice: random.Random) -> Adapter:
    """Each layer of somebody."""
    return Adapter({n: t for path in paths for n, t in layer_of(dice.choice(adapters), path).tensors.items()})


class Study:
    """One seed of one setting."""

    def __init__(self, config: SimulationConfig, population: Population, base: Base) -> None:
        self.config, self.population, self.base = config, population, base
        self.adapted = attach(base, config.spec())
        self.stack = AdapterStack(self.adapted)
        self.sharers: dict[PeerId, Sharer] = {}

    def learner(self, peer: PeerId) -> Learner:
        """At the seeded start."""
        options = msgspec.structs.replace(self.config.learner_options(peer), twin=False)
        text = self.population.texts[peer]
        return Learner(self.base, text, options, me=peer, group="", adapted=self.adapted, stack=self.stack)

    def share(self) -> None:
        """Everybody trains alone, then its gates."""
        learners = [self.learner(peer) for peer in self.population.peers]
        trainers = [learner.trainers[DEFAULT_ADAPTER] for learner in learners]
        train_together(trainers, self.config.rounds * self.config.steps, stack=self.stack)
        for learner, trainer in zip(learners, trainers, strict=True):
            learner.pieces.train(trainer.adapter)
            state = learner.pieces.state
            assert state is not None
            self.sharers[learner.me] = Sharer(trainer.adapter, state.gates)

    def newcomer(self, me: PeerId, seed: int) -> dict[str, Any]:
        """All figures of one."""
        others = {peer: sharer for peer, sharer in self.sharers.items() if peer != me}
        text, learner = self.population.texts[me], self.learner(me)
        measures = {split: learner.measure(text.split(split)) for split in ("trust", "guard", "test")}

        def losses(adapters: Sequence[Adapter], split: str = "trust") -> list[float]:
            device = self.base.device
            found = evaluate_together(self.adapted, adapters, measures[split], device, stack=self.stack)
            return [one.loss for one in found]

        began = time.process_time()
        history = history_of(text.train, documents=50, context=learner.training.context, max_tokens=4096,
                             vocabulary=self.stack.vocabulary)  # fmt: skip
        scored = assemble(self.adapted, others, history, AssemblyOptions())
        losses([scored.adapter, self.adapted.initial], "guard")
        seconds = time.process_time() - began
        began = time.process_time()
        chosen = refined(scored, others, self.adapted.initial, losses)
        loss_seconds = time.process_time() - began
        three = assemble(self.adapted, others, history, AssemblyOptions(top_k=3))
        whole = [sharer.adapter for sharer in others.values()]
        on_trust = losses(whole)
        kin = [one.adapter for peer, one in others.items() if self._kind(peer) == self._kind(me)]
        dice, paths = random.Random(f"{seed} {me}"), list(scored.scores)
        models = {
            "base": self.adapted.initial,
            "scores": scored.adapter,
            "scores-3": three.adapter,
            "by-loss": chosen.adapter,
            "uniform": mean_of(whole),
            "single": whole[min(range(len(whole)), key=on_trust.__getitem__)],
            "of-kind": mean_of(kin) if kin else self.adapted.initial,
            **{f"random {i}": by_lot(whole, paths, dice) for i in range(DRAWS)},
        }
        steps = self._steps_in(me, seconds)
        models |= {"alone": self._trained(me, self.adapted.initial, [steps])[steps]}
        for name in ("base", *GONE_ON_FROM):
            for count, adapter in self._trained(me, models[name], STEPS_AFTER).items():
                models[f"{name}+{count}" if name != "base" else f"alone-{count}"] = adapter
        test = dict(zip(models, losses(list(models.values()), "test"), strict=True))
        test["random"] = statistics.fmean(test.pop(f"random {i}") for i in range(DRAWS))
        return {
            "peer": me, "loss": test, "seconds": seconds, "loss_seconds": loss_seconds, "steps": steps,
            "of_kind": self._of_kind(me, scored), "of_kind_by_loss": self._of_kind(me, chosen),
            "by_lot": len(kin) / len(others),
        }  # fmt: skip

    def _kind(self, peer: PeerId) -> tuple[float, ...]:
        return tuple(self.population.shares[peer])

    def _of_kind(self, me: PeerId, assembly: Assembly) -> float:
        row = assembly.row(me).weights
        return math.fsum(weight for peer, weight in row.items() if peer != me and self._kind(peer) == self._kind(me))

    def _trained(self, me: PeerId, start: Adapter, counts: Sequence[int]) -> dict[int, Adapter]:
        trainer = self.learner(me).trainers[DEFAULT_ADAPTER]
        trainer.set_adapter(start)
        found = {}
        for count in counts:
            trainer.run(count - trainer.steps)
            found[count] = trainer.adapter
        return found

    def _steps_in(self, me: PeerId, seconds: float) -> int:
        trainer = self.learner(me).trainers[DEFAULT_ADAPTER]
        trainer.run(2)
        began = time.process_time()
        trainer.run(5)
        return max(1, round(5 * seconds / (time.process_time() - began)))


def measured(arguments: argparse.Namespace, setting: str, seed: int) -> list[dict[str, Any]]:
    """From the file of an earlier run, or now."""
    name = f"{Path(arguments.model).name}-{setting}-{arguments.mix}-{arguments.gate_steps}-{arguments.gate_lr}-{seed}"
    file = arguments.out / f"{name}.json"
    if file.exists():
        found: list[dict[str, Any]] = json.loads(file.read_text())
        return found
    text = SettingText(name=setting, mix=arguments.mix, data=str(arguments.data), test_tokens=2000)
    config = msgspec.structs.replace(
        small(text, arguments.model), seed=seed, gate_steps=arguments.gate_steps, gate_lr=arguments.gate_lr
    )
    base = base_of(config.model, config.device)
    population = populate(
        text.name, text.mix, base=base, data=arguments.data, scale=text.scale, seed=seed, test_tokens=text.test_tokens
    )
    study = Study(config, population, base)
    study.share()
    found = [study.newcomer(peer, seed) for peer in population.peers]
    arguments.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found))
    return found


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Of one setting, over newcomers and seeds."""
    last = f"alone-{STEPS_AFTER[-1]}"
    lines = [f"| | perplexity | against base | better than base | against {last} | worst tenth of that |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for name in rows[0]["loss"]:
        losses = [row["loss"][name] for row in rows]
        base, alone = ([row["loss"][other] for row in rows] for other in ("base", last))
        gains = [loss - b for loss, b in zip(losses, base, strict=True)]
        late = [loss - b for loss, b in zip(losses, alone, strict=True)]
        lines.append(
            f"| {name} | {statistics.fmean(map(math.exp, losses)):.2f} | {_percent(statistics.fmean(gains))} | "
            f"{sum(gain < 0 for gain in gains)} of {len(gains)} | {_percent(statistics.fmean(late))} | "
            f"{_percent(worst_tenth(late))} |"
        )
    means = {key: statistics.fmean(row[key] for row in rows)
             for key in ("of_kind", "of_kind_by_loss", "by_lot", "seconds", "loss_seconds", "steps")}  # fmt: skip
    lines.append(
        f"\nOf kind: {means['of_kind']:.0%} by scores, {means['of_kind_by_loss']:.0%} by loss, {means['by_lot']:.0%} "
        f"by lot. Processor seconds: {means['seconds']:.2f} by scores, {means['loss_seconds']:.2f} more by loss; "
        f"training takes {means['steps']:.0f} steps in the first."
    )
    return "\n".join(lines)


def _percent(nats: float) -> str:
    return f"{100 * math.expm1(nats):+.1f} %"


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--settings", nargs="+", default=["languages", "code-wiki"])
    parser.add_argument("--mix", default="specific")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101, 102])
    parser.add_argument("--gate-steps", type=int, default=50)
    parser.add_argument("--gate-lr", type=float, default=2e-5)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    for setting in arguments.settings:
        rows = [row for seed in arguments.seeds for row in measured(arguments, setting, seed)]
        sys.stdout.write(f"\n{setting}, {arguments.mix}, {arguments.model}, {len(rows)} newcomers\n\n{table(rows)}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
