"""One split in one round: every adapter is run on each of its windows once at most, and on no more than are asked for.

Windows lie in blocks of a fixed random choice (`scoring.evaluate.in_blocks`). In which order they are looked at is
drawn anew for each round, so that no few windows decide for ever; the same round gives the same order when it is run
again. A loss over all windows is the same to the bit whatever was looked at first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.model.adapter import Adapter
from p2pfinetune.scoring import sequential
from p2pfinetune.scoring.evaluate import Block, Evaluation, Measure
from p2pfinetune.scoring.paired import Losses, token_mean

Run = Callable[[Adapter, Measure], Evaluation]
SEED = 20251129  # any constant, with the turn: in which order blocks are looked at


@dataclass(slots=True, eq=False)
class _Known:
    adapter: Adapter
    """Held, so that its identity is not used again."""
    losses_w: Losses
    blocks: set[int] = field(default_factory=set)


class GuardLooks:
    """Of one split and round."""

    def __init__(self, measure: Measure, blocks: Sequence[Block], run: Run, turn: int) -> None:
        """`turn`: a number of this round, by which the order of the blocks is drawn."""
        self._measure, self._blocks, self._run = measure, blocks, run
        self._order = np.random.default_rng([SEED, turn]).permutation(len(blocks)).tolist()
        self._known: dict[int, _Known] = {}
        self.planned = tuple(sequential.looks([len(blocks[i].windows_w) for i in self._order]))
        """After how many blocks there is a look; nothing where all is measured at once."""

    @property
    def tokens(self) -> int:
        """Of the whole split."""
        return self._measure.tokens

    @property
    def blocks(self) -> int:
        """Of which a look at everything is made."""
        return len(self._blocks)

    def pair(self, one: Adapter, other: Adapter, blocks: int) -> tuple[Losses, Losses, NDArray[np.int64]]:
        """Losses of both on the windows of the first blocks of this round, and their tokens."""
        first, second = (self._upto(adapter, blocks) for adapter in (one, other))
        seen = self._windows(set(self._order[:blocks]))
        return first.losses_w[seen], second.losses_w[seen], self._measure.per_window_tokens[seen]

    def whole(self, adapter: Adapter) -> Evaluation:
        """Over all windows."""
        return self._of(self._upto(adapter, len(self._blocks)), np.arange(len(self._measure.per_window_tokens)))

    def is_whole(self, adapter: Adapter) -> bool:
        """Whether that would cost nothing."""
        known = self._known.get(id(adapter))
        return known is not None and len(known.blocks) == len(self._blocks)

    def seen(self, adapter: Adapter) -> tuple[Evaluation, NDArray[np.int64]]:
        """Over the windows on which it was run so far, and which these are."""
        known = self._known[id(adapter)]
        windows = self._windows(known.blocks)
        return self._of(known, windows), windows

    def both(self, one: Adapter, other: Adapter) -> tuple[Evaluation, Evaluation]:
        """Over the windows on which both were run already."""
        first, second = self._known[id(one)], self._known[id(other)]
        seen = self._windows(first.blocks & second.blocks)
        return self._of(first, seen), self._of(second, seen)

    def _of(self, known: _Known, seen: NDArray[np.int64]) -> Evaluation:
        losses, tokens = known.losses_w[seen], self._measure.per_window_tokens[seen]
        documents = self._measure.per_window_document[seen]
        return Evaluation(token_mean(losses, tokens), int(tokens.sum()), losses, tokens, documents)

    def _windows(self, blocks: set[int]) -> NDArray[np.int64]:
        return np.sort(np.concatenate([self._blocks[i].windows_w for i in sorted(blocks)]))

    def _upto(self, adapter: Adapter, blocks: int) -> _Known:
        known = self._known.setdefault(id(adapter), _Known(adapter, np.zeros(len(self._measure.per_window_tokens))))
        for i in self._order[:blocks]:
            if i not in known.blocks:
                block = self._blocks[i]
                known.losses_w[block.windows_w] = self._run(adapter, block.measure).per_window
                known.blocks.add(i)
        return known
