"""Which layers of a model get an adapter: attention and MLP projections, by our own table.

LoRA was published for the attention projections (arXiv 2106.09685, section 4.2); here the MLP has an adapter too, as in
the paper's code (arXiv 2404.09753). Targets are part of the network: two peers whose layers differ cannot merge.

peft has a table too, but it leaves the MLP out and does not know every family here. An architecture outside the table
gets every linear layer, except the output head, what chooses between experts, and what an adapter would be lost on:
a state space runs on its weights without calling the layers that hold them, and where experts are fused into one
tensor, peft takes the names of an MLP for theirs. `said_of` tells what is left out; docs/models.md has the families.

What is linear is found out by running it (`_computes_as_linear`): a class that inherits from nn.Linear may do more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from p2pfinetune.errors import ModelError
from p2pfinetune.model.families import TARGETS

if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from transformers.pytorch_utils import Conv1D

OTHER_SENSES = ("vision_tower", "vision_model", "audio_tower", "multi_modal_projector")
OF_A_STATE = (
    "A_log",
    "D",
)  # what a selective state space has and a gated delta rule, which calls all its layers, has not
CALLED_BY_A_STATE = "in_proj"  # the others are read by the kernels of mamba-ssm; peft refuses to adapt some of them
SAID_ABOVE = 0.05  # of the weights of all layers: a router or a convolution is not worth a sentence


def find_targets(model: PreTrainedModel, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Full paths of the layers that get an adapter, sorted. `wanted` names endings of paths; empty asks the table.

    Raises ModelError for a name that no linear layer has, and lists those there are.
    """
    linear = linear_layers(model)
    if wanted:
        return _named(linear, wanted)
    kind = kind_of(model)
    if endings := TARGETS.get(kind):
        found = [path for path in linear if _ends(path, endings) and not _is_other_sense(path)]
    else:
        head = model.get_output_embeddings()
        found = [
            path
            for path, layer in linear.items()
            if layer is not head and not _is_other_sense(path) and not _is_router(path)
        ]
    if not found:
        raise ModelError(
            f"no layer of this {kind} model can carry an adapter",
            f"its linear layers are: {_endings(linear) or 'none'}; name some with --targets, or choose another model",
        )
    return tuple(sorted(found))


def kind_of(model: PreTrainedModel) -> str:
    """The family, as transformers calls it (`model_type`); the key of TARGETS."""
    return str(getattr(model.config, "model_type", ""))


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Every layer that LoRA can adapt, by path. What only looks like one (a router that gives a pair) is none."""
    called = {f"{path}.{CALLED_BY_A_STATE}" for path in _state_spaces(model)}
    spaces = tuple(f"{path}." for path in _state_spaces(model))
    linear = {
        path: layer
        for path, layer in model.named_modules()
        if _is_linear(layer) and (path in called or not path.startswith(spaces))
    }
    kept = _kept_by_peft(model, linear)
    return {path: layer for path, layer in linear.items() if path in kept}


def is_transposed(model: nn.Module, targets: Sequence[str]) -> bool:
    """Whether most targets store their weight as (in, out), as GPT-2's Conv1D does."""
    layers = [model.get_submodule(path) for path in targets]
    transposed = sum(bool(getattr(layer, "was_transposed", not isinstance(layer, nn.Linear))) for layer in layers)
    return 2 * transposed > len(targets)


def sizes_of(model: nn.Module) -> dict[str, int]:
    """How many numbers each parameter stands for, however it is held."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    coded = {f"{path}.weight": module for path, module in model.named_modules() if hasattr(module, "made")}
    return sizes | {name: module.in_features * module.out_features for name, module in coded.items()}


def check_injected(model: nn.Module, targets: Sequence[str]) -> None:
    """Make sure that peft, which matches by ending of path, adapted exactly our targets."""
    from peft.tuners.lora import LoraLayer

    adapted = {path for path, layer in model.named_modules() if isinstance(layer, LoraLayer)}
    if adapted != set(targets):
        odd = min(adapted ^ set(targets))
        raise ModelError(f"{odd} cannot be adapted apart from others", "name other layers with --targets")


def said_of(model: PreTrainedModel, targets: Sequence[str]) -> str:
    """What a person should know of the layers without an adapter; empty if next to nothing is left out.

    `model` is the one that the targets were found in, without adapters.
    """
    chosen = {f"{path}.weight" for path in targets}
    outside = {id(layer.weight) for layer in (model.get_output_embeddings(), *_embeddings(model)) if layer is not None}
    numbers = sizes_of(model)
    sizes = {n: numbers[n] for n, p in model.named_parameters() if p.ndim > 1 and id(p) not in outside}
    left = {name: size for name, size in sizes.items() if name not in chosen and not _is_other_sense(name)}
    share = sum(left.values()) / max(1, sum(sizes.values()))
    if share <= SAID_ABOVE:
        return ""
    return (
        f"This {kind_of(model)} model is adapted in {_where(targets)}: {_what(model, left)}, {100 * share:.0f} % of "
        "the weights of its layers, cannot carry an adapter and stay as they are"
    )


def _where(targets: Sequence[str]) -> str:
    if all(_is_attention(path) for path in targets):
        return "its attention alone"
    names = _endings(targets)
    return f"its {names} layers alone" if "," not in names else "part"


def _what(model: PreTrainedModel, left: Iterable[str]) -> str:
    """The layers that stay as they are, in words."""
    spaces = tuple(f"{path}." for path in _state_spaces(model))
    kinds = {
        "its experts": any("expert" in name or "moe" in name for name in left),
        "most of its state spaces": bool(spaces) and any(name.startswith(spaces) for name in left),
    }
    return " and ".join(kind for kind, is_there in kinds.items() if is_there) or "some of its layers"


def _state_spaces(model: nn.Module) -> list[str]:
    """Paths of mixers such as Mamba's."""
    return [path for path, module in model.named_modules() if all(hasattr(module, name) for name in OF_A_STATE)]


def _named(linear: dict[str, nn.Module], wanted: Sequence[str]) -> tuple[str, ...]:
    for name in wanted:
        if not any(_ends(path, (name,)) for path in linear):
            raise ModelError(f"the model has no linear layer {name!r}", f"there are: {_endings(linear)}")
    return tuple(sorted(path for path in linear if _ends(path, wanted)))


def _is_linear(layer: nn.Module) -> bool:
    """What computes as a linear layer does, and not only holds the weight of one."""
    from transformers.pytorch_utils import Conv1D

    if getattr(type(layer), "is_linear", False):  # our own (`held`, `quantised`)
        return True
    if type(layer).forward in {nn.Linear.forward, Conv1D.forward}:
        return isinstance(layer, (nn.Linear, Conv1D))
    if isinstance(layer, Conv1D):
        return _computes_as_linear(layer, layer.weight.T)
    return isinstance(layer, nn.Linear) and _computes_as_linear(layer, layer.weight)


@torch.no_grad()
def _computes_as_linear(layer: nn.Linear | Conv1D, weight_oi: Tensor) -> bool:
    """Falcon's layer does, with a forward of its own; a router gives a pair or wants more than it is given."""
    x = torch.linspace(-1.0, 1.0, weight_oi.shape[1], dtype=weight_oi.dtype, device=weight_oi.device).unsqueeze(0)
    try:
        y = layer(x)
    except (TypeError, ValueError, AttributeError, RuntimeError):
        return False
    expected = nn.functional.linear(x, weight_oi, None if layer.bias is None else layer.bias.to(x.dtype))
    return isinstance(y, Tensor) and y.shape == expected.shape and torch.allclose(y, expected, rtol=1e-2, atol=1e-2)


def _kept_by_peft(model: PreTrainedModel, paths: Iterable[str]) -> set[str]:
    """Paths that peft adapts as the layers they are, here and where an export is loaded."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config: Any = LoraConfig(target_modules=list(paths))
    convert_peft_config_for_transformers(config, model=model, conversions=None)
    return set(config.target_modules or ())


def _embeddings(model: nn.Module) -> Iterator[nn.Embedding]:
    return (module for module in model.modules() if isinstance(module, nn.Embedding))


def _endings(paths: Iterable[str]) -> str:
    """Last parts of the paths, each once; of a layer that is an entry of a list, the name of the list."""
    return ", ".join(sorted({[part for part in path.split(".") if not part.isdigit()][-1] for path in paths}))


def _ends(path: str, endings: Sequence[str]) -> bool:
    return any(path == ending or path.endswith(f".{ending}") for ending in endings)


def _is_other_sense(path: str) -> bool:
    return any(part in OTHER_SENSES for part in path.split("."))


def _is_router(path: str) -> bool:
    return any(part == "gate" or "router" in part or part.endswith("expert_gate") for part in path.split("."))


def _is_attention(path: str) -> bool:
    return any("attn" in part or "attention" in part for part in path.split("."))
