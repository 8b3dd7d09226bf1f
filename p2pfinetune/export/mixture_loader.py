"""Load what `peerd export` wrote of layers with several adapters, with torch and safetensors alone.

    model = load(AutoModelForCausalLM.from_pretrained(BASE), FOLDER)

BASE is what mixture.json calls `base`. A layer adds, for each token x, the sum of w_e(x) B_e A_e x over its experts e:
w is a softmax over the `selected` largest numbers that the layer's router gives for x; of a single expert, it is one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file


def load(model: Any, folder: str | Path) -> Any:
    """The model, which from now on runs with the folder's adapters."""
    folder = Path(folder)
    told = json.loads((folder / "mixture.json").read_text(encoding="utf-8"))
    routers = load_file(folder / "router.safetensors")
    experts = [load_file(folder / name / "adapter_model.safetensors") for name in told["experts"]]
    for path, numbers in told["layers"].items():
        pairs = [tuple(experts[e][f"base_model.model.{path}.lora_{ab}.weight"] for ab in "AB") for e in numbers]
        router = routers.get(path) if len(pairs) > 1 else None
        model.get_submodule(path).register_forward_hook(_adding(pairs, router, told["selected"]))
    return model


def _adding(pairs: Any, router: Any, selected: int) -> Any:
    def hook(_layer: Any, inputs: Any, output: Any) -> Any:
        x = inputs[0]
        weights = x.new_ones(len(pairs)) if router is None else torch.zeros_like(x @ router.to(x).T)
        if router is not None:
            largest = (x @ router.to(x).T).topk(min(selected, len(pairs)), dim=-1)
            weights = weights.scatter(-1, largest.indices, largest.values.softmax(dim=-1))
        parts = [weights[..., e, None] * (x @ a.to(x).T @ b.to(x).T) for e, (a, b) in enumerate(pairs)]
        return output + sum(parts)

    return hook
