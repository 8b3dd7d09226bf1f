"""Several LoRA adapters in one layer: which layers have them, what they are called, and where they start.

One mechanism, for methods that keep a part of what is learnt on the device or apart from what others sent. A layer adds
up its adapters (experts), each by a weight w that is one for all of them, learned for the layer, or given by a router
for each token x:

    y = W x + (alpha / R) sum over e of w_e(x) B_e A_e x

    mixing   weights                                               what is learnt of them
    sum      1                                                     nothing
    layer    softmax of E numbers of the layer                     `<path>.router` (E, 1)
    token    softmax over the two largest of E numbers `router x`  `<path>.router` (E, in)

    sharing      experts                                    in           leaves the device, and what becomes of others'
    generalist   0: generalist, 1..: specialists            MLP layers   the generalist; merged into it
    individual   0: the own, 1: the rest of the world       all          the own; merged, they are the rest of the world
    two-level    0: shared, 1: personal, of a lower rank    all          the shared one; merged into it

`generalist` is CoMiGS (Fan, Messmer, Doikov and Jaggi 2025, arXiv 2409.13931): all adapters of the attention are
generalists, and how many specialists there are is each device's own affair. In the authors' code a router weighs whole
MLPs; here it weighs the adapters of each linear layer of one, since a layer is what carries adapters, in every family.
`individual` is FedALT (repo jmbian/FedALT): the rest of the world is the mean of the others' and does not train.
`two-level` is PF2LoRA (arXiv 2503.03920). With one expert there is nothing to weigh, and the adapter is a plain one.

Expert 0 has the names of a plain adapter, so what travels is what always did; expert e is `<path>.expert<e>.lora_A`.
What never leaves the device starts from the same seed everywhere, with other numbers for each expert: two that are
equal would learn the same. Every B starts at zero and so does nothing; routers start small, not at zero, since of equal
numbers the same two would always be the largest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from p2pfinetune.errors import OptionError
from p2pfinetune.names import ROUTER, expert_of

if TYPE_CHECKING:
    from p2pfinetune.options import AdapterSpec

SELECTED = 2  # of the experts, for each token
ROUTER_SPREAD = 0.02  # standard deviation of a router's first numbers, as of the weights of GPT-2
ROUTERS = 1 << 20  # added to the seed, so that routers share no random numbers with the experts
ATTENTION = ("attn", "attention")

Shapes = Mapping[str, tuple[int, int]]
"""(in, out) of each adapted layer."""


def part(path: str, expert: int) -> str:
    """What the factors of an expert are called before `.lora_A`."""
    return f"{path}.expert{expert}" if expert else path


def named_as(name: str, expert: int) -> str:
    """A plain adapter's factor under the name that it has as an expert."""
    path, _, factor = name.rpartition(".")
    return f"{part(path, expert)}.{factor}"


def mixed_paths(targets: Sequence[str], spec: AdapterSpec) -> tuple[str, ...]:
    """Layers that have several adapters. OptionError if there should be some and no layer can have them."""
    if spec.experts == 1:
        return ()
    if spec.sharing != "generalist":
        return tuple(targets)
    found = tuple(path for path in targets if not _is_attention(path))
    if not found:
        raise OptionError(
            "with sharing generalist, MLP layers have several adapters, and the targets hold none",
            "name some with --targets, or leave it out",
        )
    return found


def _is_attention(path: str) -> bool:
    return any(word in part for part in path.split(".") for word in ATTENTION)


def shared_names(paths: Iterable[str], spec: AdapterSpec) -> list[str]:
    """Further shared adapters of these layers, beside the first one; see `part`."""
    return [part(path, expert) for path in paths for expert in range(1, spec.experts) if spec.shared(expert)]


def own_start(shapes: Shapes, spec: AdapterSpec) -> dict[str, Tensor]:
    """Every factor and router that never leaves this device, at its start."""
    found: dict[str, Tensor] = {}
    paths = sorted(mixed_paths([*shapes], spec))
    for expert in range(1, spec.experts):
        if spec.shared(expert):
            continue
        dice = torch.Generator(device="cpu").manual_seed((spec.init_seed + expert) % 2**63)
        for path in paths:
            inputs, outputs = shapes[path]
            found[f"{part(path, expert)}.lora_A"] = uniform((spec.rank_of(expert), inputs), inputs, dice)
            found[f"{part(path, expert)}.lora_B"] = torch.zeros((outputs, spec.rank_of(expert)))
    return found | _routers(shapes, spec, paths)


def _routers(shapes: Shapes, spec: AdapterSpec, paths: Sequence[str]) -> dict[str, Tensor]:
    if spec.mixes == "sum":
        return {}
    if spec.mixes == "layer":
        return {f"{path}{ROUTER}": torch.zeros((spec.experts, 1)) for path in paths}
    dice = torch.Generator(device="cpu").manual_seed((spec.init_seed + ROUTERS) % 2**63)
    spread = ROUTER_SPREAD**2 * 3.0  # a uniform number in +-b has the variance b^2 / 3
    return {f"{path}{ROUTER}": uniform((spec.experts, shapes[path][0]), 1.0 / spread, dice) for path in paths}


def uniform(shape: tuple[int, int], inverse_square: float, dice: torch.Generator) -> Tensor:
    """Numbers in +-1/sqrt(`inverse_square`).

    Only exact operations and one rounding follow the generator, so that no compiler or processor changes a bit.
    """
    unit = torch.rand(shape, generator=dice, dtype=torch.float32)
    bound = torch.tensor(inverse_square, dtype=torch.float64).rsqrt().to(torch.float32)
    return (2.0 * unit - 1.0) * bound


def lies_as_it_is(name: str) -> bool:
    """Whether a tensor of that name is read along its rows as it stands; a B lies as its transpose."""
    return not name.endswith(".lora_B")


def of_expert(tensors: Mapping[str, Tensor], expert: int) -> dict[str, Tensor]:
    """One of the experts under the names of a plain adapter; of a layer that has one adapter, that one."""
    mark = f".expert{expert}."
    if not expert:
        return {name: tensor for name, tensor in tensors.items() if expert_of(name) == 0}
    return {name.replace(mark, "."): tensor for name, tensor in tensors.items() if expert_of(name) == expert}
