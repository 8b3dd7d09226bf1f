"""LoRA adapters: which layers, from which seeded start, and how values move in and out of a live model.

LoRA (Hu et al. 2021, arXiv 2106.09685, section 4.1) freezes a layer's W and adds a product of two thin matrices: W x +
(alpha / R) B A x. What a peer learns is A and B alone, a half of a percent of GPT-2 at rank 4, which is what makes it
possible to send it to every neighbour in every round.

An `Adapter` is a frozen value (fp32 on the CPU); an `AdaptedModel` is the live thing that trains. Every peer of a
network starts from the same A, drawn here, and B = 0. Nothing here trains, scores or talks.

Which factors leave a device is part of the network (`AdapterSpec.sharing`); what does not leave, nobody else's numbers
ever change:

    sharing   trained   shared   method                                                                     merges are
    both      A, B      A, B     LoRA as in FedIT and arXiv 2404.09753                      inexact in the products BA
    a         A, B      A        FedSA-LoRA (Guo et al. 2025, arXiv 2410.01463)         of A alone; B is a peer's own
    b         B         B        FFA-LoRA (Sun et al. 2024, arXiv 2403.12313)       exact: A is the seeded start for all
    alternate B, then A the same RoLoRA (Chen et al. 2025, arXiv 2502.01755)          exact while all are in one A or B
    sketch    some components    FSLoRA (Fang et al. 2025, arXiv 2501.19389)          as `both`, of those that are told

The last two train, and tell, another portion in each round: `model.portion` and `training.portion_trainer`.

The other values of it are about layers with several adapters, of which some stay here: `parts` says how.

`b` freezes A. With an A of its own at every peer, one peer's B would be read in another's coordinates, and what
measured it (FedSB) found it worse than either. A frozen factor has no gradient and no moments.

A device may hold fewer components of each target than its network speaks of (`AdapterSpec.own_rank`), after HetLoRA
(Cho et al. 2024, arXiv 2401.06432). Updates stay of the network's rank R, so that nobody else has to know:

    padding   A gets the last R - r rows of the seeded start, B columns of zeros: the product BA is the same, and the
              update, being relative to that start, is zero there. HetLoRA pads A with zeros, which would read as a
              change from the start to nothing.
    cutting   of what a neighbour sent, the first r rows of A and columns of B are kept. What else it held is not heard.
    scale     alpha / R for all.

Shapes: A is (rank, in), B is (out, rank); the layer adds (alpha / R) x A^T B^T to what it gave before.
"""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from p2pfinetune.model.fingerprints import bare_tokenizer_digest, canonical_json
from p2pfinetune.model.parts import mixed_paths, own_start, shared_names, uniform
from p2pfinetune.model.precision import Precision
from p2pfinetune.model.targets import check_injected, find_targets, is_transposed
from p2pfinetune.names import ROUTER, Digest
from p2pfinetune.options import AdapterSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from p2pfinetune.model.base import Base

__all__ = [
    "AdaptedModel", "Adapter", "FactorSet", "attach", "cut", "disabled", "factors_of", "first_network_digest",
    "initial_adapter", "network_digest", "padded", "read", "resolve_targets", "tree_of", "write",
]  # fmt: skip

PEFT_NAME = "default"  # of the one adapter that a model carries


@dataclass(frozen=True, slots=True, eq=False)
class FactorSet:
    """Factors by name: `<module path>.lora_A` (rank, in) and `.lora_B` (out, rank). All of an adapter, or a part.

    A layer that has several adapters also has those of `parts`, and a `.router` (experts, in or 1) that weighs them.
    """

    tensors: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        ordered = dict(sorted(self.tensors.items()))
        for name, tensor in ordered.items():
            if tensor.dtype != torch.float32 or tensor.device.type != "cpu" or tensor.ndim != 2:
                raise ValueError(f"{name} is not a matrix of fp32 on the CPU: {tensor.dtype}, {tensor.device}")
            if not name.endswith((".lora_A", ".lora_B", ROUTER)):
                raise ValueError(f"{name} is neither a lora_A nor a lora_B")
        object.__setattr__(self, "tensors", MappingProxyType(ordered))

    @property
    def schema(self) -> dict[str, tuple[int, ...]]:
        """Tensor names to shapes."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def vector(self) -> Tensor:
        """All entries in the order of the names, as one new tensor."""
        return torch.cat([tensor.reshape(-1) for tensor in self.tensors.values()])

    def norm(self) -> float:
        """Frobenius norm over all factors, accumulated in fp64."""
        return float(torch.linalg.vector_norm(self.vector(), dtype=torch.float64))


@dataclass(frozen=True, slots=True, eq=False)
class Adapter(FactorSet):
    """Both factors of every target; of one that has several adapters, of each of them."""

    def __post_init__(self) -> None:
        FactorSet.__post_init__(self)
        for path, a, b in self.pairs():
            if a.shape[0] != b.shape[1]:
                raise ValueError(f"the factors of {path} differ in rank: {a.shape[0]} and {b.shape[1]}")

    def pairs(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """(module path, A, B) of each target, sorted; of further adapters of a layer, their own names (`parts`)."""
        paths = {name.rpartition(".")[0] for name in self.tensors if not name.endswith(ROUTER)}
        for path in sorted(paths):
            try:
                yield path, self.tensors[f"{path}.lora_A"], self.tensors[f"{path}.lora_B"]
            except KeyError as error:
                raise ValueError(f"{path} has only one factor") from error

    def minus(self, other: Adapter) -> Adapter:
        """Entry by entry; both must have the same schema."""
        self._must_fit(other)
        return Adapter({name: tensor - other.tensors[name] for name, tensor in self.tensors.items()})

    def plus(self, other: Adapter) -> Adapter:
        """Entry by entry; both must have the same schema."""
        self._must_fit(other)
        return Adapter({name: tensor + other.tensors[name] for name, tensor in self.tensors.items()})

    def equals(self, other: Adapter) -> bool:
        """Same names and the same numbers to the bit of their value."""
        return self.schema == other.schema and all(torch.equal(t, other.tensors[n]) for n, t in self.tensors.items())

    def _must_fit(self, other: Adapter) -> None:
        if self.schema != other.schema:
            raise ValueError("the adapters differ in their names or shapes")


def factors_of(vector_p: Tensor, schema: Mapping[str, tuple[int, ...]]) -> FactorSet:
    """The other way round than `FactorSet.vector`."""
    sizes = [math.prod(shape) for shape in schema.values()]
    parts = zip(schema.items(), vector_p.float().split(sizes), strict=True)
    return FactorSet({name: part.reshape(shape).clone() for (name, shape), part in parts})


@dataclass(frozen=True, slots=True, eq=False)
class AdaptedModel:
    """A base model with one live adapter. The base's weights are shared with every other adapted model of it."""

    model: PreTrainedModel
    spec: AdapterSpec
    targets: tuple[str, ...]
    start: Adapter
    """The network's seeded start, of the rank of its updates."""
    initial: Adapter
    """The same of the rank that this device holds."""
    parameters: Mapping[str, nn.Parameter]
    """The live factors under the names of `Adapter`."""
    is_transposed: bool
    """Whether the targets are GPT-2's Conv1D, which store their weight as (in, out): peft's `fan_in_fan_out`."""
    precision: Precision = "fp32"
    """In which it is trained, and on CUDA measured."""
    checkpointing: bool = False
    """Whether layers are computed again in the backward pass instead of kept for it."""
    positions: int = 0
    """Tokens of a training pass; 0: as many as keep the device busy."""
    only: str = ""
    """How the names of the factors end that are trained now, if not all are."""

    @property
    def schema(self) -> Mapping[str, tuple[int, ...]]:
        """Tensor names to shapes."""
        return self.initial.schema

    @property
    def shared_schema(self) -> Mapping[str, tuple[int, ...]]:
        """What an update of this network must hold, no more and no less."""
        return {name: shape for name, shape in self.start.schema.items() if self.spec.shares(name)}

    @property
    def trained_schema(self) -> Mapping[str, tuple[int, ...]]:
        """What changes by training, on any level."""
        return {n: shape for n, shape in self.schema.items() if self.spec.trains(n) and n.endswith(self.only)}

    def of_network_rank(self, adapter: Adapter) -> Adapter:
        """The same adapter for tools and peers that know the network's rank and alpha alone."""
        return padded(adapter, self.start)

    @property
    def trained(self) -> Mapping[str, nn.Parameter]:
        """The live factors that training changes; of several adapters in a layer, the first is the live one."""
        return {name: parameter for name, parameter in self.parameters.items() if name in self.trained_schema}


def initial_adapter(shapes: Mapping[str, tuple[int, int]], spec: AdapterSpec) -> Adapter:
    """The network's seeded start, equal on every machine. `shapes` gives (in, out) of each target.

    A is uniform in ±1/sqrt(in), which is kaiming_uniform with a = sqrt(5), the choice of LoRA and peft.
    """
    generator = torch.Generator(device="cpu").manual_seed(spec.init_seed)
    tensors: dict[str, Tensor] = {}
    further = {f"{name}.lora_A" for name in shared_names(mixed_paths([*shapes], spec), spec)}
    for names in ({f"{path}.lora_A" for path in shapes}, further):
        for name in sorted(names):
            owner = name.removesuffix(".lora_A")
            in_features, out_features = shapes[owner if owner in shapes else owner.rpartition(".")[0]]
            tensors[name] = uniform((spec.rank, in_features), in_features, generator)
            tensors[f"{owner}.lora_B"] = torch.zeros((out_features, spec.rank))
    return Adapter(tensors)


def cut(adapter: Adapter, rank: int) -> Adapter:
    """Its first components; the sum of all is the product BA, so what the others held is lost."""
    return Adapter(
        {n: (t[:rank] if n.endswith(".lora_A") else t[:, :rank]).contiguous() for n, t in adapter.tensors.items()}
    )


def padded(adapter: Adapter, start: Adapter) -> Adapter:
    """With the rank of the start, whose other components it has never left: the product BA is the same.

    What the start does not have, since it never leaves this device, stays as it is.
    """
    known = start.tensors
    return Adapter({n: _grown(tensor, known[n]) if n in known else tensor for n, tensor in adapter.tensors.items()})


def _grown(tensor: Tensor, start: Tensor) -> Tensor:
    """The tensor in the upper left corner of the start."""
    grown = start.clone()
    grown[: tensor.shape[0], : tensor.shape[1]] = tensor
    return grown


def resolve_targets(model: PreTrainedModel, spec: AdapterSpec) -> tuple[str, ...]:
    """Full paths of the layers that the spec means in this model, sorted. ModelError for a name without a layer."""
    return find_targets(model, spec.targets)


def attach(base: Base, spec: AdapterSpec) -> AdaptedModel:
    """A model with the seeded adapter in it. The base is left as it is and its tensors are shared, not copied."""
    targets = resolve_targets(base.model, spec)
    transposed = is_transposed(base.model, targets)
    model = tree_of(base.model)
    _inject(model, spec, targets, is_transposed=transposed)
    check_injected(model, targets)
    parameters, shapes = {}, {}
    for path in targets:
        layer: Any = model.get_submodule(path)
        layer.scaling[PEFT_NAME] = spec.scale
        layer.lora_A.float(), layer.lora_B.float()  # peft takes the base's numbers for them
        a, b = layer.lora_A[PEFT_NAME].weight, layer.lora_B[PEFT_NAME].weight
        parameters[f"{path}.lora_A"], parameters[f"{path}.lora_B"] = a, b
        shapes[path] = (a.shape[1], b.shape[0])
    start = initial_adapter(shapes, spec)
    initial = start if spec.held_rank == spec.rank else cut(start, spec.held_rank)
    if spec.experts > 1:
        initial = Adapter({**initial.tensors, **own_start(shapes, spec)})
    live = MappingProxyType(dict(sorted(parameters.items())))
    adapted = AdaptedModel(
        model, spec, targets, start, initial, live, is_transposed=transposed, precision=base.precision,
        checkpointing=base.checkpointing, positions=base.positions,
    )  # fmt: skip
    _copy(initial, live)
    for name, parameter in live.items():
        parameter.requires_grad_(spec.trains(name))
    model.eval()
    return adapted


def tree_of(model: PreTrainedModel) -> PreTrainedModel:
    """The module tree copied and its tensors not: every parameter and buffer maps to itself.

    So does a state that a recurrent model kept of its last pass, and writes anew in the next.
    """
    states = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    shared: dict[int, Any] = {id(t): t for t in (*model.parameters(), *model.buffers(), *states)}
    return copy.deepcopy(model, shared)


def _inject(model: PreTrainedModel, spec: AdapterSpec, targets: Sequence[str], *, is_transposed: bool) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=spec.held_rank,
        lora_alpha=spec.alpha,  # the scale that peft makes of it is replaced
        lora_dropout=spec.dropout,
        target_modules=list(targets),
        fan_in_fan_out=is_transposed,
        init_lora_weights=False,  # drawn by initial_adapter instead
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):  # peft draws numbers that nobody needs
        warnings.filterwarnings("ignore", message=".*fan_in_fan_out.*")  # a model may mix both kinds of layer
        inject_adapter_in_model(config, model, adapter_name=PEFT_NAME)


def read(adapted: AdaptedModel) -> Adapter:
    """A copy of the live factors."""
    live = adapted.parameters.items()
    return Adapter({name: p.detach().to("cpu", torch.float32, copy=True) for name, p in live})


def write(adapted: AdaptedModel, adapter: Adapter) -> None:
    """Copy an adapter into the live factors, in place: optimizers keep their hold on them.

    ValueError if it does not fit: several adapters in a layer run on a stack alone (`batched.stack`).
    """
    if adapter.schema != adapted.schema or adapter.schema.keys() != adapted.parameters.keys():
        raise ValueError("the adapter does not fit this model")
    _copy(adapter, adapted.parameters)


def _copy(adapter: Adapter, live: Mapping[str, nn.Parameter]) -> None:
    with torch.no_grad():
        for name, parameter in live.items():
            parameter.copy_(adapter.tensors[name])


@contextmanager
def disabled(adapted: AdaptedModel) -> Iterator[PreTrainedModel]:
    """The model without its adapter: the base."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [layer for layer in adapted.model.modules() if isinstance(layer, BaseTunerLayer)]
    were_enabled = [layer for layer in layers if not layer.disable_adapters]
    for layer in were_enabled:
        layer.enable_adapters(enabled=False)
    try:
        yield adapted.model
    finally:
        for layer in were_enabled:
            layer.enable_adapters(enabled=True)


def network_digest(base: Base, spec: AdapterSpec, targets: Sequence[str], initial: Adapter, group: str) -> Digest:
    """What two peers must agree on to mix (design, section 3 'Networks'); see docs/protocol.md for the encoding."""
    meaning = {
        "kind": "peerd network 2",
        "tokenizer": base.tokenizer_digest,
        "config": base.config_digest,
        **_what_is_adapted(base, spec, targets, initial, group),
    }
    return Digest(hashlib.sha256(canonical_json(meaning)).hexdigest())


def first_network_digest(base: Base, spec: AdapterSpec, targets: Sequence[str], initial: Adapter, group: str) -> Digest:
    """What the same network was called while neither configuration nor special tokens were part of it.

    What was trained then goes on; whether it was with this configuration, nobody wrote down.
    """
    meaning = {
        "kind": "peerd network 1",
        "tokenizer": bare_tokenizer_digest(base.tokenizer),
        **_what_is_adapted(base, spec, targets, initial, group),
    }
    return Digest(hashlib.sha256(canonical_json(meaning)).hexdigest())


def _what_is_adapted(
    base: Base, spec: AdapterSpec, targets: Sequence[str], initial: Adapter, group: str
) -> dict[str, Any]:
    return {
        "base_tensors": base.tensors_digest,
        "targets": sorted(targets),
        "rank": spec.rank,
        "alpha": spec.alpha,
        "sharing": spec.sharing,
        "initial": _start_digest(initial),
        "group": group,
    }


def _start_digest(initial: Adapter) -> str:
    """Over path, shape and little-endian fp32 bytes of every A, sorted by path; B is zero by construction."""
    digest = hashlib.sha256()
    for path, a, _ in initial.pairs():
        digest.update(canonical_json([path, list(a.shape)]))
        digest.update(a.contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()
