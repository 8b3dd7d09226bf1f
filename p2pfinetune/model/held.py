"""Weights held in 16 bits and computed with in 32, a layer at a time: half the memory, and the figures of fp32.

A checkpoint of today is stored in bf16, and each of its numbers is a number of fp32 as it is. So nothing is gained by
holding them all in fp32 at once: a layer's weight is made one when the layer runs, multiplied with, and dropped, in
the forward pass as in the backward one. What is computed is the same to the bit; what it costs is one pass over the
weights for each product, little against a product with hundreds of rows. Under autocast to bf16 it costs less than
nothing, as the cast of a weight from fp32 falls away.

Held so are the matrices of exactly the layers that are known here; everything else (norms, biases, convolutions,
layers with a forward of their own) is little, and is made fp32 when the model is loaded.

Shapes: i inputs, o outputs, v entries of an embedding, d its width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear
from transformers.pytorch_utils import Conv1D

from p2pfinetune.model.targets import OF_A_STATE

STORED = {"BF16": torch.bfloat16, "F16": torch.float16}
LARGE = 1 << 24  # numbers of a weight, 64 MB in fp32: an output layer of 150,000 entries is made in parts
PART = 1 << 19  # numbers, 2 MB in fp32, which stay in a processor's cache
FEW = 16  # rows, as when a text is gone on with: making the weight is then most of the work, and parts make it quick


class HeldLinear(nn.Linear):
    """Its weight is of 16 bits; input, bias and output are of 32."""

    is_linear = True

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear with that weight in the input's numbers."""
        return product(x, self, self.bias)


class HeldConv1D(Conv1D):  # type: ignore[misc]
    """The same of GPT-2's layer."""

    is_linear = True

    def forward(self, x: Tensor) -> Tensor:
        """As Conv1D."""
        return product(x, self, self.bias)


class HeldEmbedding(nn.Embedding):
    """Its entries are of 16 bits and come out as fp32."""

    def forward(self, ids: Tensor) -> Tensor:
        """As nn.Embedding."""
        return embedding(ids, self.weight, self.padding_idx).float()


KNOWN: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: HeldLinear, Conv1D: HeldConv1D, nn.Embedding: HeldEmbedding,
}  # fmt: skip


def holding(model_class: type[Any], dtype: torch.dtype) -> type[Any]:
    """A class whose instances are built to hold their matrices in 16 bits and all else in 32, before any is loaded.

    transformers fills each parameter in the numbers that the empty model has for it. Built in 16 bits as a whole, a
    model would round what it computes for itself, such as tables of positions.
    """

    def built(self: Any, *inputs: Any, **named: Any) -> None:
        model_class.__init__(self, *inputs, **named)
        hold(self, dtype)

    names = {"__init__": built, "__module__": model_class.__module__}
    return type(model_class.__name__, (model_class,), names)


def hold(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace the layers that are known, and make room for their weights in 16 bits; what they hold is not kept."""
    room: dict[int, nn.Parameter] = {}  # tied layers share it
    for module in [*model.modules()]:
        reads_weights = all(hasattr(module, name) for name in OF_A_STATE)  # past the layers that hold them
        children: list[tuple[str, Any]] = [] if reads_weights else [*module.named_children()]
        for name, child in children:
            if type(child) in KNOWN:
                empty = torch.empty_like(child.weight, dtype=dtype)
                weight = room.setdefault(id(child.weight), nn.Parameter(empty, requires_grad=False))
                setattr(module, name, _as(KNOWN[type(child)], child, weight))


def _as(kind: type[nn.Module], layer: nn.Module, weight: nn.Parameter) -> nn.Module:
    """The layer as one of this kind, with another weight."""
    found = kind.__new__(kind)
    found.__dict__.update(layer.__dict__)
    found._parameters = {**layer._parameters, "weight": weight}  # noqa: SLF001 - of one class and its subclass
    return found


@torch.no_grad()
def computes_in_fp32(model: Any) -> bool:
    """Whether no layer that is held is given 16 bits: some families ask a weight for its numbers, and compute in them.

    Found out by running it. What cannot be run at all is for others to tell.
    """
    seen: set[torch.dtype] = set()
    hooks = [
        module.register_forward_hook(lambda _module, inputs, _output: seen.add(inputs[0].dtype))
        for module in model.modules()
        if isinstance(module, (HeldLinear, HeldConv1D))
    ]
    was_training = model.training
    try:
        model.eval()(input_ids=torch.zeros((1, 2), dtype=torch.int64, device=model.device), use_cache=False)
    except RuntimeError:
        return False
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()
    return seen <= {torch.float32}


def weight_of(layer: Any, dtype: torch.dtype) -> Tensor:
    """The weight (o, i) of a linear layer or Conv1D in these numbers; a view of its own if it is held in them."""
    if (made := getattr(layer, "made", None)) is not None:  # of codes (`quantised`)
        found: Tensor = made(dtype)
        return found
    weight: Tensor = layer.weight
    return (weight.T if isinstance(layer, Conv1D) else weight).to(dtype)


def parts_of(layer: Any, dtype: torch.dtype, entries: int = 0, rows: int = FEW) -> Iterator[tuple[slice, Tensor]]:
    """So many outputs of the weight at a time; by itself, a whole, or parts of what is made, if large or for few rows.

    A product by parts may differ from the whole in its last bit.
    """
    if hasattr(layer, "made"):
        yield slice(0, layer.out_features), weight_of(layer, dtype)
        return
    outputs = layer.nf if isinstance(layer, Conv1D) else layer.out_features
    is_whole = layer.weight.dtype == dtype or (rows > FEW and layer.weight.numel() <= LARGE)
    step = entries or (outputs if is_whole else max(1, PART * outputs // layer.weight.numel()))
    for place in range(0, outputs, step):
        here = slice(place, min(place + step, outputs))
        yield here, (layer.weight[:, here].T if isinstance(layer, Conv1D) else layer.weight[here]).to(dtype)


def product(x: Tensor, layer: Any, bias: Tensor | None) -> Tensor:
    """X times the weight of the layer plus the bias, in the numbers of x, or those of autocast."""
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    with torch.autocast(kind, enabled=False):
        found: Tensor = _Product.apply(x.to(dtype), layer, None if bias is None else bias.to(dtype))  # type: ignore[no-untyped-call]
    return found


class _Product(torch.autograd.Function):
    """Keeps no weight for the backward pass but makes it anew there: kept, they would all be there at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: Any, bias: Tensor | None) -> Tensor:
        """In parts of the outputs if the weight is large."""
        ctx.layer = layer
        parts = parts_of(layer, x.dtype, rows=x.numel() // x.shape[-1])
        found = [linear(x, weight_oi, None if bias is None else bias[here]) for here, weight_oi in parts]
        return found[0] if len(found) == 1 else torch.cat(found, dim=-1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of x alone: the weight is frozen."""
        if not ctx.needs_input_grad[0]:
            return (None, None, None)
        (dy,) = gradients
        dx: Tensor | None = None
        for here, weight_oi in parts_of(ctx.layer, dy.dtype, rows=dy.numel() // dy.shape[-1]):
            part = dy[..., here].matmul(weight_oi)
            dx = part if dx is None else dx.add_(part)
        return (dx, None, None)
