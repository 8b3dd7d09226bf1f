"""Weights in 8 or 4 bits: a quarter or an eighth of the memory of fp32, for a base that computes a little otherwise.

    8bit   a whole number from -127 to 127 times the scale of its group; half a percent off, root mean square
    4bit   one of the 16 quantiles of a normal distribution (NF4, Dettmers et al. 2023, arXiv 2305.14314, appendix E)
           times the scale, the largest magnitude of the group; nine percent off

A group is 64 weights of one input, for outputs side by side, so that scaling is one product of rows. Codes become
numbers of bf16, and then those that are wanted, a layer at a time as in `held`; the adapter, its gradients and all
activations are as with any other base (QLoRA). Only the layers that can carry an adapter are quantised: embeddings and
the output layer are where it costs most and brings least.

This is plain torch, so that it runs wherever torch does; docs/adr has what bitsandbytes and torchao did instead. What a
base is called in a network is a digest of what is stored (`fingerprints`), so peers need not agree on any of this.

Shapes: i inputs, o outputs, g groups, of 64 outputs each.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from p2pfinetune.model.held import product, weight_of
from p2pfinetune.model.targets import find_targets

Kind = Literal["8bit", "4bit"]
GROUP = 64
LEAST_GROUP = 8  # outputs that no larger power of two divides; with fewer, scales take more than they save
LARGEST = 127
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
"""The quantiles, as bitsandbytes has them."""


class QuantisedLinear(nn.Linear):
    """In the place of a linear layer or Conv1D. `weight` holds codes; `made` gives the numbers that they stand for."""

    is_linear = True
    scales: Tensor
    pairs: Tensor | None

    def __init__(self, layer: Any, kind: Kind, group: int) -> None:
        nn.Module.__init__(self)
        weight_oi = weight_of(layer, torch.float32).detach().contiguous()
        self.out_features, self.in_features = weight_oi.shape
        self.was_transposed = not isinstance(layer, nn.Linear)
        """Whether it stands for a Conv1D, whose weight is stored as (in, out)."""
        grouped_ggi = weight_oi.unflatten(0, (-1, group))
        largest_gi = grouped_ggi.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(torch.bfloat16).tiny)
        scales = (largest_gi / LARGEST if kind == "8bit" else largest_gi).bfloat16()
        parts_ggi = grouped_ggi / scales.float()
        codes = whole(parts_ggi) if kind == "8bit" else nearest_quantiles(parts_ggi)
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.bias = layer.bias
        self.register_buffer("scales", scales, persistent=False)
        self.register_buffer("pairs", None if kind == "8bit" else pairs().to(codes.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear with the numbers that the codes stand for."""
        return product(x, self, self.bias)

    def made(self, dtype: torch.dtype) -> Tensor:
        """The weight (o, i) in these numbers, rounded to bf16 on the way."""
        if self.pairs is None:
            parts = self.weight.bfloat16()
        else:
            parts = self.pairs.index_select(0, self.weight.flatten().int()).view(torch.bfloat16)
        return parts.view(len(self.scales), -1, self.in_features).mul_(self.scales).flatten(0, 1).to(dtype)


def whole(parts_ggi: Tensor) -> Tensor:
    """The nearest whole numbers, as int8."""
    return parts_ggi.round().clamp_(-LARGEST, LARGEST).to(torch.int8)


def nearest_quantiles(parts_ggi: Tensor) -> Tensor:
    """Numbers of those nearest, two of neighbouring inputs in a byte, the first in its upper half."""
    quantiles = torch.tensor(NF4, device=parts_ggi.device)
    numbers = torch.bucketize(parts_ggi, (quantiles[1:] + quantiles[:-1]) / 2).to(torch.uint8)
    return (numbers[..., 0::2] << 4) | numbers[..., 1::2]


def pairs() -> Tensor:
    """(256,): for each byte, its two quantiles as numbers of bf16 in one of 32 bits, which can be looked up at once."""
    quantiles = torch.tensor(NF4).bfloat16()
    both = torch.stack((quantiles.repeat_interleave(16), quantiles.repeat(16)), dim=1)
    return both.view(torch.int32).flatten()


def quantise(model: Any, kind: Kind) -> None:
    """The layers that can carry an adapter, one after the other, so that one alone is there twice."""
    for path in find_targets(model):
        layer: Any = model.get_submodule(path)
        outputs, inputs = weight_of(layer, layer.weight.dtype).shape
        group = min(GROUP, outputs & -outputs)  # the largest power of two that divides it
        if group < LEAST_GROUP or inputs % 2:
            continue
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, QuantisedLinear(layer, kind, group))
    _let_go_of_files(model)


def _let_go_of_files(model: nn.Module) -> None:
    """What stays as it is stored is a view of the checkpoint, mapped as a whole until nothing is left of it."""
    made = {id(module.weight) for module in model.modules() if isinstance(module, QuantisedLinear)}
    for parameter in model.parameters():
        if id(parameter) not in made:
            parameter.data = parameter.data.clone()
