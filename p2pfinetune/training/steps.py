"""Steps of one trainer, or of several that share their passes: batches, loss, backward pass, clipping, pull, rule.

Each peer keeps its own batches, learning rate, moments, clipping and pull, and a gradient that is not finite skips the
step of its own peer alone. The losses of all peers are added up before the backward pass, and since no peer's factors
touch another's rows, the gradient of the sum is every peer's own gradient, side by side. One peer is a company of one:
there is no other way through a model than this, so nothing can differ but the order of additions. Where dropout draws
noise, it is drawn from a seed of the peer and the step, so such a peer trains without company.

A pass holds as many positions as fit (`AdaptedModel.positions`, or what suits the device); what does not fit goes in
further passes, whose gradients are added up.

Shapes: k peers, p numbers of an adapter, t of them trained, s sequences of a step, t tokens of one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from p2pfinetune.batched.stack import AdapterStack, Schema, apart, rows_of
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.compute import MAX_LOGITS, seeded, training_precision
from p2pfinetune.registry import public_name
from p2pfinetune.training.batches import UNCOUNTED, derived_seed
from p2pfinetune.training.trainer import StepReport, TrainerState

if TYPE_CHECKING:
    from p2pfinetune.training.gradient_trainer import GradientTrainer

GATHERED = "moment_steps"  # the name in checkpoints of the number of steps that the optimizer's tensors are over
POSITIONS = {
    "cpu": 2048
}  # of a pass, of all its peers: with 4096 the loop is quicker, with 512 as quick (nano, two cores)
POSITIONS_ELSEWHERE = 1 << 15


class Steps:
    """The trainers' states go into rows of matrices, and come back when it ends.

    What is trained lies in front, so that gradients, moments and steps are of the front alone: t numbers of a row of p.
    """

    def __init__(self, trainers: Sequence[GradientTrainer], stack: AdapterStack) -> None:
        self._trainers, self._stack = trainers, stack
        self._rule = trainers[0].rule
        self._trained = dict(trainers[0].trained)
        self._schema = {**self._trained, **stack.adapted.schema}
        self._values_kp = self._rows(self._schema, [trainer.adapter.tensors for trainer in trainers])
        self._trained_kt = self._values_kp[:, : sum(shape[0] * shape[1] for shape in self._trained.values())]
        self._gradients_kt = torch.zeros_like(self._trained_kt, memory_format=torch.contiguous_format)
        self._clip_k = torch.tensor([trainer.options.clip or math.inf for trainer in trainers], device=stack.device)
        pulls = [trainer.pull for trainer in trainers]
        self._pulls = [
            (k, self._rows(self._trained, [pull.adapter.tensors])[0], pull.strength)
            for k, pull in enumerate(pulls)
            if pull is not None
        ]
        self._optimizer, self._gathered = self._begun()

    def take(self, count: int, on_step: Callable[[int, StepReport], None]) -> None:
        """Take them. What was done stays done when `on_step` raises."""
        try:
            with self._stack.with_dropout():
                for _ in range(count):
                    for k, report in enumerate(self._step()):
                        on_step(k, report)
        finally:
            self._stack.release()
            self._give_back()

    def _step(self) -> list[StepReport]:
        upcoming = [trainer.upcoming() for trainer in self._trainers]
        batches = [batch for batch, _ in upcoming]
        inputs_kst = torch.stack([batch.inputs_bt for batch in batches]).to(self._stack.device)
        targets_kst = torch.stack([batch.targets_bt for batch in batches]).to(self._stack.device)
        tokens_k = torch.tensor([batch.tokens for batch in batches], device=self._stack.device)
        self._gradients_kt.zero_()
        losses_k = torch.zeros(len(upcoming), device=self._stack.device)
        with self._noise():
            for peers, sequences in self._passes():
                part = peers, sequences
                losses_k[peers] += self._backward(inputs_kst[part], targets_kst[part], tokens_k[peers])
        for k, target_t, strength in self._pulls:
            self._gradients_kt[k].add_(self._trained_kt[k] - target_t, alpha=strength)
        norms_k = torch.linalg.vector_norm(self._gradients_kt, dim=1)
        self._gradients_kt.mul_((self._clip_k / (norms_k + 1e-6)).clamp(max=1.0).unsqueeze(1))
        norms, losses = norms_k.tolist(), losses_k.tolist()
        self._update(norms, [rate for _, rate in upcoming])
        reports = []
        for trainer, loss, norm, (batch, rate) in zip(self._trainers, losses, norms, upcoming, strict=True):
            trainer.steps += 1
            reports.append(StepReport(trainer.steps, loss, batch.tokens, rate, norm, skipped=not math.isfinite(norm)))
        return reports

    def _noise(self) -> AbstractContextManager[None]:
        """Dropout's, which follows from seed and step alone; of a model without it, nothing is drawn."""
        if not self._stack.is_noisy:
            return nullcontext()
        (trainer,) = self._trainers
        return seeded(derived_seed("dropout", trainer.options.seed, trainer.steps), self._stack.device)

    def _passes(self) -> Iterator[tuple[slice, slice]]:
        """Peers and sequences of one forward pass."""
        options, length = self._trainers[0].options, self._trainers[0].context
        most = positions_of(self._stack) // length
        peers = min(len(self._trainers), max(1, most))
        each = min(options.batch_size, max(1, most // peers))
        for k in range(0, len(self._trainers), peers):
            part = slice(k, k + peers)
            self._stack.use(self._values_kp[part], self._gradients_kt[part], self._schema)
            for s in range(0, options.batch_size * options.accumulation, each):
                yield part, slice(s, s + each)

    def _backward(self, inputs_kst: Tensor, targets_kst: Tensor, tokens_k: Tensor) -> Tensor:
        """Gradients of this part of the steps' mean losses are added up; its share of the means is returned."""
        counted_kn = (targets_kst != UNCOUNTED).flatten(1)
        counted_n, targets_n = counted_kn.flatten(), targets_kst.flatten()
        with training_precision(self._stack.device, self._stack.adapted.precision):
            returned_nd = self._stack.returned(inputs_kst.flatten(0, 1)).flatten(0, 1)
            if not counted_n.all():
                returned_nd, targets_n = returned_nd[counted_n], targets_n[counted_n]
            losses_n = self._stack.output.losses(returned_nd, targets_n)
        losses_kn = torch.zeros_like(counted_kn, dtype=losses_n.dtype).masked_scatter(counted_kn, losses_n)
        means_k = losses_kn.sum(dim=1) / tokens_k
        (means_k + self._balance(counted_kn.shape[1])).sum().backward()
        return means_k.detach()

    def _balance(self, positions: int) -> Tensor | float:
        """What the use of several adapters in a layer adds to the loss: of each part as much as it has of the step."""
        options = self._trainers[0].options
        found = self._stack.balance() if options.router_balance else None
        whole = options.batch_size * options.accumulation * self._trainers[0].context
        return 0.0 if found is None else options.router_balance * positions / whole * found

    def _rows(self, schema: Schema, adapters: Sequence[Mapping[str, Tensor]]) -> Tensor:
        return rows_of(schema, adapters).to(self._stack.device)

    def _begun(self) -> tuple[torch.optim.Optimizer, list[int]]:
        """A group of one row for each peer, with what it has gathered so far; and over how many steps that is."""
        groups: list[dict[str, Any]] = [
            {"params": [row], "weight_decay": trainer.options.weight_decay}
            for row, trainer in zip(self._trained_kt, self._trainers, strict=True)
        ]
        is_fused = self._stack.device.type in {"cpu", "cuda"}  # reads and writes a row once instead of a dozen times
        optimizer = self._rule.optimizer(groups, is_fused=is_fused or None)
        states = [trainer.state(copy=False) for trainer in self._trainers]
        gathered = [state.counts[GATHERED] for state in states]
        begun = [k for k, state in enumerate(states) if state.tensors]
        kept = {}
        for kind in self._rule.kept if begun else ():
            kept[kind] = self._rows(self._trained, [states[k].tensors[kind] for k in begun])
        for i, k in enumerate(begun):
            steps = torch.tensor(float(gathered[k]), device=self._stack.device)
            rows = {kind: rows_bt[i] for kind, rows_bt in kept.items()}
            optimizer.state[groups[k]["params"][0]] = self._rule.begun(rows, steps)
        return optimizer, gathered

    def _update(self, norms: Sequence[float], rates: Sequence[float]) -> None:
        for k, group in enumerate(self._optimizer.param_groups):
            group["lr"] = rates[k]
            group["params"][0].grad = self._gradients_kt[k] if math.isfinite(norms[k]) else None
            self._gathered[k] += math.isfinite(norms[k])
        self._optimizer.step()

    def _give_back(self) -> None:
        held = [self._optimizer.state.get(group["params"][0], {}) for group in self._optimizer.param_groups]
        begun = [k for k, gathered in enumerate(self._gathered) if gathered]
        kept: list[dict[str, dict[str, Tensor]]] = [{} for _ in held]
        for kind in self._rule.kept if begun else ():
            parts = apart(self._trained, torch.stack([held[k][kind] for k in begun]))
            for k, tensors in zip(begun, parts, strict=True):
                kept[k][kind] = tensors
        name = public_name(self._rule)
        for k, (trainer, tensors) in enumerate(zip(self._trainers, apart(self._schema, self._values_kp), strict=True)):
            adapter = Adapter({path: tensor.clone() for path, tensor in tensors.items()})  # may outlive the others
            state = TrainerState(adapter, trainer.steps, name, kept[k], {GATHERED: self._gathered[k]})
            trainer.load_state(state, copy=False)


def positions_of(stack: AdapterStack) -> int:
    """Tokens of a training pass: as this base was told, else what keeps the device busy; never too many logits."""
    wanted = stack.positions(POSITIONS, POSITIONS_ELSEWHERE)
    return wanted if stack.output.is_chunked else min(wanted, max(1, MAX_LOGITS // stack.vocabulary))
