"""What a configuration of transformers says, in llama.cpp's keys; and a refusal for what it says beyond them.

llama.cpp fills in what a file does not say, so a key that is left out is a claim as well. Each function below writes
what llama.cpp's graph of that family reads. Positions: `llama` takes a factor for each frequency from the file
(`rope_freqs`), by which Llama 3's and linear scaling are said exactly; other families have no such place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from p2pfinetune.errors import ExportError

SCALED = ("llama", "mistral")
EVERY = {"gemma2": 2, "gemma3_text": 6}  # one layer of so many looks at everything, the last of them
INSTEAD = "export with --format peft or merged instead"


def write_keys(writer: Any, kind: str, config: Any) -> None:
    """All that llama.cpp reads of a model's shape. ExportError for what it has no key for."""
    _must_be_sayable(kind, config)
    writer.add_vocab_size(config.vocab_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_context_length(_context(config, kind))
    KEYS.get(kind, _llama_like)(writer, config)


def frequencies(model: Any, kind: str) -> Mapping[str, Tensor]:
    """`rope_freqs.weight`, by which each frequency is divided; nothing if they are the usual ones."""
    config = model.config.get_text_config()
    if kind not in SCALED or config.rope_parameters["rope_type"] == "default":
        return {}
    used = model.model.rotary_emb.inv_freq.float().cpu()
    theta = float(config.rope_parameters["rope_theta"])
    usual = 1.0 / theta ** (torch.arange(len(used), dtype=torch.float32) / len(used))
    return {"rope_freqs.weight": usual / used}


def _llama_like(writer: Any, config: Any) -> None:
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(_theta(config))
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)


def _gemma_2(writer: Any, config: Any) -> None:
    _llama_like(writer, config)
    if config.attn_logit_softcapping:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if config.final_logit_softcapping:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    writer.add_sliding_window(config.sliding_window)


def _gemma_3(writer: Any, config: Any) -> None:
    _llama_like(writer, config)
    writer.add_sliding_window(config.sliding_window)


def _phi(writer: Any, config: Any) -> None:
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads or config.num_attention_heads)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_rope_freq_base(_theta(config))
    writer.add_rope_dimension_count(_part(config))


def _phi_3(writer: Any, config: Any) -> None:
    _llama_like(writer, config)
    writer.add_rope_dimension_count(_part(config))
    writer.add_rope_scaling_orig_ctx_len(config.original_max_position_embeddings)
    writer.add_sliding_window(config.sliding_window or 0)


def _gpt_2(writer: Any, config: Any) -> None:
    writer.add_feed_forward_length(config.n_inner or 4 * config.n_embd)
    writer.add_layer_norm_eps(config.layer_norm_epsilon)


def _gpt_neox(writer: Any, config: Any) -> None:
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_layer_norm_eps(config.layer_norm_eps)
    writer.add_parallel_residual(config.use_parallel_residual)
    writer.add_rope_freq_base(_theta(config))
    writer.add_rope_dimension_count(_part(config))


KEYS: Mapping[str, Callable[[Any, Any], None]] = {
    "gemma2": _gemma_2, "gemma3_text": _gemma_3, "phi": _phi, "phi3": _phi_3, "gpt2": _gpt_2, "gpt_neox": _gpt_neox,
}  # fmt: skip


def _rope(config: Any) -> Mapping[str, Any]:
    """Of the layers that look at everything, if there are two kinds."""
    found: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    whole: Mapping[str, Any] = found.get("full_attention", found)
    return whole


def _theta(config: Any) -> float:
    return float(_rope(config)["rope_theta"])


def _part(config: Any) -> int:
    """How many numbers of a head are rotated."""
    part = float(_rope(config).get("partial_rotary_factor", 1.0))
    return int(part * (config.hidden_size // config.num_attention_heads))


def _context(config: Any, kind: str) -> int:
    """Tokens; no more than the window, if llama.cpp has no window for the family."""
    window = getattr(config, "sliding_window", None)
    whole = int(config.max_position_embeddings)
    return min(whole, int(window)) if window and kind not in EVERY and kind != "phi3" else whole


def _must_be_sayable(kind: str, config: Any) -> None:
    scaling = str(_rope(config).get("rope_type", "default"))
    if scaling != "default" and not (kind in SCALED and scaling in {"llama3", "linear"}):
        raise ExportError(f"llama.cpp has no key for positions of a {kind} model scaled by {scaling}", INSTEAD)
    if kind in EVERY and list(config.layer_types) != _pattern(EVERY[kind], config.num_hidden_layers):
        raise ExportError(f"llama.cpp has no key for which layers of this {kind} model look at everything", INSTEAD)
    if kind in EVERY and config.query_pre_attn_scalar != config.head_dim:
        raise ExportError(f"llama.cpp has no key for how this {kind} model scales its attention", INSTEAD)


def _pattern(every: int, layers: int) -> list[str]:
    return ["full_attention" if (layer + 1) % every == 0 else "sliding_attention" for layer in range(layers)]
