"""The trainer without gradients: two looks at the loss a direction, and one number of what was seen.

MeZO (Malladi et al. 2023, arXiv 2305.17333, algorithm 1; on telephones PocketLLM, arXiv 2407.01031), over the factors
of the adapter alone:

    blocks of (seed, step), the same for both looks;  z: a sign for each trained entry, of (seed, step, sample)
    slope  = (loss at theta + eps z  -  loss at theta - eps z) / (2 eps)
    theta <- theta - lr x slope x z                       of several samples, the mean of their slope x z

Nothing is kept for a backward pass and no moment is gathered: what is in memory is what it takes to run the model, and
three rows as long as the adapter. There is no noise in the model either: dropout is off, since it would differ between
the looks. Both are rows of one pass if so many positions fit (`steps.positions_of`), else one goes after the other.

Weights are moved in whole units (`mezo.steps`), on the processor and not on the device: what the steps were is a list
of numbers (`steps_since`), and who replays them comes to the same bits. A loss may differ by device; what a step did,
never. Weight decay is part of that and towards the seeded start, at the highest rate of the schedule.

Clipping bounds the slope, which is the gradient's length in the mean of squares. A pull (Ditto's) is a term of the loss
that is known by heart, so its slope along z is added exactly. A slope that is not finite skips the step.

Seeds of the signs depend on who trains beside the seed, since many daemons leave the seed as it is: peers that probed
in the same directions would share their errors, and a mean of them would be no better than one. They do not depend on
the text: they are told to others, and whoever has a guess of the text could try it.

Shapes: t trained numbers of an adapter of p; s sequences of a step, t tokens of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from p2pfinetune.batched.stack import AdapterStack, apart, row_of, rows_of
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.mezo.signs import Signs
from p2pfinetune.mezo.steps import DECAY_BITS, MOST_AMOUNT, MOST_DECAY, UNIT, StepList, floats_of, taken, units_of
from p2pfinetune.model.adapter import AdaptedModel, Adapter
from p2pfinetune.model.compute import training_precision
from p2pfinetune.options import TrainingOptions
from p2pfinetune.registry import public_name
from p2pfinetune.training.batches import UNCOUNTED, Blocks, TrainingBatch, derived_seed
from p2pfinetune.training.schedule import learning_rate
from p2pfinetune.training.steps import positions_of
from p2pfinetune.training.trainer import Pull, StepReport, TrainerState

if TYPE_CHECKING:
    from p2pfinetune.training.trainers.mezo import Mezo

MOST_NOTED = 1 << 14  # amounts that are noted of steps since a mark; a longer list is sent by nobody


class MezoTrainer:
    """Steps along random directions over the adapter's factors; a frozen factor stays as it is."""

    def __init__(
        self,
        adapted: AdaptedModel,
        split: TokenSplit,
        options: TrainingOptions,
        kind: Mezo,
        stack: AdapterStack | None = None,
    ) -> None:
        self._adapted, self._options, self._kind = adapted, options, kind
        self._stack = stack
        self._trained = dict(adapted.trained_schema)
        self._schema = {**self._trained, **adapted.schema}
        self._signs = Signs(self._trained)
        self._seed = derived_seed("mezo", options.seed, options.who)
        self._start_t = row_of(self._trained, adapted.initial.tensors).numpy()
        self._decay = _decay(options, kind)
        self._adapter = adapted.initial
        self._pull: Pull | None = None
        self.steps = 0
        self._amounts: list[int] = []
        """Of the steps since the mark."""
        self._mark: tuple[Adapter, int] | None = None
        """Where it was, and after how many steps."""
        self.reread(split)

    @property
    def adapter(self) -> Adapter:
        """The weights as they are now."""
        return self._adapter

    @property
    def adapted(self) -> AdaptedModel:
        """The live model."""
        return self._adapted

    @property
    def batched(self) -> None:
        """It runs by itself: its pass is full with its own rows."""
        return

    def share(self, stack: AdapterStack) -> None:
        """Run on a stack that others use, too; it must be of the same base and kind of adapter."""
        self._stack = stack

    def twin(self, split: TokenSplit) -> MezoTrainer:
        """Another one with the same options, at the seeded start."""
        return MezoTrainer(self._adapted, split, self._options, self._kind, self._stack)

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """Add the slope of strength / 2 x the squared distance to these weights to every slope; None ends it."""
        if adapter is not None and adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._pull = Pull(adapter, strength) if adapter is not None and strength else None

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights; the schedule stays."""
        if adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        if adapter is not self._adapter:
            self._adapter, self._mark = adapter, None

    def forget(self) -> None:
        """Nothing: no moment is kept."""

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._blocks = Blocks(split, self._options.context, self._options.seed)

    def mark(self) -> None:
        """Note the steps from here on, for `steps_since`."""
        self._mark, self._amounts = (self._adapter, self.steps), []

    def steps_since(self, adapter: Adapter) -> StepList | None:
        """What led from the mark to here, if it was set at this very adapter; None if it cannot be told as steps."""
        if self._mark is None or self._mark[0] is not adapter or not 0 < len(self._amounts) <= MOST_NOTED:
            return None
        return self._steps(self._mark[1], tuple(self._amounts))

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        """Some steps. What was done stays done when `on_step` raises."""
        if self._stack is None:
            self._stack = AdapterStack(self._adapted)
        reports = []
        try:
            with torch.no_grad():
                for _ in range(steps):
                    reports.append(self._step(self._stack))
                    if on_step is not None:
                        on_step(reports[-1])
        finally:
            self._stack.release()
        return reports

    def state(self) -> TrainerState:
        """The weights and the number of steps: everything else follows."""
        return TrainerState(self._adapter, self.steps, public_name(self._kind))

    def load_state(self, state: TrainerState) -> None:
        """Go on exactly where `state` was taken. CheckpointError if it is of another model or kind."""
        state.must_be_of(public_name(self._kind), (), ())
        if state.adapter.schema != self._adapter.schema:
            raise CheckpointError("the saved weights are of another model or rank")
        self._adapter, self.steps, self._mark = state.adapter, state.steps, None

    def _step(self, stack: AdapterStack) -> StepReport:
        options, kind = self._options, self._kind
        sequences = options.batch_size * options.accumulation
        batch = self._blocks.batch(self.steps * sequences, sequences)
        rate = learning_rate(self.steps, options.lr * kind.scale, options.total_steps)
        row_p = rows_of(self._schema, [self._adapter.tensors])[0]
        looks = [self._look(stack, row_p, batch, sample) for sample in range(kind.samples)]
        length = math.sqrt(sum(slope**2 for slope, _ in looks) / len(looks))
        is_whole = math.isfinite(length)
        amounts = tuple(self._amount(slope, rate) if is_whole else 0 for slope, _ in looks)
        if is_whole:
            self._move(row_p, amounts)
        self._amounts = [*self._amounts, *amounts][: MOST_NOTED + 1] if self._mark else []
        self.steps += 1
        loss = sum(loss for _, loss in looks) / len(looks)
        return StepReport(self.steps, loss, batch.tokens, rate, length, skipped=not is_whole)

    def _look(self, stack: AdapterStack, row_p: Tensor, batch: TrainingBatch, sample: int) -> tuple[float, float]:
        """The slope along one direction, and the loss between both looks."""
        eps = self._kind.eps
        signs_t = torch.from_numpy(self._signs.bits(self._seed, self.steps, sample)).float().mul_(2.0).sub_(1.0)
        rows_2p = row_p.repeat(2, 1)
        rows_2p[0, : len(signs_t)].add_(signs_t, alpha=eps)
        rows_2p[1, : len(signs_t)].sub_(signs_t, alpha=eps)
        up, down = self._losses(stack, rows_2p.to(stack.device), batch)
        slope = (up - down) / (2.0 * eps)
        if self._pull is not None:
            away_t = row_p[: len(signs_t)] - row_of(self._trained, self._pull.adapter.tensors)
            slope += self._pull.strength * float(torch.dot(away_t.double(), signs_t.double()))
        return slope, (up + down) / 2.0

    def _losses(self, stack: AdapterStack, rows_2p: Tensor, batch: TrainingBatch) -> list[float]:
        """The mean over the batch at either of two rows of weights, summed in fp64."""
        sums = torch.zeros(2, dtype=torch.float64, device=stack.device)
        for rows, sequences in self._passes(stack, len(batch.inputs_bt)):
            used_kp = rows_2p[rows]
            stack.use(used_kp, schema=self._schema)
            inputs_bt = batch.inputs_bt[sequences].to(stack.device).repeat(len(used_kp), 1)
            targets_n = batch.targets_bt[sequences].to(stack.device).repeat(len(used_kp), 1).flatten()
            counted_n = targets_n != UNCOUNTED
            with training_precision(stack.device, self._adapted.precision):
                returned_nd = stack.returned(inputs_bt).flatten(0, 1)
                losses_n = stack.output.losses(returned_nd[counted_n], targets_n[counted_n])
            by_row = torch.zeros(len(targets_n), dtype=torch.float64, device=stack.device)
            by_row[counted_n] = losses_n.double()
            sums[rows] += by_row.view(len(used_kp), -1).sum(dim=1)
        return [float(total) / batch.tokens for total in sums.tolist()]

    def _passes(self, stack: AdapterStack, sequences: int) -> Iterator[tuple[slice, slice]]:
        """Rows and sequences of one forward pass."""
        most = max(1, positions_of(stack) // self._blocks.context)
        together = 2 if most > 1 else 1
        each = min(sequences, max(1, most // together))
        for row in range(0, 2, together):
            for first in range(0, sequences, each):
                yield slice(row, row + together), slice(first, first + each)

    def _amount(self, slope: float, rate: float) -> int:
        """Of a step's mean: how many units each entry goes."""
        clip = self._options.clip or math.inf
        units = rate * min(max(slope, -clip), clip) / self._kind.samples / UNIT
        return round(min(max(units, -MOST_AMOUNT), MOST_AMOUNT))

    def _move(self, row_p: Tensor, amounts: tuple[int, ...]) -> None:
        row_t = row_p.numpy()[: len(self._start_t)]
        units_t = taken(units_of(row_t - self._start_t), self._steps(self.steps, amounts), self._signs)
        moved_t = self._start_t + floats_of(units_t)
        row_t[...] = moved_t
        (tensors,) = apart(self._schema, row_p.unsqueeze(0))
        self._adapter = Adapter(tensors)

    def _steps(self, first: int, amounts: tuple[int, ...]) -> StepList:
        return StepList(
            seed=self._seed, first=first, samples=self._kind.samples, rank=self._adapted.spec.held_rank,
            decay=self._decay, amounts=amounts,
        )  # fmt: skip


def _decay(options: TrainingOptions, kind: Mezo) -> int:
    found = round(options.weight_decay * options.lr * kind.scale * (1 << DECAY_BITS))
    if found > MOST_DECAY:
        raise OptionError("the weight decay takes back more than a sixteenth of the way in each step", "lower it")
    return found
