"""The trainer of all kinds that are a rule from a gradient to a step: batches, loss, backward pass, clipping, pull.

A step takes the next blocks of the text, adds up the gradients of their mean loss, and hands it to the rule, which is
a plug-in of `trainers` and one of torch's optimizers at heart. What the optimizer keeps of each factor is the state;
its names are those of torch, so that a checkpoint can be read by anybody who knows the optimizer. The rule also steps
whole rows of peers at once (`batched.training`), which therefore knows no kind by name.

    blocks of (seed, step) -> loss, summed over parts that fit into memory -> gradient -> + pull -> clipped -> rule ->
    weights

A gradient that is not finite skips the step: the weights and what was gathered stay as they were, the step counts, and
the next one sees other text. The pull is Ditto's (Li et al. 2021, arXiv 2012.04221): strength / 2 times the squared
distance to other weights, added to the loss by its gradient, before the clipping.

The loss of a step is the mean over all targets that count, and of a conversation these are the answers' (`batches`).

Shapes: b sequences of a step, t positions of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, read, write
from p2pfinetune.model.compute import next_token_logits, rows_at_once, seeded, training_precision
from p2pfinetune.options import TrainingOptions
from p2pfinetune.registry import public_name
from p2pfinetune.training.batches import UNCOUNTED, Blocks, TrainingBatch, derived_seed
from p2pfinetune.training.schedule import learning_rate
from p2pfinetune.training.trainer import Pull, StepReport, TrainerState

if TYPE_CHECKING:
    from p2pfinetune.training.trainers import StepRule

GATHERED = "moment_steps"  # the name in checkpoints of the number of steps that the optimizer's tensors are over


class GradientTrainer:
    """Steps of one rule over the adapter's factors and nothing else; a frozen factor has no gradient and no moments."""

    def __init__(self, adapted: AdaptedModel, split: TokenSplit, options: TrainingOptions, rule: StepRule) -> None:
        self._adapted, self._options, self._rule = adapted, options, rule
        self._device = next(iter(adapted.parameters.values())).device
        self._vocabulary = int(adapted.model.config.get_text_config().vocab_size)
        self._blocks = Blocks(split, options.context, options.seed)
        self._adapter = adapted.initial
        self._pull: Pull | None = None
        self.steps = 0
        self._gathered = 0
        """Steps that the optimizer's tensors are over: those with effect since it was fresh."""
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
    def rule(self) -> StepRule:
        """As given."""
        return self._rule

    @property
    def batched(self) -> GradientTrainer:
        """Itself."""
        return self

    @property
    def context(self) -> int:
        """Tokens of a sequence: fewer than asked for if the text is shorter."""
        return self._blocks.context

    @property
    def pull(self) -> Pull | None:
        """See `pull_towards`."""
        return self._pull

    def twin(self, split: TokenSplit) -> GradientTrainer:
        """Another one with the same options, at the seeded start."""
        return GradientTrainer(self._adapted, split, self._options, self._rule)

    def pull_towards(self, adapter: Adapter | None, strength: float = 0.0) -> None:
        """Add strength x (weights - adapter) to every gradient, as Ditto does; None ends it. Not part of the state."""
        if adapter is not None and adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._pull = Pull(adapter, strength) if adapter is not None and strength else None

    def upcoming(self) -> tuple[TrainingBatch, float]:
        """Blocks and learning rate of the next step."""
        options = self._options
        sequences = options.batch_size * options.accumulation
        blocks = self._blocks.batch(self.steps * sequences, sequences)
        return blocks, learning_rate(self.steps, options.lr * self._rule.times_lr, options.total_steps)

    def set_adapter(self, adapter: Adapter) -> None:
        """Go on from other weights; moments and schedule stay, as in the paper."""
        if adapter.schema != self._adapter.schema:
            raise ValueError("the adapter does not fit this model")
        self._adapter = adapter

    def forget(self) -> None:
        """A fresh optimizer."""
        self._optimizer = self._fresh_optimizer()
        self._gathered = 0

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
        tensors = {}
        for kept in self._rule.kept if self._gathered else ():
            held = {name: self._optimizer.state[p][kept] for name, p in self._adapted.trained.items()}
            tensors[kept] = {name: tensor.to("cpu", copy=copy).contiguous() for name, tensor in held.items()}
        counts = {GATHERED: self._gathered}
        return TrainerState(self._adapter, self.steps, public_name(self._rule), tensors, counts)

    def load_state(self, state: TrainerState, *, copy: bool = True) -> None:
        """Go on exactly where `state` was taken. CheckpointError if it is of another model or kind.

        Without a copy the state belongs to the trainer from now on.
        """
        self._must_fit(state)
        self._adapter, self.steps = state.adapter, state.steps
        self.forget()
        self._gathered = gathered = state.counts.get(GATHERED, 0)
        for name, parameter in self._adapted.trained.items() if gathered else ():
            kept = {kind: state.tensors[kind][name].to(parameter.device, copy=copy) for kind in self._rule.kept}
            self._optimizer.state[parameter] = self._rule.begun(kept, torch.tensor(float(gathered)))

    def _must_fit(self, state: TrainerState) -> None:
        state.must_be_of(public_name(self._rule), self._rule.known, (GATHERED,))
        if state.adapter.schema != self._adapter.schema:
            raise CheckpointError("the saved weights are of another model or rank")
        for kept in self._rule.kept if state.counts.get(GATHERED, 0) else ():
            for name, parameter in self._adapted.trained.items():
                found = state.tensors.get(kept, {}).get(name)
                if found is None or found.shape != parameter.shape:
                    what = "are missing" if found is None else "have another shape"
                    raise CheckpointError(f"the saved moments of {name} {what}: {kept}")

    def _fresh_optimizer(self) -> torch.optim.Optimizer:
        group: dict[str, Any] = {"params": list(self._adapted.trained.values()), "lr": self._options.lr}
        return self._rule.optimizer([{**group, "weight_decay": self._options.weight_decay}])

    def _one_step(self) -> StepReport:
        options = self._options
        batch, rate = self.upcoming()
        tokens = batch.tokens
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        with seeded(derived_seed("dropout", options.seed, self.steps), self._device):
            inputs = batch.inputs_bt.to(self._device).split(self._rows())
            targets = batch.targets_bt.to(self._device).split(self._rows())
            loss = sum(self._backward(*part, tokens) for part in zip(inputs, targets, strict=True))
        self._reach_all()
        self._add_pull()
        norm = self._clip()
        if math.isfinite(norm):
            self._optimizer.step()
            self._gathered += 1
        self._optimizer.zero_grad(set_to_none=True)
        self.steps += 1
        return StepReport(self.steps, loss, tokens, rate, norm, skipped=not math.isfinite(norm))

    def _rows(self) -> int:
        return min(self._options.batch_size, rows_at_once(self._blocks.context, self._vocabulary))

    def _backward(self, inputs_bt: Tensor, targets_bt: Tensor, tokens: int) -> float:
        """Gradients of this part of the step's mean loss are added up; its share of the mean is returned."""
        model: Any = self._adapted.model
        with training_precision(self._device, self._adapted.precision):
            logits = next_token_logits(model, inputs_bt)
        total = functional.cross_entropy(
            logits.flatten(0, 1).float(), targets_bt.flatten(), ignore_index=UNCOUNTED, reduction="sum"
        )
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
