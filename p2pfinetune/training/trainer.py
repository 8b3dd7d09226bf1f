"""Train one adapter on one split. Every random choice follows from the seed and the number of the step.

Several trainers may share a live model: each keeps its own weights and moments and copies the weights in when it runs.
A trainer knows nothing of peers, scores or merges, and never looks at a clock.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, read, write
from p2pfinetune.model.compute import next_token_logits, rows_at_once, seeded, training_precision
from p2pfinetune.options import TrainingOptions
from p2pfinetune.training.batches import Blocks, derived_seed
from p2pfinetune.training.schedule import learning_rate

FIRST, SECOND = "exp_avg", "exp_avg_sq"  # what torch's AdamW calls its moments


@dataclass(frozen=True, slots=True)
class StepReport:
    """One optimizer step."""

    step: int
    """Counted from 1 since training began."""
    loss: float
    """Mean cross-entropy over the step's tokens before the step, dropout on, in nats."""
    tokens: int
    lr: float
    gradient_norm: float
    """Before clipping."""
    skipped: bool
    """The gradient was not finite, so the weights stayed."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainerState:
    """All that a trainer is beside its options and its text."""

    adapter: Adapter
    moments: Mapping[str, Mapping[str, Tensor]]
    """FIRST and SECOND to tensors by name; empty right after a reset."""
    moment_steps: int
    """Steps that the moments are over."""
    steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Pull:
    """A spring to other weights: the gradient of strength / 2 x their squared distance."""

    adapter: Adapter
    strength: float


class LocalTrainer:
    """AdamW over the adapter's factors and nothing else; a frozen factor has no gradient and no moments."""

    def __init__(self, adapted: AdaptedModel, split: TokenSplit, options: TrainingOptions) -> None:
        self._adapted, self._options = adapted, options
        self._device = next(iter(adapted.parameters.values())).device
        self._vocabulary = int(adapted.model.config.get_text_config().vocab_size)
        self._blocks = Blocks(split, options.context, options.seed)
        self._adapter = adapted.initial
        self._pull: Pull | None = None
        self.steps = 0
        self._optimizer = self._fresh_optimizer()

    @property
    def adapter(self) -> Adapter:
        """The weights as they are now."""
        return self._adapter

    @property
    def adapted(self) -> AdaptedModel:
        """The live model."""
        return self._adapted

    @property
    def options(self) -> TrainingOptions:
        """As given."""
        return self._options

    @property
    def context(self) -> int:
        """Tokens of a sequence: fewer than asked for where the text is shorter."""
        return self._blocks.context

    @property
    def pull(self) -> Pull | None:
        """See `pull_towards`."""
        return self._pull

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """Add strength x (weights - adapter) to every gradient, as Ditto does; None ends it. Not part of the state."""
        if adapter is not None and adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._pull = Pull(adapter, strength) if adapter is not None and strength else None

    def upcoming(self) -> tuple[Tensor, float]:
        """Blocks, (sequences, context + 1), and learning rate of the next step."""
        sequences = self._options.batch_size * self._options.accumulation
        blocks = self._blocks.batch(self.steps * sequences, sequences)
        return blocks, learning_rate(self.steps, self._options.lr, self._options.total_steps)

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights; moments and schedule stay, as in the paper."""
        if adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._adapter = adapter

    def reset_moments(self) -> None:
        """Forget the moments: after a jump to weights that they say nothing about."""
        self._optimizer = self._fresh_optimizer()

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._blocks = Blocks(split, self._options.context, self._options.seed)

    def step(self) -> StepReport:
        """One optimizer step."""
        return self.run(1)[0]

    def run(self, steps: int, on_step: Callable[[StepReport], None] | None = None) -> list[StepReport]:
        """Some optimizer steps. What was done stays done when `on_step` raises."""
        reports: list[StepReport] = []
        model = self._adapted.model
        write(self._adapted, self._adapter)
        model.train()
        try:
            for _ in range(steps):
                reports.append(self._one_step())
                if on_step is not None:
                    on_step(reports[-1])
        finally:
            model.eval()
            self._adapter = read(self._adapted)
        return reports

    def state(self, *, copy: bool = True) -> TrainerState:
        """Everything that the next step depends on but a pull; without a copy, valid until that step."""
        held = {name: self._optimizer.state.get(p, {}) for name, p in self._adapted.trained.items()}
        moment_steps = max((int(state["step"]) for state in held.values() if state), default=0)
        moments = {}
        if moment_steps:
            for kind in (FIRST, SECOND):
                moments[kind] = {name: state[kind].to("cpu", copy=copy).contiguous() for name, state in held.items()}
        return TrainerState(self._adapter, moments, moment_steps, self.steps)

    def load_state(self, state: TrainerState, *, copy: bool = True) -> None:
        """Go on exactly where `state` was taken. CheckpointError where it is of another model.

        Without a copy the state belongs to the trainer from now on.
        """
        if state.adapter.schema != self._adapter.schema:
            raise CheckpointError("the saved weights are of another model or rank")
        self._adapter, self.steps = state.adapter, state.steps
        self.reset_moments()
        if not state.moments:
            return
        for name, parameter in self._adapted.trained.items():
            first, second = state.moments[FIRST][name], state.moments[SECOND][name]
            if first.shape != parameter.shape or second.shape != parameter.shape:
                raise CheckpointError(f"the saved moments of {name} have another shape")
            self._optimizer.state[parameter] = {
                "step": torch.tensor(float(state.moment_steps)),
                FIRST: first.to(parameter.device, copy=copy),
                SECOND: second.to(parameter.device, copy=copy),
            }

    def _fresh_optimizer(self) -> torch.optim.AdamW:
        options = self._options
        parameters = list(self._adapted.trained.values())
        return torch.optim.AdamW(parameters, lr=options.lr, betas=options.betas, weight_decay=options.weight_decay)

    def _one_step(self) -> StepReport:
        options = self._options
        blocks, rate = self.upcoming()
        tokens = len(blocks) * self.context
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        with seeded(derived_seed("dropout", options.seed, self.steps), self._device):
            loss = sum(self._backward(rows, tokens) for rows in blocks.to(self._device).split(self._rows()))
        self._reach_all()
        self._add_pull()
        norm = self._clip()
        if math.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return StepReport(self.steps, loss, tokens, rate, norm, skipped=not math.isfinite(norm))

    def _rows(self) -> int:
        return min(self._options.batch_size, rows_at_once(self._blocks.context, self._vocabulary))

    def _backward(self, rows: Tensor, tokens: int) -> float:
        """Gradients of this part of the step's mean loss are added up; its share of the mean is returned."""
        model: Any = self._adapted.model
        with training_precision(self._device, self._adapted.precision):
            logits = next_token_logits(model, rows[:, :-1])
        total = functional.cross_entropy(logits.flatten(0, 1).float(), rows[:, 1:].flatten(), reduction="sum")
        loss = total / tokens
        loss.backward()
        return float(loss.detach())

    def _reach_all(self) -> None:
        """A layer that no pass reaches has a gradient of zero and not none: it decays and is saved as in batches."""
        for parameter in self._adapted.trained.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _add_pull(self) -> None:
        if self._pull is None:
            return
        with torch.no_grad():
            for name, parameter in self._adapted.trained.items():
                if parameter.grad is not None:
                    target = self._pull.adapter.tensors[name].to(parameter.device)
                    parameter.grad.add_(parameter - target, alpha=self._pull.strength)

    def _clip(self) -> float:
        """The norm of the gradient, which is then no longer than `clip`."""
        parameters = list(self._adapted.trained.values())
        return float(torch.nn.utils.clip_grad_norm_(parameters, self._options.clip or math.inf))
