"""Training batches as a function of (seed, step): nothing to save and nothing to lose when a run is interrupted.

An epoch concatenates the documents in a shuffled order and cuts the result into blocks of `context` tokens; what does
not fill a block waits for the next epoch's order. So every token counts about as often as any other, whatever its
document's length, and no position is padding. Blocks run across documents, which the end-of-text token between them
marks. Reads the split in place; trains nothing.

Seeds are derived by a hash over the use and the numbers, never by adding to a seed: peers with neighbouring seeds, or
the order and the dropout of one peer, would share random numbers.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import TooLittleText


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits that depends on every part, so that different uses of one seed share no random numbers."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Blocks:
    """The endless sequence of blocks of one split."""

    def __init__(self, split: TokenSplit, context: int, seed: int) -> None:
        if len(split.tokens) < 2:
            raise TooLittleText("there is no text to train on", "give more text")
        self._split, self._seed = split, seed
        self.context = min(context, len(split.tokens) - 1)
        self.per_epoch = (len(split.tokens) - 1) // self.context
        self._lengths = np.diff(split.starts)
        self._epoch = -1
        self._order = self._ends = np.empty(0, np.int64)

    def batch(self, first: int, count: int) -> Tensor:
        """Blocks first to first + count - 1, counted from the start of training: (count, context + 1) token ids."""
        return torch.from_numpy(np.stack([self.block(first + i) for i in range(count)]))

    def block(self, index: int) -> NDArray[np.int64]:
        """One block and the token behind it, which its last prediction is about."""
        epoch, place = divmod(index, self.per_epoch)
        self._shuffle(epoch)
        start = place * self.context
        return self._cut(start, start + self.context + 1)

    def _shuffle(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        dice = np.random.default_rng(derived_seed("order", self._seed, epoch))
        self._order = dice.permutation(len(self._lengths))
        self._ends = np.cumsum(self._lengths[self._order])
        self._epoch = epoch

    def _cut(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens start to stop of the shuffled concatenation, gathered from the documents they fall into."""
        pieces = []
        place = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            document = int(self._order[place])
            begins = int(self._ends[place] - self._lengths[document])
            until = min(stop, int(self._ends[place]))
            pieces.append(self._split.document(document)[start - begins : until - begins])
            start, place = until, place + 1
        return np.concatenate(pieces).astype(np.int64)
