"""Training batches as a function of (seed, step): nothing to save and nothing to lose when a run is interrupted.

An epoch concatenates the documents in a shuffled order and cuts the result into blocks of `context` tokens; what does
not fill a block waits for the next epoch's order. So every token counts about as often as any other, whatever its
document's length, and no position is padding. Blocks run across documents, which the end-of-text token between them
marks.

Conversations are not cut so, since an answer that begins in one block and ends in another is learnt from half of its
question. Their stretches (`data.stretches`) stand whole in blocks of their own, as many as fit, and the rest of a block
is padding that nothing is predicted of. Which stand together is drawn once for all epochs, so that an epoch has equally
many blocks each time and the place of a block follows from its number; the order of blocks is drawn anew. If there is
other text beside them, its last block of an epoch is filled up too, so that notes shorter than the context are seen.

A front (`data.profile`) stands before every block and takes its tokens from it; nothing is predicted of it, and not
the block's first token from it, which is nobody's to predict without one either.

Reads the split in place; trains nothing. Seeds are derived by a hash over the use and the numbers, never by adding to a
seed: peers with neighbouring seeds, or the order and the dropout of one peer, would share random numbers.

Shapes: b blocks of a batch, t positions of a block.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.data.stretches import Stretch, stretches
from p2pfinetune.errors import TooLittleText

UNCOUNTED = -100  # a target that nothing is learnt from; what torch's cross-entropy leaves out by itself
FILLING = 0  # the token that fills a block: any, since nothing before it sees it and nothing is predicted of it


def derived_seed(*parts: int | str) -> int:
    """A seed of 63 bits that depends on every part, so that different uses of one seed share no random numbers."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, slots=True, eq=False)
class TrainingBatch:
    """Blocks of one step: what is read, and what is to be predicted at each position."""

    inputs_bt: Tensor
    targets_bt: Tensor
    """UNCOUNTED if nothing is learnt there."""
    tokens: int
    """Targets that are counted, at least one; the loss of the step is the mean over these."""


class Blocks:
    """The endless sequence of blocks of one split."""

    def __init__(self, split: TokenSplit, context: int, seed: int) -> None:
        if len(split.tokens) < 2:
            raise TooLittleText("there is no text to train on", "give more text")
        front = len(split.front)
        self.context = min(context, len(split.tokens) - 1 + front)
        text = self.context - front
        talks = [(i, marks) for i in range(split.documents) if (marks := split.marks(i)) is not None]
        others = np.setdiff1d(np.arange(split.documents), [i for i, _ in talks])
        pieces = [_moved(piece, int(split.starts[i])) for i, marks in talks for piece in stretches(marks, text)]
        self._split, self._seed = split, seed
        self._packs = packed(pieces, text + 1, seed)
        self._running = _Running(split, others, text, seed, is_filled_up=bool(talks))
        self.per_epoch = self._running.blocks + len(self._packs)
        self._is_mixed = bool(self._packs)
        self._epoch, self._places = -1, np.empty(0, np.int64)
        if not self.per_epoch:
            raise TooLittleText("there is no answer to train on", "give more text, or take --loss all")

    def batch(self, first: int, count: int) -> TrainingBatch:
        """Blocks first to first + count - 1, counted from the start of training."""
        blocks, targets = zip(*[self.block(first + i) for i in range(count)], strict=True)
        front = np.array([*self._split.front], np.int64)
        inputs_bt, targets_bt = before(front, np.stack(blocks)[:, :-1]), before(front, np.stack(targets), UNCOUNTED)
        counted = int(np.count_nonzero(targets_bt != UNCOUNTED))
        return TrainingBatch(torch.from_numpy(inputs_bt), torch.from_numpy(targets_bt), counted)

    def block(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One block and the token behind it, which its last prediction is about; and the targets."""
        epoch, place = divmod(index, self.per_epoch)
        if not self._is_mixed:
            return self._running.block(epoch, place)
        if epoch != self._epoch:
            self._epoch = epoch
            self._places = np.random.default_rng(derived_seed("places", self._seed, epoch)).permutation(self.per_epoch)
        place = int(self._places[place])
        if place < len(self._packs):
            return self._together(self._packs[place])
        return self._running.block(epoch, place - len(self._packs))

    def _together(self, pieces: Sequence[Stretch]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Stretches one behind the other, none of which predicts the first token of the next."""
        ids, targets = _empty(self.context - len(self._split.front))
        place, counted = 0, self._split.counted
        for begin, first, stop in pieces:
            here = slice(place, place + stop - begin)
            ids[here] = self._split.tokens[begin:stop]
            marks = np.ones(stop - begin, np.bool_) if counted is None else counted[begin:stop].copy()
            marks[: first - begin] = False
            targets[here] = np.where(marks, ids[here], UNCOUNTED)
            place += stop - begin
        return ids, targets[1:]


class _Running:
    """Blocks of running text: documents in the order of the epoch, cut wherever a block is full."""

    def __init__(
        self, split: TokenSplit, documents: NDArray[np.int64], context: int, seed: int, *, is_filled_up: bool
    ) -> None:
        self._split, self._documents, self._context, self._seed = split, documents, context, seed
        self._lengths = np.diff(split.starts)[documents]
        self._tokens = int(self._lengths.sum())
        targets = max(0, self._tokens - 1)
        self.blocks = -(-targets // context) if is_filled_up else targets // context
        self._epoch = -1
        self._order = self._ends = np.empty(0, np.int64)

    def block(self, epoch: int, place: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The block at this place of the epoch."""
        self._shuffle(epoch)
        start = place * self._context
        stop = min(start + self._context + 1, self._tokens)
        found = self._cut(start, stop)
        if len(found) == self._context + 1:
            return found, found[1:]
        ids, targets = _empty(self._context)
        ids[: len(found)] = targets[: len(found)] = found
        return ids, targets[1:]

    def _shuffle(self, epoch: int) -> None:
        if epoch == self._epoch:
            return
        dice = np.random.default_rng(derived_seed("order", self._seed, epoch))
        order = dice.permutation(len(self._lengths))
        self._order = self._documents[order]
        self._ends = np.cumsum(self._lengths[order])
        self._epoch = epoch

    def _cut(self, start: int, stop: int) -> NDArray[np.int64]:
        """Tokens start to stop of the shuffled concatenation, gathered from the documents they fall into."""
        pieces = []
        place = int(np.searchsorted(self._ends, start, side="right"))
        while start < stop:
            tokens = self._split.document(int(self._order[place]))
            begins = int(self._ends[place]) - len(tokens)
            until = min(stop, int(self._ends[place]))
            pieces.append(tokens[start - begins : until - begins])
            start, place = until, place + 1
        return np.concatenate(pieces).astype(np.int64)


def packed(pieces: Sequence[Stretch], room: int, seed: int) -> list[list[Stretch]]:
    """The pieces in packs of up to `room` tokens: the longest first, each into the fullest pack that has room.

    Best-fit decreasing needs at most 11 / 9 of the fewest packs possible (Johnson 1974). Pieces of one length are taken
    in an order drawn with the seed. No piece may be longer than the room.
    """
    order = np.random.default_rng(derived_seed("packs", seed)).permutation(len(pieces))
    lengths = np.array([piece.stop - piece.begin for piece in pieces], np.int64)
    packs: list[list[Stretch]] = []
    free: list[tuple[int, int]] = []  # sorted: room that is left, and in which pack
    for i in order[np.argsort(-lengths[order], kind="stable")].tolist():
        size = int(lengths[i])
        at = bisect_left(free, (size, 0))
        left, pack = free.pop(at) if at < len(free) else (room, len(packs))
        if pack == len(packs):
            packs.append([])
        packs[pack].append(pieces[i])
        insort(free, (left - size, pack))
    return packs


def _moved(piece: Stretch, by: int) -> Stretch:
    return Stretch(piece.begin + by, piece.first + by, piece.stop + by)


def before(front: NDArray[np.int64], rows_bt: NDArray[np.int64], fill: int | None = None) -> NDArray[np.int64]:
    """The front, or as many times `fill`, before each row."""
    head = front if fill is None else np.full_like(front, fill)
    return np.concatenate([np.broadcast_to(head, (len(rows_bt), len(head))), rows_bt], axis=1)


def _empty(context: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A block of filling, and targets that are none."""
    return np.full(context + 1, FILLING, np.int64), np.full(context + 1, UNCOUNTED, np.int64)
