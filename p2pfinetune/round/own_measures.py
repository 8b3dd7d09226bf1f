"""What of the own text adapters are measured on: the windows of each split within its limit, and what is known of them.

Of one text; other text makes another. The guard split is run block by block (`looks`), by whoever asks, since numbers
depend on it to the last bit. Of the trust split a glance is enough for the second look and for what is told of it: its
first block, the same in every round, so that a series of such losses is one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.data.splits import Split
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.options import LearnerOptions
from p2pfinetune.round.looks import GuardLooks
from p2pfinetune.scoring.evaluate import Block, Evaluation, Measure, in_blocks

MeasureOf = Callable[[TokenSplit, int], Measure]


class OwnMeasures:
    """Of one learner and text."""

    def __init__(self, corpus: Corpus, stack: AdapterStack, options: LearnerOptions, measure_of: MeasureOf) -> None:
        self._corpus, self._stack, self._measure_of = corpus, stack, measure_of
        self._limits: dict[Split, int] = {"trust": options.trust_tokens, "guard": options.guard_tokens}
        self._measures: dict[Split, Measure] = {}
        self._began: tuple[Adapter, Evaluation] | None = None

    def measure(self, split: Split) -> Measure:
        """All windows within the limit."""
        if split not in self._measures:
            self._measures[split] = self._measure_of(self._corpus.split(split), self._limits.get(split, 0))
        return self._measures[split]

    def evaluate(self, split: Split, adapter: Adapter) -> Evaluation:
        """On all of these."""
        return self.looks(0).whole(adapter) if split == "guard" else self._run(adapter, self.measure(split))

    def looks(self, turn: int) -> GuardLooks:
        """At the guard split, in the order of this turn."""
        return GuardLooks(self.measure("guard"), self._guard_blocks, self._run, turn)

    @cached_property
    def base(self) -> Evaluation:
        """The base on the guard split."""
        return self.evaluate("guard", self._stack.adapted.initial)

    @cached_property
    def base_at_a_glance(self) -> Evaluation:
        """And on that part of the trust split."""
        return self._run(self._stack.adapted.initial, self.glance.measure)

    @cached_property
    def glance(self) -> Block:
        """The part of the trust split that is enough for a glance."""
        return in_blocks(self.measure("trust"))[0]

    def note_end(self, adapter: Adapter, on_guard: Evaluation) -> None:
        """What a round ended with, and the next one begins with."""
        self._began = adapter, on_guard

    def began(self, adapter: Adapter) -> Evaluation:
        """What the round began with, on the guard split; measured anew after a restart."""
        if self._began is None or self._began[0] is not adapter:
            self._began = adapter, self.evaluate("guard", adapter)
        return self._began[1]

    @cached_property
    def _guard_blocks(self) -> tuple[Block, ...]:
        return in_blocks(self.measure("guard"))

    def _run(self, adapter: Adapter, measure: Measure) -> Evaluation:
        stack = self._stack
        return evaluate_together(stack.adapted, [adapter], measure, stack.device, stack=stack)[0]
