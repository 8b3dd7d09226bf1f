"""Gates: a vector beside each adapted layer that says on which inputs its LoRA is of use. What a piece is found by.

After Per-Pcs (Tan, Liu and Jiang, EMNLP 2024, arXiv 2406.10471, and its public code): a sharer's adapter is cut into
*pieces*, a layer's factors and a *gate* each. With the factors frozen, the layer of input x adds

    (alpha / R) B A (x * sigmoid(<x, g>))

and g in R^in is trained on the train split, from zero, by AdamW at 2e-5, gradients clipped at a norm of 0.3. So g turns
towards the inputs on which the adapter lowers the loss, and a newcomer compares it with its own (`round.pieces`). The
gate is for being found alone: whoever runs a piece runs its factors without.

The gradient of g is along the inputs, each weighed by how much the adapter's part helped there; the base's weights and
the factors get none. Steps are their own affair and few (`--gate-steps` a round): what is compared is a direction.
Gates go on from round to round though the adapter below them changes, since directions do so slowly.

Everything runs on the live model by hooks on peft's A, with dropout off: the same for every family and for quantised
bases. Which blocks a step takes follows from seed and step, as in `training.batches`.

Shapes: b rows, t tokens, n positions that count, i inputs of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import CheckpointError
from p2pfinetune.model.adapter import PEFT_NAME, AdaptedModel, Adapter, write
from p2pfinetune.model.compute import next_token_logits, rows_at_once, training_precision
from p2pfinetune.options import TrainingOptions
from p2pfinetune.options.pieces import GateOptions
from p2pfinetune.training.batches import UNCOUNTED, Blocks, derived_seed

CLIP = 0.3  # norm of a step's gradient over all gates; the public code's
BETAS = (0.9, 0.999)  # torch's own, as the public code leaves them
POSITIONS = 2048  # of a pass, unless the base was told fewer
GATE = ".gate"
MOMENTS = ("exp_avg", "exp_avg_sq")  # what torch's AdamW keeps

Schema = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Gates:
    """One for each adapted layer: `<module path>.gate` to a vector (in,) of fp32 on the CPU."""

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.tensors.items()))
        for name, tensor in ordered.items():
            if not name.endswith(GATE) or tensor.ndim != 1 or tensor.dtype != torch.float32:
                raise ValueError(f"{name} is no gate: a vector of fp32 is")
        object.__setattr__(self, "tensors", MappingProxyType(ordered))

    def of(self, path: str) -> Tensor:
        """The gate of the layer at that path of the model."""
        return self.tensors[path + GATE]


@dataclass(frozen=True, slots=True, eq=False)
class GateState:
    """All that the next step of the gates depends on, beside options and text."""

    gates: Gates
    steps: int = 0
    moments: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """By torch's names, then by those of the gates; empty before the first step with effect."""
    moment_steps: int = 0


def gate_schema(adapted: AdaptedModel) -> dict[str, tuple[int, ...]]:
    """Names to shapes, a row each: codecs write matrices."""
    return {f"{path}{GATE}": (1, adapted.start.tensors[f"{path}.lora_A"].shape[1]) for path in adapted.targets}


def closed_gates(adapted: AdaptedModel) -> Gates:
    """Where they start: at zero, which lets half of every input through."""
    return Gates({name: torch.zeros(shape[1]) for name, shape in gate_schema(adapted).items()})


class GateTrainer:
    """Steps of the gates of one adapter on one split."""

    def __init__(
        self, adapted: AdaptedModel, split: TokenSplit, training: TrainingOptions, options: GateOptions
    ) -> None:
        self._adapted, self._training, self._options = adapted, training, options
        self._state = GateState(closed_gates(adapted))
        self.reread(split)

    @property
    def state(self) -> GateState:
        """A value: what comes later changes none of its tensors."""
        return self._state

    def load_state(self, state: GateState) -> None:
        """Go on from there. CheckpointError for gates of another model."""
        own = {name: tuple(tensor.shape) for name, tensor in self._state.gates.tensors.items()}
        held = (state.gates.tensors, *(state.moments[kind] for kind in MOMENTS if kind in state.moments))
        if any({name: tuple(tensor.shape) for name, tensor in one.items()} != own for one in held):
            raise CheckpointError("the saved gates are of another model")
        self._state = state

    def reread(self, split: TokenSplit) -> None:
        """Go on with other text."""
        self._blocks = Blocks(split, self._training.context, derived_seed("gates", self._training.seed) % 2**31)

    def run(self, adapter: Adapter, steps: int | None = None) -> list[float]:
        """Some steps of the gates of this adapter, which stays as it is; the mean loss before each, in nats a token.

        As many as the options say unless told otherwise. A gradient that is not finite has no effect.
        """
        steps = self._options.gate_steps if steps is None else steps
        if not steps:
            return []
        device = next(iter(self._adapted.parameters.values())).device
        live = {name: g.to(device, copy=True).requires_grad_() for name, g in self._state.gates.tensors.items()}
        optimizer = self._begun(live)
        write(self._adapted, adapter)
        losses = []
        with gated(self._adapted, live):
            for step in range(self._state.steps, self._state.steps + steps):
                losses.append(self._gradients(step, live))
                norm = torch.nn.utils.clip_grad_norm_(live.values(), CLIP)
                if math.isfinite(float(norm)):
                    optimizer.step()
                optimizer.zero_grad()
        self._keep(live, optimizer, steps)
        return losses

    def _begun(self, live: Mapping[str, Tensor]) -> torch.optim.AdamW:
        optimizer = torch.optim.AdamW(live.values(), lr=self._options.gate_lr, betas=BETAS, weight_decay=0.0)
        for name, tensor in live.items() if self._state.moments else ():
            optimizer.state[tensor] = {
                "step": torch.tensor(float(self._state.moment_steps)),
                **{kind: self._state.moments[kind][name].to(tensor.device, copy=True) for kind in MOMENTS},
            }
        return optimizer

    def _gradients(self, step: int, live: Mapping[str, Tensor]) -> float:
        """Of one step's mean loss, added up over parts that fit into memory; the loss."""
        rows = self._training.batch_size
        batch = self._blocks.batch(step * rows, rows)
        total = 0.0
        for inputs_bt, targets_bt in self._parts(batch.inputs_bt, batch.targets_bt):
            device, model = next(iter(live.values())).device, self._adapted.model
            with training_precision(device, self._adapted.precision):
                logits_btv = next_token_logits(model, inputs_bt.to(device)).float()
            loss = torch.nn.functional.cross_entropy(
                logits_btv.flatten(0, 1), targets_bt.to(device).flatten(), ignore_index=UNCOUNTED, reduction="sum"
            )
            slopes = torch.autograd.grad(loss / batch.tokens, list(live.values()), allow_unused=True)
            for tensor, slope in zip(live.values(), slopes, strict=True):
                part = torch.zeros_like(tensor) if slope is None else slope
                tensor.grad = part if tensor.grad is None else tensor.grad + part
            total += float(loss.detach()) / batch.tokens
        return total

    def _parts(self, inputs_bt: Tensor, targets_bt: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        length = inputs_bt.shape[1]
        vocabulary = int(self._adapted.model.config.get_text_config().vocab_size)
        rows = min(max(1, (self._adapted.positions or POSITIONS) // length), rows_at_once(length, vocabulary))
        yield from zip(inputs_bt.split(rows), targets_bt.split(rows), strict=True)

    def _keep(self, live: Mapping[str, Tensor], optimizer: torch.optim.AdamW, steps: int) -> None:
        begun = [name for name, tensor in live.items() if tensor in optimizer.state]
        first = optimizer.state[live[begun[0]]]["step"] if begun else 0
        self._state = GateState(
            gates=Gates({name: tensor.detach().cpu() for name, tensor in live.items()}),
            steps=self._state.steps + steps,
            moments={kind: {n: optimizer.state[live[n]][kind].cpu() for n in begun} for kind in MOMENTS * bool(begun)},
            moment_steps=int(first),
        )


@contextmanager
def gated(adapted: AdaptedModel, gates: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, each live layer's adapter sees its input through its gate."""
    layers: dict[str, Any] = {path: adapted.model.get_submodule(path) for path in adapted.targets}
    hooks = [
        layer.lora_A[PEFT_NAME].register_forward_pre_hook(_through(gates[f"{path}{GATE}"]))
        for path, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _through(gate_i: Tensor) -> Any:
    def hook(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (x, *rest) = inputs
        opened = torch.sigmoid(x.float() @ gate_i).unsqueeze(-1)
        return (x * opened.to(x.dtype), *rest)

    return hook
