"""Layers with several adapters, in forms that other programs load.

If each has a weight of its own for all tokens (mixing by sum or layer), all of them are one adapter whose rank is the
sum of theirs, A = [A_0; A_1; ...] and B = s [w_0 B_0, w_1 B_1, ...], exactly; it is exported as any other. A router for
each token cannot be said so, in no form that other programs know. Then a folder holds one PEFT adapter for each expert,
what routes between them, and how:

    mixture.json          {kind, base, selected, experts: [folder, ...], layers: {path: [expert, ...]}}
    router.safetensors    by path of the layer: (experts, in)
    expert-0, expert-1... a PEFT folder each, of scale one; expert 0 has all adapted layers, others those that route
    load_mixture.py       reads all that, with torch and safetensors alone: `load(model, folder)`
    and the tokenizer

A single expert can be had as a plain adapter, in every form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from p2pfinetune.errors import ExportError, OptionError
from p2pfinetune.export import mixture_loader
from p2pfinetune.export.stored import Exportable
from p2pfinetune.model.adapter import Adapter
from p2pfinetune.model.base import public_name
from p2pfinetune.model.parts import SELECTED, mixed_paths, of_expert, part
from p2pfinetune.model.peft_folder import export_folder
from p2pfinetune.names import ROUTER
from p2pfinetune.options import AdapterSpec

KIND = "peerd mixture 1"
TOLD, ROUTERS, LOADER = "mixture.json", "router.safetensors", "load_mixture.py"


def plain(trained: Exportable) -> Exportable | None:
    """The same as one adapter in each layer; None if a router weighs several for each token."""
    spec = trained.spec
    if spec.experts == 1:
        return trained
    if spec.mixes == "token":
        return None
    tensors, known = {}, trained.adapter.tensors
    for path in of_all(trained):
        own = [e for e in range(spec.experts) if f"{part(path, e)}.lora_A" in known]
        weights = _weights(known.get(f"{path}{ROUTER}"), len(own))
        tensors[f"{path}.lora_A"] = torch.cat([known[f"{part(path, e)}.lora_A"] for e in own])
        tensors[f"{path}.lora_B"] = torch.cat([w * known[f"{part(path, e)}.lora_B"] for e, w in weights], dim=1)
    return _of_scale_one(trained, tensors)


def one_expert(trained: Exportable, expert: int) -> Exportable:
    """One of them as a plain adapter, as if it weighed one. OptionError if there is none of that number."""
    if not 0 <= expert < trained.spec.experts:
        held = "one adapter" if trained.spec.experts == 1 else f"{trained.spec.experts} adapters"
        raise OptionError(f"there is no expert {expert}: a layer has {held} here", "they are counted from 0")
    return trained if trained.spec.experts == 1 else _of_scale_one(trained, of_expert(trained.adapter.tensors, expert))


def must_be_sayable(trained: Exportable | None, form: str) -> Exportable:
    """ExportError for what that form has no words for."""
    if trained is None:
        raise ExportError(
            f"{form} has no words for a router that weighs several adapters for each token",
            "take --format peft, which writes all of them and how to mix them, or one alone: --expert 0 is the shared",
        )
    return trained


def of_all(trained: Exportable) -> list[str]:
    """Paths of all adapted layers."""
    return sorted({name.rpartition(".")[0] for name in of_expert(trained.adapter.tensors, 0)})


def _weights(router: Tensor | None, experts: int) -> list[tuple[int, float]]:
    """Of each expert of a layer that weighs them for all tokens alike."""
    if router is None:
        return [(e, 1.0) for e in range(experts)]
    return [*enumerate(router.squeeze(1).double().softmax(dim=0).tolist())]


def _of_scale_one(trained: Exportable, tensors: Mapping[str, Tensor]) -> Exportable:
    """The scale goes into B, since alpha is a whole number; all layers get the largest rank, with zeros."""
    rank = max(t.shape[0] for name, t in tensors.items() if name.endswith(".lora_A"))
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(".lora_A"):
            found[name] = pad(tensor, (0, 0, 0, rank - tensor.shape[0]))
        else:
            found[name] = pad(trained.spec.scale * tensor, (0, rank - tensor.shape[1]))
    spec = AdapterSpec(rank=rank, alpha=rank, targets=trained.spec.targets, dropout=trained.spec.dropout)
    return replace(trained, adapter=Adapter(found), spec=spec)


def write_mixture(trained: Exportable, folder: Path, beside: Mapping[str, bytes]) -> None:
    """Into an empty folder; `beside` are further files by name."""
    from safetensors.torch import save_file

    spec, known, base = trained.spec, trained.adapter.tensors, public_name(trained.base)
    names = [f"expert-{e}" for e in range(spec.experts)]
    for e, name in enumerate(names):
        one = one_expert(trained, e)
        paths = [path for path, _, _ in one.adapter.pairs()]
        export_folder(folder / name, one.adapter, one.spec, base, paths, is_transposed=one.is_transposed)
    mixed = set(mixed_paths(of_all(trained), spec))
    layers = {path: [*range(spec.experts)] if path in mixed else [0] for path in of_all(trained)}
    told = {"kind": KIND, "base": base, "selected": SELECTED, "experts": names, "layers": layers}
    save_file({path: known[f"{path}{ROUTER}"].contiguous() for path in sorted(mixed)}, folder / ROUTERS)
    (folder / TOLD).write_text(f"{json.dumps(told, indent=2)}\n", encoding="utf-8")
    (folder / LOADER).write_text(Path(mixture_loader.__file__).read_text(encoding="utf-8"), encoding="utf-8")
    for name, content in beside.items():
        (folder / name).write_bytes(content)
