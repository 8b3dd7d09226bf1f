"""Mean cross-entropy per window, measured often and on little text: every adapter of every round passes here.

A document is cut into windows of `context` tokens, each predicted token counts once, and windows of similar length run
together. A window begins without what stood before it: with an overlap each token would be predicted from more, at a
multiple of the work. Losses are therefore a little too high, alike for all.

Of a conversation the answers are measured, in the stretches in which they are learnt (`data.stretches`): what a window
predicts is what counts of it, and it reads the rest. A document without anything that counts has no window.

A front (`data.profile`) stands before every window, is only read, and takes its tokens from the context.

Which windows are measured depends only on the split and the limits, so that losses of two adapters are paired. A limit
takes whole windows in an order drawn once for all time: the first ones may all be one document's. Nothing here changes
a weight.

Shapes: b windows of a batch, t tokens of the longest of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.data.stretches import stretches
from p2pfinetune.model.compute import (
    measuring_precision,
    next_token_logits,
    rows_at_once,
    token_losses,
    without_dropout,
)
from p2pfinetune.model.precision import Precision
from p2pfinetune.scoring.paired import token_mean

POSITIONS = 2048  # of one forward pass: enough to keep a processor busy, little enough for its cache
SIMILAR = 0.75  # of the longest window of a batch: padding is work, and a further batch costs little
PADDING = -1
READ = 4  # positions that are only read and cost as much of a limit as one that is measured
BLOCK_WINDOWS, BLOCK_TOKENS = 4, 1024  # at least, about: fewer say little of the others, and short passes are slow
CHOICE_SEED = 20240815  # any constant: with a limit, which windows stand for a split


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Losses of one adapter on one split. A document that is too short to predict anything has no window.

    All arrays are (w,), of the same windows in the same order for every adapter on one measure: pairs by construction.
    """

    loss: float
    """Mean over all measured tokens, in nats."""
    tokens: int
    per_window: NDArray[np.float64]
    """Mean over the tokens of each window, in the order of the split: the pairs in which adapters are compared."""
    per_window_tokens: NDArray[np.int64]
    """Predicted in each window, 1 to `context`; the weights of the mean."""
    per_window_document: NDArray[np.int64]
    """Which document of the split each window is of. Windows of one are alike, so intervals count documents."""

    @property
    def documents(self) -> int:
        """How many documents the windows are of."""
        return len(np.unique(self.per_window_document))

    def of(self, windows_w: NDArray[np.int64]) -> Evaluation:
        """What was measured of some of the windows."""
        losses, tokens = self.per_window[windows_w], self.per_window_tokens[windows_w]
        documents = self.per_window_document[windows_w]
        return Evaluation(token_mean(losses, tokens), int(tokens.sum()), losses, tokens, documents)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows that run together, padded on the right."""

    inputs_bt: Tensor
    targets_bt: Tensor
    """PADDING if there is nothing to predict: behind a window's end, and of a conversation what does not count."""
    lengths_b: NDArray[np.int64]
    """Positions of each window, those that do not count included."""
    windows_b: NDArray[np.int64]
    """Which window of the measure each row is."""


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """What is measured of a split, ready to run."""

    batches: tuple[Batch, ...]
    per_window_tokens: NDArray[np.int64]
    per_window_document: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Predicted tokens."""
        return int(self.per_window_tokens.sum())


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens start to stop of the split are predicted, each from those before it in [start - 1, stop - 1).

    Those before `first` are only read; of a conversation so are all that are not counted.
    """

    document: int
    start: int
    stop: int
    first: int
    tokens: int
    """That are predicted and counted, at least one."""

    @property
    def length(self) -> int:
        """Positions."""
        return self.stop - self.start

    @property
    def cost(self) -> int:
        """In tokens of a limit: those that are measured, but so that what is read costs a part of what it takes."""
        return max(self.tokens, self.length // READ)


def measure_of(split: TokenSplit, *, context: int, vocabulary: int, max_tokens: int = 0) -> Measure:
    """The windows of a split in batches; with `max_tokens`, a random but fixed choice of windows up to so many."""
    text = context - len(split.front)
    windows = sorted(_limited(list(_windows(split, text)), max_tokens), key=lambda window: window.start)
    position = {window: i for i, window in enumerate(windows)}
    by_length = sorted(windows, key=lambda window: (-window.length, window.start))
    batches = tuple(_batch(split, group, position) for group in _grouped(by_length, vocabulary))
    tokens = np.array([window.tokens for window in windows], np.int64)
    documents = np.array([window.document for window in windows], np.int64)
    return Measure(batches, tokens, documents)


def divided(measure: Measure, parts: int) -> list[Measure]:
    """The same windows as up to `parts` measures of about as many windows each, which lie side by side in the split.

    For a standard error over parts: neighbouring windows are alike, so they had better be in one part.
    """
    windows = len(measure.per_window_tokens)
    if parts < 2 or windows < 2:
        return [measure]
    return _parts(measure, np.array_split(np.arange(windows), min(parts, windows)))


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Some windows of a measure, drawn at random, as a measure of their own."""

    measure: Measure
    windows_w: NDArray[np.int64]
    """Which windows of the whole they are, in its order."""


def in_blocks(measure: Measure) -> tuple[Block, ...]:
    """All windows in blocks of a fixed random choice, of BLOCK_WINDOWS at least and about BLOCK_TOKENS; one if few.

    Any few of the blocks are a random sample of the windows, so that what they say may stand for all of them. The
    choice is of the measure alone, so an adapter's loss is the same to the bit whichever block was run first.
    """
    windows = len(measure.per_window_tokens)
    count = min(windows // BLOCK_WINDOWS, round(measure.tokens / BLOCK_TOKENS))
    if count < 2:
        return (Block(measure, np.arange(windows)),)
    order = np.random.default_rng(CHOICE_SEED).permutation(windows)
    groups = [np.sort(group) for group in np.array_split(order, count)]
    return tuple(Block(part, group) for part, group in zip(_parts(measure, groups), groups, strict=True))


def joined(measure: Measure, parts: Sequence[Evaluation]) -> Evaluation:
    """Of the whole measure, from those of its `divided` parts in their order."""
    per_window = np.concatenate([part.per_window for part in parts])
    return evaluation_of(measure, per_window * measure.per_window_tokens)


def glance(tokens: int) -> int:
    """About how many tokens the first block of so many has."""
    return tokens // max(1, round(tokens / BLOCK_TOKENS))


def _parts(measure: Measure, groups: Sequence[NDArray[np.int64]]) -> list[Measure]:
    rows: dict[int, tuple[Tensor, Tensor]] = {}
    for batch in measure.batches:
        for row, (number, size) in enumerate(zip(batch.windows_b, batch.lengths_b.tolist(), strict=True)):
            rows[int(number)] = batch.inputs_bt[row, :size], batch.targets_bt[row, :size]
    most = max(batch.inputs_bt.numel() for batch in measure.batches)
    return [_part(measure, rows, group, most) for group in groups]


def _part(measure: Measure, rows: dict[int, tuple[Tensor, Tensor]], group: NDArray[np.int64], most: int) -> Measure:
    """The windows of a group, longest first, in batches of up to `most` places."""
    lengths = np.array([len(rows[int(number)][0]) for number in group], np.int64)
    left = sorted(range(len(group)), key=lambda i: -lengths[i])
    batches = []
    while left:
        longest = int(lengths[left[0]])
        chosen = [i for i in left[: max(1, most // longest)] if lengths[i] >= SIMILAR * longest]
        left = left[len(chosen) :]
        inputs_bt = torch.zeros((len(chosen), longest), dtype=torch.int64)
        targets_bt = torch.full((len(chosen), longest), PADDING, dtype=torch.int64)
        for row, i in enumerate(chosen):
            inputs_bt[row, : lengths[i]], targets_bt[row, : lengths[i]] = rows[int(group[i])]
        batches.append(Batch(inputs_bt, targets_bt, lengths[chosen], np.array(chosen, np.int64)))
    return Measure(tuple(batches), measure.per_window_tokens[group], measure.per_window_document[group])


def evaluate(model: Any, measure: Measure, device: torch.device, precision: Precision = "fp32") -> Evaluation:
    """Run the model as it is now over the measure, with every dropout off; `batched.measuring` runs many."""
    sums = np.zeros(len(measure.per_window_tokens), np.float64)
    with torch.inference_mode(), without_dropout(model), measuring_precision(device, precision):
        for batch in measure.batches:
            losses_bt = _losses(model, batch, device)
            sums[batch.windows_b] = losses_bt.double().sum(dim=1).numpy()
    return evaluation_of(measure, sums)


def evaluation_of(measure: Measure, sums: NDArray[np.float64]) -> Evaluation:
    """From the sum (w,) of the losses of each window, in fp64, however the passes were cut."""
    tokens = measure.per_window_tokens
    per_window = sums / tokens
    return Evaluation(token_mean(per_window, tokens), measure.tokens, per_window, tokens, measure.per_window_document)


def _losses(model: Any, batch: Batch, device: torch.device) -> Tensor:
    """Loss of each position, zero on padding, on the CPU."""
    targets_bt = batch.targets_bt.to(device)
    is_real = targets_bt != PADDING
    logits = next_token_logits(model, batch.inputs_bt.to(device))
    found = token_losses(logits[is_real], targets_bt[is_real]) if not is_real.all() else None
    if found is None:
        return token_losses(logits.flatten(0, 1), targets_bt.flatten()).reshape(targets_bt.shape).cpu()
    losses_bt = torch.zeros(targets_bt.shape, dtype=torch.float32, device=device)
    losses_bt[is_real] = found
    return losses_bt.cpu()


def _windows(split: TokenSplit, context: int) -> Iterator[Window]:
    """A document's first token is predicted from nothing, so it is not measured."""
    for document in range(split.documents):
        begin, end = int(split.starts[document]), int(split.starts[document + 1])
        if (marks := split.marks(document)) is None:
            for start in range(begin + 1, end, context):
                stop = min(start + context, end)
                yield Window(document, start, stop, start, stop - start)
        else:
            for since, first, stop in stretches(marks, context):
                tokens = int(np.count_nonzero(marks[first:stop]))
                yield Window(document, begin + since + 1, begin + stop, begin + first, tokens)


def _limited(windows: list[Window], max_tokens: int) -> list[Window]:
    """All of them, or as many as fit into `max_tokens` in a fixed random order, but at least one."""
    if not max_tokens or sum(window.cost for window in windows) <= max_tokens:
        return windows
    chosen: list[Window] = []
    left = max_tokens
    for i in np.random.default_rng(CHOICE_SEED).permutation(len(windows)):
        if windows[i].cost <= left or not chosen:
            chosen.append(windows[i])
            left -= windows[i].cost
    return chosen


def _grouped(windows: list[Window], vocabulary: int) -> Iterator[list[Window]]:
    """Runs of windows, longest first, within the limits of one forward pass and not too different in length."""
    place = 0
    while place < len(windows):
        longest = windows[place].length
        rows = min(max(1, POSITIONS // longest), rows_at_once(longest, vocabulary))
        group = windows[place : place + rows]
        group = [window for window in group if window.length >= SIMILAR * longest]
        yield group
        place += len(group)


def _batch(split: TokenSplit, windows: list[Window], position: dict[Window, int]) -> Batch:
    longest = windows[0].length
    inputs_bt = np.zeros((len(windows), longest), np.int64)
    targets_bt = np.full((len(windows), longest), PADDING, np.int64)
    for row, window in enumerate(windows):
        inputs_bt[row, : window.length] = split.tokens[window.start - 1 : window.stop - 1]
        targets_bt[row, window.first - window.start : window.length] = split.tokens[window.first : window.stop]
        if window.tokens < window.stop - window.first and split.counted is not None:
            targets_bt[row, : window.length][~split.counted[window.start : window.stop]] = PADDING
    windows_b = np.array([position[window] for window in windows], np.int64)
    lengths_b = np.array([window.length + len(split.front) for window in windows], np.int64)
    head_t = np.broadcast_to(np.array([*split.front], np.int64), (len(windows), len(split.front)))
    inputs_bt = np.concatenate([head_t, inputs_bt], axis=1)
    targets_bt = np.concatenate([np.full_like(head_t, PADDING), targets_bt], axis=1)
    return Batch(torch.from_numpy(inputs_bt), torch.from_numpy(targets_bt), lengths_b, windows_b)
