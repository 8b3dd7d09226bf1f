"""Which layers of a model get an adapter: attention and MLP projections, by our own table.

peft has a table too, but it leaves the MLP out and does not know every family here. An architecture outside the table
gets all its linear layers except the output head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from p2pfinetune.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TARGETS: dict[str, tuple[str, ...]] = {
    "gpt2": ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    "gpt_neox": ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _LLAMA,
    "gemma3": _LLAMA,
    "gemma3_text": _LLAMA,
    "phi": ("q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"),
    "phi3": ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"),
}
"""transformers' `model_type` to endings of module paths."""

OTHER_SENSES = ("vision_tower", "vision_model", "audio_tower", "multi_modal_projector")


def find_targets(model: PreTrainedModel, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Full paths of the layers that get an adapter, sorted. `wanted` names endings of paths; empty asks the table.

    Raises ModelError for a name that no linear layer has, and lists those there are.
    """
    linear = linear_layers(model)
    if wanted:
        return _named(linear, wanted)
    kind = str(getattr(model.config, "model_type", ""))
    if endings := TARGETS.get(kind):
        found = [path for path in linear if _ends(path, endings) and not _is_other_sense(path)]
    else:
        head = model.get_output_embeddings()
        found = [path for path, layer in linear.items() if layer is not head and not _is_other_sense(path)]
    if not found:
        raise ModelError(f"no layer of this {kind} model can carry an adapter", "name the layers with `targets`")
    return tuple(sorted(found))


def linear_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Every layer that LoRA can adapt, by path."""
    from transformers.pytorch_utils import Conv1D

    return {path: layer for path, layer in model.named_modules() if isinstance(layer, (nn.Linear, Conv1D))}


def is_transposed(model: nn.Module, targets: Sequence[str]) -> bool:
    """Whether most targets store their weight as (in, out), as GPT-2's Conv1D does."""
    transposed = sum(not isinstance(model.get_submodule(path), nn.Linear) for path in targets)
    return 2 * transposed > len(targets)


def check_injected(model: nn.Module, targets: Sequence[str]) -> None:
    """Make sure that peft, which matches by ending of path, adapted exactly our targets."""
    from peft.tuners.lora import LoraLayer

    adapted = {path for path, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    if adapted != set(targets):
        odd = min(adapted ^ set(targets))
        raise ModelError(f"{odd} cannot be adapted apart from others", "name other layers with `targets`")


def _named(linear: dict[str, nn.Module], wanted: Sequence[str]) -> tuple[str, ...]:
    for name in wanted:
        if not any(_ends(path, (name,)) for path in linear):
            there = sorted({path.rsplit(".", 1)[-1] for path in linear})
            raise ModelError(f"the model has no linear layer {name!r}", f"there are: {', '.join(there)}")
    return tuple(sorted(path for path in linear if _ends(path, wanted)))


def _ends(path: str, endings: Sequence[str]) -> bool:
    return any(path == ending or path.endswith(f".{ending}") for ending in endings)


def _is_other_sense(path: str) -> bool:
    return any(part in OTHER_SENSES for part in path.split("."))
