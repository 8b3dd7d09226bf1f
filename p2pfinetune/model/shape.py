"""What of a model its memory follows from, read from `config.json` and the headers of its weights: no weight is loaded.

Sizes of tensors are those that are stored; widths of what runs between them are the configuration's, under the names
that families have for them. Nothing here needs torch, so a start can compute what a model will take before anything
large is imported, and a list of models can say it of each. A configuration that names no widths, or whose layers are of
a kind that the sums of `memory` do not know, is None: nothing is said of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from p2pfinetune.model.families import TARGETS
from p2pfinetune.model.fingerprints import Header, headers, weight_files

LAYERS: Final = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
WIDTH: Final = ("hidden_size", "n_embd", "d_model")
HEADS: Final = ("num_attention_heads", "n_head", "n_heads")
INNER: Final = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
ACTIVATION: Final = ("hidden_activation", "hidden_act", "activation_function", "activation")
HALF: Final = frozenset({"BF16", "F16"})
OUTSIDE: Final = ("embed", "wte", "wpe", "lm_head", "embed_out", "router", "vision", "audio")
"""Parts of names of matrices that carry no adapter, in families outside the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Widths are in entries, of one position of one layer."""

    family: str
    layers: int
    width: int
    """Of what goes from layer to layer."""
    heads: int
    query: int
    key: int
    """Of keys, and of values."""
    inner: int
    """Of the feed-forward part, all experts together that one position passes."""
    activation: str
    is_gated: bool
    is_fused: bool
    """Whether queries, keys and values come out of one matrix."""
    is_eager: bool
    """Whether attention holds a matrix of all pairs of positions."""
    vocabulary: int
    context: int
    """Positions that the model can look at; 0 if it does not say."""
    adapted: tuple[tuple[int, int], ...]
    """Of each matrix that gets an adapter."""
    other_parameters: int
    """Embeddings, the output layer, norms; tied ones once."""
    bytes_each: int
    """Of a stored number: 2 if all are stored in 16 bits, else 4."""

    @property
    def adapted_parameters(self) -> int:
        """Of the matrices that get an adapter."""
        return sum(rows * columns for rows, columns in self.adapted)

    @property
    def parameters(self) -> int:
        """All."""
        return self.adapted_parameters + self.other_parameters

    def of_adapter(self, rank: int) -> int:
        """Numbers of an adapter."""
        return rank * sum(rows + columns for rows, columns in self.adapted)


def shape_of(folder: Path, targets: Sequence[str] = ()) -> Shape | None:
    """Of the model in a folder; `targets` as a person named them, empty: the family's. None if it cannot be told.

    ModelError for weights that are not there or not readable.
    """
    tensors = [header for file in weight_files(folder) for header in headers(file)]
    try:
        config = json.loads((folder / "config.json").read_bytes())
        return shape_from(config, tensors, targets)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def shape_from(config: Mapping[str, Any], tensors: Sequence[Header], targets: Sequence[str] = ()) -> Shape:
    """KeyError, TypeError or ValueError for a configuration that does not say what it takes."""
    text = {**config, **config.get("text_config", {})}
    family = str(text["model_type"])
    width, heads = int(_first(text, WIDTH)), int(_first(text, HEADS))
    head = int(text.get("head_dim") or width // heads)
    chosen = [one for one in tensors if is_adapted(one, family, targets)]
    if not chosen:
        raise ValueError("no matrix carries an adapter")
    others = [one for one in tensors if one not in chosen and not _is_second_of_tied(one, text)]
    names = " ".join(one.name for one in chosen)
    return Shape(
        family=family,
        layers=int(_first(text, LAYERS)),
        width=width,
        heads=heads,
        query=heads * head,
        key=int(text.get("num_key_value_heads") or heads) * head,
        inner=_inner(text, width),
        activation=str(_first(text, ACTIVATION)),
        is_gated="gate" in names,
        is_fused=not any(part in names for part in ("k_proj", "key.")),
        is_eager=bool(text.get("attn_logit_softcapping")),
        vocabulary=int(text["vocab_size"]),
        context=int(text.get("max_position_embeddings") or text.get("n_positions") or 0),
        adapted=tuple((one.shape[0], one.shape[1]) for one in chosen),
        other_parameters=sum(math.prod(one.shape) for one in others),
        bytes_each=2 if all(one.dtype in HALF for one in tensors) else 4,
    )


def is_adapted(tensor: Header, family: str, targets: Sequence[str]) -> bool:
    """As `targets.find_targets` chooses among layers, seen from their names alone."""
    path = tensor.name.removesuffix(".weight")
    if path == tensor.name or len(tensor.shape) != 2:
        return False
    if wanted := tuple(targets) or TARGETS.get(family):
        return any(path == ending or path.endswith(f".{ending}") for ending in wanted)
    return not any(part in path for part in OUTSIDE)


def _inner(text: Mapping[str, Any], width: int) -> int:
    found = next((int(text[name]) for name in INNER if text.get(name)), 4 * width)
    if experts := int(text.get("num_experts_per_tok") or 0):
        return experts * int(text.get("moe_intermediate_size") or found)
    return found


def _first(text: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next(text[name] for name in names if text.get(name)) if any(text.get(n) for n in names) else text[names[0]]


def _is_second_of_tied(tensor: Header, text: Mapping[str, Any]) -> bool:
    """A stored output layer that is the embedding once loaded."""
    return bool(text.get("tie_word_embeddings")) and tensor.name.endswith(("lm_head.weight", "embed_out.weight"))
