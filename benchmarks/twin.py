"""A round with a twin against one without, of the embedded base on this processor. `python -m benchmarks.twin`.

Two peers take turns in one process, so that whatever else the machine does meets both: the same text, batches and
neighbours, and every merge is kept. Before their first merge the twin is the own training; what is measured is after
it, when the two have parted. Some steps of a round are taken and stand for all of them. A ratio is the median of
those of neighbouring rounds, with their quartiles. The last column is what `--twin auto` measures before anything is
learnt, and what becomes of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import structs

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.twin_choice import worth_it
from p2pfinetune.round.twin_times import twin_times
from p2pfinetune.round.update import LoraUpdate


@dataclass(frozen=True, slots=True)
class Setting:
    """What a round is made of."""

    name: str
    steps: int
    sequences: int
    tokens: int
    trust_tokens: int
    guard_tokens: int
    neighbours: int


SETTINGS = (
    Setting("the demo's", 8, 4, 128, 1500, 2000, 5),
    Setting("default, 2 neighbours", 20, 8, 256, 4096, 8192, 2),
    Setting("short, 2 neighbours", 20, 1, 64, 4096, 8192, 2),
)
TIMED = 4  # steps of a round that are taken; the others take as long


@dataclass(frozen=True, slots=True)
class Timing:
    """One setting; seconds of a round, medians."""

    setting: str
    threads: int
    without: float
    with_twin: float
    ratio: float
    quartiles: tuple[float, float]
    auto: str


def text(vocabulary: int, setting: Setting) -> Corpus:
    """Random tokens: only their number matters here."""
    dice = np.random.default_rng(0)

    def split(tokens: int) -> TokenSplit:
        return TokenSplit.of([dice.integers(1, vocabulary, 400).astype(np.uint16) for _ in range(tokens // 400 + 1)])

    sizes = (20_000, setting.trust_tokens, setting.guard_tokens, 400)
    train, trust, guard, test = (split(size) for size in sizes)
    report: Any = None  # nothing was read
    return Corpus(train, trust, guard, test, report=report, fingerprint="")


def measured(base: Base, setting: Setting, repetitions: int, clock: Callable[[], float]) -> Timing:
    """Both by turns, after the round in which they part, which does not count."""
    options = LearnerOptions(
        spec=AdapterSpec(),
        training=TrainingOptions(batch_size=setting.sequences, context=setting.tokens),
        trust_tokens=setting.trust_tokens, guard_tokens=setting.guard_tokens, credit=99.0, tolerance=99.0,
    )  # fmt: skip
    corpus = text(int(base.model.config.vocab_size), setting)

    def learner(number: int, *, twin: bool = False) -> Learner:
        chosen = structs.replace(options, twin=twin, training=structs.replace(options.training, seed=number))
        return Learner(base, corpus, chosen, me=PeerId(f"peer {number}"), group="benchmark")

    plain, with_twin = learner(0), learner(0, twin=True)
    heard: dict[PeerId, LoraUpdate] = {}
    for number in range(1, setting.neighbours + 1):
        other = learner(number)
        other.train(1)
        admitted = plain.admit(other.encode("bf16"), "bf16")
        assert isinstance(admitted, LoraUpdate)
        heard[other.me] = admitted

    def round_seconds(one: Learner) -> float:
        start = clock()
        for _ in range(TIMED):  # one by one, as the worker does it
            one.train(1)
        trained = clock()
        one.collaborate(heard)
        return (trained - start) * setting.steps / TIMED + clock() - trained

    pairs = [(round_seconds(plain), round_seconds(with_twin)) for _ in range(1 + repetitions)][1:]
    assert len(with_twin.trainers) == 2, "no merge was kept, so nothing has parted"
    ratios = [two / one for one, two in pairs]
    low, _, high = statistics.quantiles(ratios, n=4)
    one, two = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    auto = worth_it(twin_times(base, corpus, options, setting.steps, clock))
    said = f"{'on' if auto.trains else 'off'}, {auto.why}"
    return Timing(setting.name, torch.get_num_threads(), one, two, statistics.median(ratios), (low, high), said)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.twin", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="nano")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy with other things")
    parser.add_argument("--out", type=Path, default=Path("reports/twin.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(given.threads)
    clock = time.process_time if given.cpu_time else time.perf_counter
    base = load_base(given.model, device=given.device)
    print(f"seconds of a round, {'CPU time' if given.cpu_time else 'wall clock'}, {given.repetitions} pairs")
    print("setting                  without  with twin  ratio  quartiles     --twin auto")
    timings = []
    for setting in SETTINGS:
        found = measured(base, setting, given.repetitions, clock)
        timings.append(found)
        quartiles = f"{found.quartiles[0]:.2f} to {found.quartiles[1]:.2f}"
        print(
            f"{found.setting:24} {found.without:7.2f} {found.with_twin:10.2f} {found.ratio:6.2f}  {quartiles}"
            f"  {found.auto}",
            flush=True,
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
