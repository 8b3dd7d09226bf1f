"""A model that carries the adapters of several peers at once. Its base is shared with every other model of it.

All factors of a peer are one row of one matrix, and so are their gradients: norms, clipping and the optimizer's step
are a few operations on rows instead of thousands on small tensors. B lies in a row as its transpose; see `layers`.
Layers hold views into the rows and no copies, so a step on the rows is a step of every layer.

The model of a stack is a copy of the module tree with the same tensors, in which every target is a `StackedLinear`: the
live model with peft's layers stays as it is beside it, for whatever runs one adapter.

Shapes: k peers, p numbers of an adapter.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from p2pfinetune.batched.layers import StackedLinear
from p2pfinetune.batched.mixtures import Factors, MixedFactors, balance
from p2pfinetune.batched.output import Output
from p2pfinetune.batched.packing import can_pack
from p2pfinetune.batched.recompute import recompute
from p2pfinetune.model.adapter import AdaptedModel, tree_of
from p2pfinetune.model.parts import lies_as_it_is, part
from p2pfinetune.names import ROUTER, Mixing

Schema = Mapping[str, tuple[int, ...]]


class AdapterStack:
    """Of one base and kind of adapter; how many peers it holds may change from use to use."""

    def __init__(self, adapted: AdaptedModel, *, speaks: bool = False) -> None:
        """`speaks`: the model gives logits, as whoever generates text expects of it."""
        self.adapted = adapted
        self.device = next(iter(adapted.parameters.values())).device
        self._tape = torch.zeros((), requires_grad=True, device=self.device)
        self.model, self._layers = _tree(adapted, self._tape)
        self.output = Output(self.model, stays=speaks)
        self.kind = kind_of(adapted)
        self.is_noisy = draws_noise(adapted.model)
        """Whether training draws random numbers, for dropout."""
        if adapted.checkpointing:
            recompute(self.model, is_noisy=self.is_noisy)

    def positions(self, usual: Mapping[str, int], elsewhere: int) -> int:
        """Tokens of one pass: as this base was told, so that it fits, else what suits the device."""
        return self.adapted.positions or usual.get(self.device.type, elsewhere)

    @cached_property
    def packs(self) -> bool:
        """Whether this model can be run without padding; see `packing`."""
        return can_pack(self.model)

    def use(self, values_kp: Tensor, gradients_kp: Tensor | None = None, schema: Schema | None = None) -> None:
        """Run these adapters from now on. Backward passes add to `gradients_kp`; changed values take effect at once.

        `schema` if the rank is not the live model's, or the order another; alpha / rank stays as it is. Gradients
        may be narrower: of as many of its first tensors as fit.
        """
        schema = schema or self.adapted.schema
        values = views(schema, values_kp)
        gradients = views(_first(schema, gradients_kp.shape[1]), gradients_kp) if gradients_kp is not None else {}
        for path, layer in self._layers.items():
            layer.factors = _of_layer(path, self.adapted.spec.mixes, values, gradients)

    def balance(self) -> Tensor | None:
        """(k,): of the last pass with gradients, the mean over layers that route; None if none does. See `mixtures`."""
        seen = [logits for layer in self._layers.values() for logits in _seen(layer)]
        return torch.stack([balance(logits_kme) for logits_kme in seen]).mean(dim=0) if seen else None

    def release(self) -> None:
        """Hold no adapter: the base alone."""
        for layer in self._layers.values():
            layer.factors = None

    @property
    def vocabulary(self) -> int:
        """Entries of the output layer."""
        return int(self.adapted.model.config.get_text_config().vocab_size)

    @contextmanager
    def with_dropout(self) -> Iterator[None]:
        """Dropout acts inside, if there is any; everything that measures runs outside."""
        if self.is_noisy:
            self.model.train()
        try:
            yield
        finally:
            self.model.eval()

    def returned(self, inputs_bt: Tensor) -> Tensor:
        """What `output` makes losses of, by row and position; rows belong to the peers in equal parts and in order."""
        found: Tensor = self.model(input_ids=inputs_bt, use_cache=False).logits
        return found


def kind_of(adapted: AdaptedModel) -> Hashable:
    """Equal for adapted models that share a base's tensors, run alike and add the same kind of adapter."""
    live = {id(parameter) for parameter in adapted.parameters.values()}
    frozen = tuple(id(p) for p in adapted.model.parameters() if id(p) not in live)
    scale, dropout = adapted.spec.scale, adapted.spec.dropout
    return (
        frozen,
        tuple(adapted.schema.items()),
        tuple(adapted.trained_schema),
        adapted.spec.mixes,
        scale,
        dropout,
        adapted.precision,
        adapted.checkpointing,
    )


def views(schema: Schema, rows_kp: Tensor) -> dict[str, Tensor]:
    """Each tensor of the adapters in the memory of the rows: A as (k, rank, in) and B as (k, rank, out).

    A router lies as it is, (k, experts, in or 1).
    """
    parts = rows_kp.split([shape[0] * shape[1] for shape in schema.values()], dim=1)
    return {
        name: part.unflatten(1, shape if lies_as_it_is(name) else shape[::-1])
        for (name, shape), part in zip(schema.items(), parts, strict=True)
    }


def _first(schema: Schema, numbers: int) -> Schema:
    """The first tensors, which together have so many numbers."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in schema.items():
        if numbers <= 0:
            break
        found[name] = shape
        numbers -= shape[0] * shape[1]
    return found


def rows_of(schema: Schema, adapters: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The tensors of some adapters, or of their moments, as a new matrix."""
    rows_kp = torch.empty(len(adapters), sum(shape[0] * shape[1] for shape in schema.values()))
    for name, tensor in views(schema, rows_kp).items():
        held = torch.stack([tensors[name] for tensors in adapters])
        tensor.copy_(held if lies_as_it_is(name) else held.mT)
    return rows_kp


def apart(schema: Schema, rows_kp: Tensor) -> list[dict[str, Tensor]]:
    """The other way round, as a copy on the CPU; a tensor's copies of all adapters lie in one piece of memory."""
    found = views(schema, rows_kp.detach().cpu())
    own = {
        name: t.clone(memory_format=torch.contiguous_format) if lies_as_it_is(name) else t.mT.contiguous()
        for name, t in found.items()
    }
    split = {name: tensor.unbind() for name, tensor in own.items()}
    return [{name: tensors[k] for name, tensors in split.items()} for k in range(len(rows_kp))]


def row_of(schema: Schema, tensors: Mapping[str, Tensor]) -> Tensor:
    """The tensors of one adapter as a new row."""
    return torch.cat([(tensors[name] if lies_as_it_is(name) else tensors[name].mT).reshape(-1) for name in schema])


def tensors_of(schema: Schema, row_p: Tensor) -> dict[str, Tensor]:
    """The other way round; in the memory of the row."""
    found = views(schema, row_p.unsqueeze(0))
    return {name: tensor[0] if lies_as_it_is(name) else tensor[0].mT for name, tensor in found.items()}


def _tree(adapted: AdaptedModel, tape: Tensor) -> tuple[Any, dict[str, StackedLinear]]:
    """The modules are copied and the tensors are not, as in `attach`."""
    model: Any = tree_of(adapted.model)
    layers = {}
    for path in adapted.targets:
        peft_layer: Any = model.get_submodule(path)
        layer = StackedLinear(peft_layer.get_base_layer(), adapted.spec.scale, adapted.spec.dropout, tape)
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, layer)
        layers[path] = layer
    return model.eval(), layers


def _of_layer(
    path: str, mixing: Mixing, values: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> Factors | MixedFactors:
    """Its one adapter, or all of them, by their names."""
    experts: list[Factors] = []
    while (a := f"{part(path, len(experts))}.lora_A") in values:
        b = f"{part(path, len(experts))}.lora_B"
        experts.append(Factors(values[a], values[b], gradients.get(a), gradients.get(b)))
    if len(experts) == 1:
        return experts[0]
    router = f"{path}{ROUTER}"
    return MixedFactors(tuple(experts), mixing, values.get(router), gradients.get(router))


def _seen(layer: StackedLinear) -> list[Tensor]:
    return layer.factors.seen if isinstance(layer.factors, MixedFactors) else []


def draws_noise(model: nn.Module) -> bool:
    """Whether the model itself draws random numbers in training."""
    for module in model.modules():
        if "Dropout" in type(module).__name__ and getattr(module, "p", 0.0) > 0.0:
            return True
        if any("drop" in name and isinstance(value, float) and value > 0.0 for name, value in vars(module).items()):
            return True
    return False
