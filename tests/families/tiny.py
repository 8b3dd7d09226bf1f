"""A tiny random model of each family that is tried: two layers, sixteen numbers wide where a family lets us."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY, CONTEXT = 280, 32
TEXT = ["the quick brown fox jumps over the lazy dog and the dog does not mind", "def add(a, b):\n    return a + b\n"]

PLAIN: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "max_position_embeddings": CONTEXT,
}
ALL_HEADS = {**PLAIN, "num_key_value_heads": 2}
PADDED = {**PLAIN, "pad_token_id": 0}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": CONTEXT}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8}
LOCAL = {"num_local_experts": 2, "num_experts_per_tok": 1}
ROUTED = {
    "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    "first_k_dense_replace": 1, "moe_intermediate_size": 8,
}  # fmt: skip
DEEPSEEK = {
    **ALL_HEADS, **ROUTED, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 8, "v_head_dim": 8,
    "qk_nope_head_dim": 8,
}  # fmt: skip
DELTA = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
}  # fmt: skip
STATES = {
    "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1, "mamba_chunk_size": 8,
}  # fmt: skip
BERT = {**PLAIN, "is_decoder": False}

NAMED: dict[str, dict[str, Any]] = {
    "mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "mamba2": {
        "hidden_size": 16, "num_hidden_layers": 2, "state_size": 4, "head_dim": 8, "num_heads": 4, "n_groups": 1,
        "chunk_size": 8,
    },
    "falcon_h1": {**PLAIN, **STATES, "mamba_d_ssm": 32},
    "nemotron_h": {
        **PLAIN, "num_hidden_layers": 3, "layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 4,
        "mamba_head_dim": 8, "ssm_state_size": 4, "n_groups": 1, "chunk_size": 8,
    },
    "jamba": {
        **PLAIN, "mamba_d_state": 4, "mamba_dt_rank": 4, "num_experts": 2, "attn_layer_period": 2, "attn_layer_offset": 1,
        "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False,
    },
    "llama4_text": {
        **PLAIN, "num_local_experts": 2, "intermediate_size_mlp": 24, "interleave_moe_layer_step": 2,
        "attention_chunk_size": 16,
    },
    "phimoe": {**PLAIN, "num_local_experts": 2},
    "deepseek_v3": {**DEEPSEEK, "head_dim": 8},
    "glm4_moe": {**PLAIN, **ROUTED},
    "qwen3_next": {**PLAIN, **EXPERTS, **DELTA, "shared_expert_intermediate_size": 8},
    "mixtral": {**PLAIN, "num_local_experts": 2},
    "qwen3_moe": {**PLAIN, **EXPERTS},
    "qwen2": PLAIN,  # whose tokenizer class adds a token beyond the model, for unknown letters
    "olmoe": {**PLAIN, "num_experts": 4, "num_experts_per_tok": 2},
    "gemma3n_text": {  # some of whose layers no pass of two layers reaches
        **PLAIN, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "laurel_rank": 8, "layer_types": ["sliding_attention", "full_attention"], "altup_num_inputs": 2,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gpt_oss": {**PLAIN, **LOCAL, "layer_types": ["sliding_attention", "full_attention"]},
    "roberta": {**BERT, "max_position_embeddings": CONTEXT + 2},
    "bert": BERT,
}  # fmt: skip
"""Those that are out of the ordinary; tried with every run of the tests."""

OTHERS: dict[str, dict[str, Any]] = {
    "apertus": PLAIN,
    "arcee": PLAIN,
    "bamba": {**PLAIN, **STATES, "attn_layer_indices": [1]},
    "bart": {
        "d_model": 16, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "encoder_ffn_dim": 24, "max_position_embeddings": CONTEXT,
    },
    "biogpt": PLAIN,
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 2},
    "codegen": {**GPT, "n_head": 4, "rotary_dim": 4},
    "cohere": PLAIN,
    "cohere2": PLAIN,
    "ctrl": {**GPT, "dff": 24},
    "dbrx": {
        "d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": CONTEXT,
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 2, "moe_top_k": 1},
        "attn_config": {"kv_n_heads": 1, "clip_qkv": 8, "rope_theta": 10000.0},
    },
    "deepseek_v2": DEEPSEEK,
    "electra": BERT,
    "ernie4_5": PLAIN,
    "ernie4_5_moe": {**PLAIN, "moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 8},
    "exaone4": PLAIN,
    "falcon": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
    "falcon_mamba": {"hidden_size": 16, "num_hidden_layers": 2, "state_size": 4},
    "gemma": PLAIN,
    "gemma2": PLAIN,
    "gemma3_text": PLAIN,
    "gemma4_text": {
        **PLAIN, "num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8,
        "layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 8,
    },
    "glm": PADDED,
    "glm4": PADDED,
    "glm4_moe_lite": {**DEEPSEEK, "head_dim": 8},
    "gpt2": GPT,
    "gpt_bigcode": GPT,
    "gpt_neo": {
        "hidden_size": 16, "num_layers": 2, "num_heads": 2, "max_position_embeddings": CONTEXT,
        "attention_types": [[["global", "local"], 1]], "intermediate_size": 24,
    },
    "gpt_neox": {**PLAIN, "num_attention_heads": 2},
    "gptj": {**GPT, "rotary_dim": 4},
    "granite": PLAIN,
    "granitemoe": {**PLAIN, **LOCAL},
    "granitemoehybrid": {
        **PLAIN, **STATES, "layer_types": ["mamba", "attention"], "num_local_experts": 2, "shared_intermediate_size": 16,
    },
    "helium": PLAIN,
    "hunyuan_v1_dense": PLAIN,
    "hunyuan_v1_moe": {**PLAIN, "num_experts": 2, "moe_topk": 1},
    "jetmoe": {**PLAIN, **LOCAL, "kv_channels": 8},
    "lfm2": {**PLAIN, "layer_types": ["conv", "full_attention"], "block_multiple_of": 8},
    "lfm2_moe": {**PLAIN, **EXPERTS, "layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama": PLAIN,
    "minimax": {**PLAIN, "num_local_experts": 2, "layer_types": ["linear_attention", "full_attention"], "block_size": 8},
    "minimax_m2": {**PLAIN, **LOCAL},
    "ministral": PLAIN,
    "mistral": {**PLAIN, "sliding_window": 8},
    "modernbert-decoder": PADDED,
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": CONTEXT},
    "nanochat": PLAIN,
    "nemotron": PLAIN,
    "olmo": PLAIN,
    "olmo2": PLAIN,
    "olmo3": PLAIN,
    "openai-gpt": GPT,
    "opt": {
        "hidden_size": 16, "ffn_dim": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "word_embed_proj_dim": 16,
        "max_position_embeddings": CONTEXT,
    },
    "persimmon": PLAIN,
    "phi": ALL_HEADS,
    "phi3": PADDED,
    "qwen2_moe": {**PLAIN, **EXPERTS, "shared_expert_intermediate_size": 8},
    "qwen3": PLAIN,
    "qwen3_5_text": {**PLAIN, **DELTA},
    "recurrent_gemma": {
        **PLAIN, "lru_width": 16, "block_types": ["recurrent", "attention"], "attention_window_size": 16,
    },
    "rwkv": {
        "hidden_size": 16, "num_hidden_layers": 2, "attention_hidden_size": 16, "intermediate_size": 24,
        "context_length": CONTEXT,
    },
    "seed_oss": PLAIN,
    "smollm3": PADDED,
    "stablelm": ALL_HEADS,
    "starcoder2": PLAIN,
    "xglm": {"d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2, "max_position_embeddings": CONTEXT},
    "xlm-roberta": {**BERT, "max_position_embeddings": CONTEXT + 2},
    "xlnet": {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24},
    "xlstm": {"hidden_size": 16, "num_blocks": 2, "num_heads": 2, "embedding_dim": 16},
    "zamba2": {
        **PLAIN, "n_mamba_heads": 4, "mamba_headdim": 8, "mamba_d_state": 4, "chunk_size": 8,
        "layers_block_type": ["mamba", "hybrid"], "hybrid_layer_ids": [1],
    },
}  # fmt: skip
FAMILIES = dict(sorted({**NAMED, **OTHERS}.items()))


def write_model(family: str, folder: Path) -> Path:
    """A random model of the family and a tokenizer, as they come from a hub."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ends = {"bos_token_id": 0, "eos_token_id": 0}
        config = AutoConfig.for_model(family, vocab_size=VOCABULARY, **{**ends, **FAMILIES[family]})
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        TEXT, vocab_size=VOCABULARY, min_frequency=1, show_progress=False, special_tokens=["<|end|>"]
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<|end|>", bos_token="<|end|>")
    tokenizer.save_pretrained(folder)
    return folder
