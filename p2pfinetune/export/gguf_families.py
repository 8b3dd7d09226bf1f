"""The families of models that llama.cpp and we both know: its names of tensors, and where rows lie otherwise.

Names come from the mapping of llama.cpp itself, which its package `gguf` ships (`TensorNameMap`). What that package
does not ship is how the conversion scripts of llama.cpp change the numbers. The facts of it that are needed are here:

    rotated rows   transformers rotates the first half of a head against the second, llama.cpp's `llama` graph rotates
                   neighbours: the rows of a head's Q and K are interleaved (`interleaved`)
    fused rows     GPT-NeoX keeps Q, K and V of one head together, llama.cpp all Q, then all K, then all V (`gathered`)
    shifted norms  Gemma's norm multiplies by 1 + weight, llama.cpp by the weight
    turned         GPT-2's Conv1D stores (in, out)

To permute the rows of W is to permute those of B: P (W + s B A) = P W + s (P B) A, and so A stays as it is.

Every family here is run in llama.cpp against transformers by the slow tests. What is not here is refused by its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from p2pfinetune.errors import ExportError

Rows = Callable[[Any, int], Tensor]
"""Of a configuration and a number of rows: which row of the stored weight stands at each place of llama.cpp's."""


def interleaved(heads: int, rows: int) -> Tensor:
    """(rows,) indices: within each head, the first half and the second take turns."""
    return torch.arange(rows).reshape(heads, 2, rows // heads // 2).swapaxes(1, 2).reshape(-1)


def gathered(heads: int, rows: int) -> Tensor:
    """(rows,) indices: from Q, K, V by head to all heads of Q, of K, of V."""
    return torch.arange(rows).reshape(heads, 3, rows // heads // 3).swapaxes(0, 1).reshape(-1)


@dataclass(frozen=True, slots=True)
class Family:
    """How llama.cpp has one `model_type` of transformers."""

    architecture: str
    """llama.cpp's name of it."""
    rows: Mapping[str, Rows] = field(default_factory=dict)
    """By the ending of the module's path."""
    shifted_norms: bool = False
    turned: tuple[str, ...] = ()
    """Endings of modules that store (in, out)."""
    own_head: bool = False
    """Whether llama.cpp wants the output head written even if it is the embedding."""

    def rows_of(self, path: str, config: Any, rows: int) -> Tensor | None:
        """Of the module at `path`; None if its rows lie alike."""
        found = self.rows.get(path.rpartition(".")[2])
        return None if found is None else found(config, rows)


ROTATED: Mapping[str, Rows] = {
    "q_proj": lambda config, rows: interleaved(config.num_attention_heads, rows),
    "k_proj": lambda config, rows: interleaved(config.num_key_value_heads, rows),
}
FUSED: Mapping[str, Rows] = {"query_key_value": lambda config, rows: gathered(config.num_attention_heads, rows)}
FAMILIES: Mapping[str, Family] = {
    "llama": Family("llama", ROTATED),
    "mistral": Family("llama", ROTATED),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "gemma": Family("gemma", shifted_norms=True),
    "gemma2": Family("gemma2", shifted_norms=True),
    "gemma3_text": Family("gemma3", shifted_norms=True),
    "phi": Family("phi2", own_head=True),
    "phi3": Family("phi3"),
    "gpt2": Family("gpt2", turned=("c_attn", "c_proj", "c_fc")),
    "gpt_neox": Family("gptneox", FUSED, own_head=True),
}


def family_of(kind: str) -> Family:
    """Of a `model_type`. ExportError names it if it is none of ours."""
    if (found := FAMILIES.get(kind)) is None:
        raise ExportError(
            f"{kind} models are not written as GGUF: how llama.cpp lays out their weights is not known here",
            f"known are: {', '.join(sorted(FAMILIES))}; export with --format peft or merged instead",
        )
    return found


class Names:
    """llama.cpp's names of the tensors of one model."""

    def __init__(self, family: Family, config: Any) -> None:
        import gguf

        architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == family.architecture)
        self._map = gguf.get_tensor_name_map(architecture, int(config.num_hidden_layers))

    def of(self, path: str) -> str:
        """Of a module's path. ExportError for one that llama.cpp has no place for."""
        if (found := self._map.get_name(path)) is None:
            raise ExportError(
                f"llama.cpp has no tensor for {path} of this model", "export with --format peft or merged instead"
            )
        return found
