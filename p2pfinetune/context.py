"""What a trust scheme may ask, answered with the live model on the own trust split. Every answer is computed once.

Shapes: p positions, v entries of the vocabulary, c reference contexts, t tokens of each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from p2pfinetune.adapter import AdaptedModel, Adapter, write
from p2pfinetune.compute import measuring_precision, next_token_logits, rows_at_once, without_dropout
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.evaluate import PADDING, POSITIONS, Evaluation, Measure, evaluate
from p2pfinetune.names import PeerId

REFERENCE_LENGTH = 64  # tokens of a context: enough to know what kind of text it is, and several fit a small split
LAST_CONTEXTS = 200  # the paper's 4 batches of 50 sequences
CONTEXTS = 64  # with POSITIONS_EACH about as many positions as 200 contexts give, for a third of the work
POSITIONS_EACH = 8
MAX_REFERENCE_LOGITS = 1 << 25  # entries held of one adapter: 128 MB in fp32


def reference_contexts(split: TokenSplit, count: int, length: int) -> Tensor:
    """(c, t) token ids, evenly spread over the concatenated split and not overlapping; fewer where it is short."""
    length = min(length, len(split.tokens))
    blocks = len(split.tokens) // length
    chosen = np.unique(np.linspace(0, blocks - 1, min(count, blocks)).astype(np.int64))
    return torch.from_numpy(np.stack([split.tokens[i * length : (i + 1) * length] for i in chosen]).astype(np.int64))


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
    last_row: Mapping[PeerId, float] = field(default_factory=dict)
    _evaluations: dict[int, tuple[Adapter, Evaluation]] = field(default_factory=dict)

    @property
    def initial(self) -> Adapter:
        """The seeded adapter."""
        return self.adapted.initial

    def evaluation(self, adapter: Adapter) -> Evaluation:
        """Of this very object, measured at most once."""
        known = self._evaluations.get(id(adapter))
        if known is None:
            write(self.adapted, adapter)
            known = (adapter, evaluate(self.adapted.model, self.measure, self.device))
            self._evaluations[id(adapter)] = known  # holding the adapter keeps its id from being used again
            self.on_measured()
        return known[1]

    def loss(self, adapter: Adapter) -> float:
        """Mean cross-entropy in nats a token."""
        return self.evaluation(adapter).loss

    def logits(self, adapter: Adapter, *, last_only: bool = False) -> Tensor:
        """(p, v) on the CPU, fp32."""
        vocabulary = int(self.adapted.model.config.get_text_config().vocab_size)
        each = 1 if last_only else POSITIONS_EACH
        most = max(1, MAX_REFERENCE_LOGITS // (vocabulary * each))
        count = min(LAST_CONTEXTS if last_only else CONTEXTS, most)
        contexts_ct = reference_contexts(self.reference, count, REFERENCE_LENGTH)
        length = contexts_ct.shape[1]
        places = [length - 1] if last_only else sorted({length - 1 - i * length // each for i in range(each)})
        write(self.adapted, adapter)
        rows = min(max(1, POSITIONS // length), rows_at_once(length, vocabulary))
        with torch.inference_mode(), without_dropout(self.adapted.model), measuring_precision(self.device):
            found = [
                next_token_logits(self.adapted.model, part.to(self.device), places).flatten(0, 1).float().cpu()
                for part in contexts_ct.split(rows)
            ]
        self.on_measured()
        return torch.cat(found)

    def gradient(self, adapter: Adapter) -> Adapter:
        """Of the mean loss over the trust split, dropout off."""
        write(self.adapted, adapter)
        model: Any = self.adapted.model
        parameters = self.adapted.parameters
        totals = {name: torch.zeros_like(parameter, device="cpu") for name, parameter in parameters.items()}
        with without_dropout(model):
            for batch in self.measure.batches:
                targets = batch.targets_bt.to(self.device).flatten()
                with measuring_precision(self.device):
                    logits = next_token_logits(model, batch.inputs_bt.to(self.device)).flatten(0, 1)
                loss = functional.cross_entropy(logits.float(), targets, ignore_index=PADDING, reduction="sum")
                for name, part in zip(totals, torch.autograd.grad(loss, list(parameters.values())), strict=True):
                    totals[name] += part.cpu()
        self.on_measured()
        return Adapter({name: total / self.measure.tokens for name, total in totals.items()})
