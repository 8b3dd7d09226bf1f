"""What a trust scheme may ask, answered with the live model on the own trust split. Every answer is computed once.

A scheme sees the world through this and nothing else: it cannot reach the guard split, another peer's text or the
clock. Answers are remembered by the identity of an adapter, which is safe because adapters are frozen and the context,
which lives for one round, holds on to each; what the round ends with is often one that was measured for the row
already.

Shapes: p positions, v entries of the vocabulary, c reference contexts, t tokens of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from p2pfinetune.batched.gradient import gradient_of, gradients_of
from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack, row_of
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter, FactorSet
from p2pfinetune.model.compute import measuring_precision, rows_at_once
from p2pfinetune.names import PeerId
from p2pfinetune.round.update import moved
from p2pfinetune.scoring.evaluate import POSITIONS, Block, Evaluation, Measure, divided
from p2pfinetune.trust import NOTHING, SchemeState

REFERENCE_LENGTH = 64  # tokens of a context: enough to know what kind of text it is, and several fit a small split
LAST_CONTEXTS = 200  # the paper's 4 batches of 50 sequences
CONTEXTS = 16  # with POSITIONS_EACH as many positions as 64 contexts of 8, for a quarter of the work (ADR 0041)
POSITIONS_EACH = 32
MAX_REFERENCE_LOGITS = 1 << 25  # entries held of one adapter: 128 MB in fp32


def reference_contexts(split: TokenSplit, count: int, length: int) -> Tensor:
    """(c, t) token ids, evenly spread over the concatenated split and not overlapping; fewer if it is short.

    Each behind the split's front, which is not counted in `length`.
    """
    length = min(length, len(split.tokens))
    blocks = len(split.tokens) // length
    chosen = np.unique(np.linspace(0, blocks - 1, min(count, blocks)).astype(np.int64))
    found = [[*split.front, *split.tokens[i * length : (i + 1) * length].tolist()] for i in chosen]
    return torch.tensor(found, dtype=torch.int64)


@dataclass(eq=False)
class SplitContext:
    """A `TrustContext` over one trust split and one live model, for one round."""

    adapted: AdaptedModel
    device: torch.device
    measure: Measure
    reference: TokenSplit
    """Where prediction similarity takes its contexts from: the trust split, or a public text."""
    shares: Mapping[PeerId, tuple[float, ...]]
    on_measured: Callable[[], None] = lambda: None
    """Called after each adapter that was run."""
    few: Block | None = None
    """The part of the measure that is enough for a glance; without it all of it."""
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    kept: SchemeState = NOTHING
    """What the scheme remembers of earlier rounds."""
    products: Mapping[PeerId, float] = field(default_factory=dict)
    """Agreements with neighbours that met me since the last round."""
    stack: AdapterStack | None = None
    """What several adapters are run on together; made when it is first needed."""
    _evaluations: dict[int, tuple[Adapter, Evaluation]] = field(default_factory=dict)
    _glances: dict[int, tuple[Adapter, Evaluation]] = field(default_factory=dict)
    _made: dict[tuple[int, str], tuple[Adapter, float]] = field(default_factory=dict)
    _divided: dict[int, list[Measure]] = field(default_factory=dict)
    _slopes: dict[int, tuple[Adapter, Adapter]] = field(default_factory=dict)

    @property
    def initial(self) -> Adapter:
        """The seeded adapter."""
        return self.adapted.initial

    def moved(self, adapter: Adapter) -> FactorSet:
        """How far what is shared of it has come from the seeded adapter."""
        whole = (
            self.adapted.start
        )  # that is heard of neighbours, and what is compared with it, if a rule takes any rank
        return moved(adapter, whole if adapter.schema == whole.schema else self.adapted.initial, self.adapted.spec)

    def evaluation(self, adapter: Adapter) -> Evaluation:
        """Of this very object, measured at most once."""
        self._measure([adapter])
        return self._evaluations[id(adapter)][1]

    def loss(self, adapter: Adapter) -> float:
        """Mean cross-entropy in nats a token."""
        return self.evaluation(adapter).loss

    def losses(self, adapters: Sequence[Adapter]) -> list[float]:
        """Of each, measured together."""
        self._measure(adapters)
        return [self._evaluations[id(adapter)][1].loss for adapter in adapters]

    def glances(self, adapters: Sequence[Adapter]) -> list[Evaluation]:
        """Of each on the same few windows; of what was measured as a whole already, a part of that."""
        if self.few is None or len(self.few.windows_w) == len(self.measure.per_window_tokens):
            self._measure(adapters)
            return [self._evaluations[id(adapter)][1] for adapter in adapters]
        known = {
            id(a): self._evaluations[id(a)][1].of(self.few.windows_w) for a in adapters if id(a) in self._evaluations
        }
        fresh = list({id(a): a for a in adapters if id(a) not in known and id(a) not in self._glances}.values())
        found = evaluate_together(self.adapted, fresh, self.few.measure, self.device, stack=self._stacked())
        for adapter, evaluation in zip(fresh, found, strict=True):
            self._glances[id(adapter)] = (adapter, evaluation)
            self.on_measured()
        return [known.get(id(adapter)) or self._glances[id(adapter)][1] for adapter in adapters]

    def once(self, adapter: Adapter, what: str, make: Callable[[], float]) -> float:
        """What `make` gives of this very object, asked for once in a round."""
        if (id(adapter), what) not in self._made:
            self._made[id(adapter), what] = (adapter, make())
        return self._made[id(adapter), what][1]

    def _measure(self, adapters: Sequence[Adapter]) -> None:
        fresh = list({id(a): a for a in adapters if id(a) not in self._evaluations}.values())
        found = evaluate_together(self.adapted, fresh, self.measure, self.device, stack=self._stacked())
        for adapter, evaluation in zip(fresh, found, strict=True):
            self._evaluations[id(adapter)] = (adapter, evaluation)  # holding it keeps its id from being used again
            self.on_measured()

    def _stacked(self) -> AdapterStack:
        if self.stack is None:
            self.stack = AdapterStack(self.adapted)
        return self.stack

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> Tensor:
        """(p, v) on the CPU, fp32."""
        vocabulary = int(self.adapted.model.config.get_text_config().vocab_size)
        most = max(1, MAX_REFERENCE_LOGITS // vocabulary)
        each = 1 if last_only else max(1, min(POSITIONS_EACH, most // CONTEXTS))
        count = min(LAST_CONTEXTS if last_only else CONTEXTS, max(1, most // each))
        contexts_ct = reference_contexts(self.reference, count, REFERENCE_LENGTH)
        length = contexts_ct.shape[1]
        text = length - len(self.reference.front)
        places = [length - 1] if last_only else sorted({length - 1 - i * text // each for i in range(each)})
        stack = self._stacked()
        rows = min(max(1, (self.adapted.positions or POSITIONS) // length), rows_at_once(length, vocabulary))
        with torch.inference_mode(), measuring_precision(self.device, self.adapted.precision):
            try:
                stack.use(row_of(adapter.schema, adapter.tensors).unsqueeze(0).to(self.device), schema=adapter.schema)
                found = [
                    stack.output.logits(stack.returned(part.to(self.device))[:, places].flatten(0, 1)).float().cpu()
                    for part in contexts_ct.split(rows)
                ]
            finally:
                stack.release()
        self.on_measured()
        return torch.cat(found) if len(found) > 1 else found[0]  # of a large vocabulary, once is enough

    def slopes(self, adapters: Sequence[Adapter]) -> list[Adapter]:
        """Of the mean loss over the trust split at each of these very objects, found at most once."""
        fresh = list({id(a): a for a in adapters if id(a) not in self._slopes}.values())
        for adapter, slope in zip(fresh, gradients_of(self._stacked(), fresh, self.measure), strict=True):
            self._slopes[id(adapter)] = (adapter, slope)
            self.on_measured()
        return [self._slopes[id(adapter)][1] for adapter in adapters]

    def gradients(self, adapter: Adapter, parts: int = 1) -> list[tuple[Adapter, int]]:
        """Of the mean loss over each part of the trust split, dropout off, and the tokens of the part."""
        if parts not in self._divided:
            self._divided[parts] = divided(self.measure, parts)
        found = [(gradient_of(self._stacked(), adapter, part), part.tokens) for part in self._divided[parts]]
        self.on_measured()
        return found
