"""What part of a default round is collaboration, and which part of it? `python -m benchmarks.collaboration`.

One peer with the defaults of `peerd start` (20 steps of 8 x 256 tokens, up to 4,096 tokens of trust split and 8,192 of
guard split, prediction similarity, second look) goes through rounds with some neighbours, half of them of its kind
of text (prose and Python of the installed packages). Neighbours train as many steps of smaller batches, so that
they differ as peers of one round do. Counted are processor seconds of this process alone, since machines that measure
are busy with other things: of the steps (the twin's in them, where one trains), and of each part of the collaboration,
whatever the parts are called by: what runs a model says on which split it is run, and the rest is merging, comparing
and bookkeeping. What the peer ends with on its guard and test split stands beside it, so that a round that measures
less is seen to decide as well. Seeds are other text and other orders.

    python -m benchmarks.collaboration --neighbours 3 16 --rounds 4 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from msgspec import structs

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.precision import PRECISIONS, Precision
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.paper.installed_text import documents_of
from p2pfinetune.round import context, own_measures
from p2pfinetune.round.context import SplitContext
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate
from peerd.config import Config
from peerd.demo.deal import pieces_of

KINDS = ("prose", "python")
TRAIN, TRUST, GUARD, TEST = 60_000, 4_200, 8_400, 8_192
OTHERS_BATCH = 4  # sequences of a neighbour's step
PARTS = ("steps", "row", "trust split", "guard split", "rest")


@dataclass(frozen=True, slots=True)
class Round:
    """Processor seconds of one round, and how it ended."""

    neighbours: int
    seed: int
    number: int
    seconds: dict[str, float]
    accepted: bool
    guard: float | None
    test: float

    @property
    def share(self) -> float:
        """Of the round that is not steps."""
        return 1.0 - self.seconds["steps"] / sum(self.seconds.values())


class Clock:
    """Seconds by part; of a part within another, the inner one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._open: list[str] = []
        self._since = time.process_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Inside, time goes to this part."""
        self._stop()
        self._open.append(name)
        try:
            yield
        finally:
            self._stop()
            self._open.pop()

    def _stop(self) -> None:
        now = time.process_time()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


def texts(base: Base, peers: int, seed: int) -> list[Corpus]:
    """For each, of the kinds in turn. Mine is nobody else's; neighbours have text in common once there is no more."""
    pieces = {kind: [p for one in documents_of(kind) for p in pieces_of(one.text)] for kind in KINDS}
    dice = np.random.default_rng(seed)
    left = {kind: deque(found[i] for i in dice.permutation(len(found))) for kind, found in pieces.items()}

    def split(kind: str, tokens: int, *, mine: bool) -> TokenSplit:
        documents: list[Any] = []
        while tokens > 0:
            documents.append(np.array(base.tokenizer(left[kind][0])["input_ids"], np.uint16))
            left[kind].popleft() if mine else left[kind].rotate(-1)
            tokens -= len(documents[-1])
        return TokenSplit.of(documents)

    def corpus(number: int) -> Corpus:
        kind, report = KINDS[number % len(KINDS)], None
        sizes = (TRAIN, TRUST, GUARD, TEST) if number == 0 else (TRAIN, 300, 300, 300)
        return Corpus(*(split(kind, size, mine=number == 0) for size in sizes), report=report, fingerprint="")  # type: ignore[arg-type]

    return [corpus(number) for number in range(peers)]


def learner(base: Base, corpus: Corpus, number: int, seed: int, *, twin: bool, alone: bool) -> Learner:
    """With the defaults of `peerd start`; a neighbour with smaller batches and without looks of its own."""
    options = LearnerOptions(
        spec=AdapterSpec(), training=TrainingOptions(seed=100 * seed + number), twin=twin and not alone
    )
    if alone:
        options = structs.replace(options, training=structs.replace(options.training, batch_size=OTHERS_BATCH))
    return Learner(base, corpus, options, me=PeerId(f"peer {number:02}"), group="benchmark")


def inputs_of(measure: Any) -> set[bytes]:
    """The rows that a measure runs, to tell whose they are."""
    return {row[row > 0].numpy().tobytes() for batch in measure.batches for row in batch.inputs_bt}


def watched(clock: Clock, name: Callable[..., str], act: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with its time on a part."""

    @wraps(act)
    def timed(*arguments: Any, **named: Any) -> Any:
        with clock.part(name(*arguments, **named)):
            return act(*arguments, **named)

    return timed


@contextmanager
def parts_watched(clock: Clock, me: Learner) -> Iterator[None]:
    """Whatever runs the model puts its time on its part."""

    def split_of(_adapted: Any, _adapters: Any, measure: Any, *_: Any, **__: Any) -> str:
        return "guard split" if inputs_of(measure) & guarded else "trust split"

    guarded = inputs_of(me.measure(me.split("guard")))

    def row(*_: Any, **__: Any) -> str:
        return "row"

    with (
        patch.object(SplitContext, "logits", watched(clock, row, SplitContext.logits)),
        patch.object(context, "evaluate_together", watched(clock, split_of, context.evaluate_together)),
        patch.object(own_measures, "evaluate_together", watched(clock, split_of, own_measures.evaluate_together)),
    ):
        yield


def measured(base: Base, neighbours: int, seed: int, rounds: int, *, twin: bool) -> Iterator[Round]:
    """Rounds of one peer, after the first, in which nobody merges."""
    steps = Config().steps_per_round
    corpora = texts(base, 1 + neighbours, seed)
    me = learner(base, corpora[0], 0, seed, twin=twin, alone=False)
    others = [learner(base, corpora[n], n, seed, twin=False, alone=True) for n in range(1, 1 + neighbours)]
    me.train(steps)
    for number in range(rounds):
        heard = {}
        for other in others:
            other.train(steps)
            admitted = me.admit(other.encode("bf16"), "bf16")
            assert isinstance(admitted, LoraUpdate)
            heard[other.me] = admitted
        clock = Clock()
        with clock.part("steps"):
            for _ in range(steps):  # one by one, as the worker does it
                me.train(1)
        with parts_watched(clock, me), clock.part("rest"):
            found = me.collaborate(heard)
        test = me.evaluate("test", "personal").loss
        yield Round(
            neighbours, seed, number, {part: clock.seconds[part] for part in PARTS}, found.accepted,
            found.figures.guard_personal, test,
        )  # fmt: skip


def line(neighbours: int, found: Sequence[Round]) -> str:
    """Means over rounds and seeds."""
    last = [one for one in found if one.number == max(other.number for other in found)]
    total = statistics.fmean(sum(one.seconds.values()) for one in found)
    shares = "".join(f"{statistics.fmean(o.seconds[part] for o in found) / total:13.1%}" for part in PARTS[1:])
    share = 1.0 - statistics.fmean(one.seconds["steps"] for one in found) / total
    guard, test = (statistics.fmean(getattr(one, name) for one in last) for name in ("guard", "test"))
    merges = sum(one.accepted for one in found)
    return f"{neighbours:10} {total:8.1f} {share:10.1%}{shares} {merges:4} of {len(found):<3} {guard:8.4f} {test:8.4f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collaboration", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--neighbours", type=int, nargs="+", default=[3, 16])
    parser.add_argument("--rounds", type=int, default=4, help="that are measured, after one without a merge")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 100 on")
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of training")
    parser.add_argument("--twin", action="store_true", help="a twin trains, too")
    parser.add_argument("--out", type=Path, default=Path("reports/collaboration.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(1)
    precision: Precision = given.precision
    base = load_base(given.model, device="cpu", precision=precision)
    print(
        "neighbours  seconds   of a round"
        + "".join(f"{part:>13}" for part in PARTS[1:])
        + "    merges    guard     test"
    )
    found: list[Round] = []
    for neighbours in given.neighbours:
        here: list[Round] = []
        for seed in range(100, 100 + given.seeds):
            for one in measured(base, neighbours, seed, given.rounds, twin=given.twin):
                here.append(one)
                print(f"{neighbours} neighbours, seed {seed}, round {one.number}: {one.share:.1%}", file=sys.stderr)
        print(line(neighbours, here), flush=True)
        found += here
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
