"""GGUF files made byte by byte: a tiny Llama, and whatever a stranger might write instead."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.models import END, random_model, tiny_tokenizer
from tests.support.texts import WORDS

ENTRIES, WIDTH, HEADS, LAYERS, CONTEXT = 300, 32, 2, 1, 64
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
F32, F16, Q4_1 = 0, 1, 3


class Stored(NamedTuple):
    """A tensor as a file has it: shape as torch has it, ggml's number of its kind, its bytes, where they are said to be."""

    name: str
    shape: tuple[int, ...]
    kind: int
    content: bytes
    begin: int | None = None


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def fact(value: Any) -> bytes:
    """Kind and value: of a list, strings or integers."""
    if isinstance(value, bool):
        return struct.pack("<I?", 7, value)
    if isinstance(value, int):
        return struct.pack("<II", 4, value)
    if isinstance(value, float):
        return struct.pack("<If", 6, value)
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    strings = bool(value) and isinstance(value[0], str)
    entries = b"".join(text(entry) if strings else struct.pack("<i", entry) for entry in value)
    return struct.pack("<IIQ", 9, 8 if strings else 5, len(value)) + entries


def gguf(facts: Mapping[str, Any], tensors: Sequence[Stored], *, counts: tuple[int, int] | None = None) -> bytes:
    """A file; `counts` is what it claims of tensors and facts, if that is not the truth."""
    table, data = b"", b""
    for tensor in tensors:
        begin = len(data) if tensor.begin is None else tensor.begin
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
        table += text(tensor.name) + shape + struct.pack("<IQ", tensor.kind, begin)
        data += tensor.content + bytes(-len(tensor.content) % 32)
    head = b"GGUF" + struct.pack("<IQQ", 3, *(counts or (len(tensors), len(facts))))
    head += b"".join(text(key) + fact(value) for key, value in facts.items()) + table
    return head + bytes(-len(head) % 32) + data


def llama_facts(**changed: Any) -> dict[str, Any]:
    """What a tiny Llama's file says of itself; a change of None leaves a fact out, `_` stands for a dot."""
    tokenizer = tiny_tokenizer([" ".join(words) for words in WORDS.values()], ENTRIES).backend_tokenizer
    import json

    model = json.loads(tokenizer.to_str())["model"]
    facts = {
        "general.architecture": "llama", "general.name": "Tiny Llama", "general.license": "apache-2.0",
        "llama.block_count": LAYERS, "llama.context_length": CONTEXT, "llama.embedding_length": WIDTH,
        "llama.feed_forward_length": 48, "llama.attention.head_count": HEADS, "llama.attention.head_count_kv": HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-6, "llama.rope.freq_base": 10000.0, "llama.vocab_size": ENTRIES,
        "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": sorted(model["vocab"], key=model["vocab"].__getitem__),
        "tokenizer.ggml.token_type": [3 if token == END else 1 for token in sorted(model["vocab"], key=model["vocab"].__getitem__)],
        "tokenizer.ggml.merges": [" ".join(m) if isinstance(m, list) else m for m in model["merges"]],
        "tokenizer.ggml.bos_token_id": 0, "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.chat_template": TEMPLATE,
    }  # fmt: skip
    return {
        key: value
        for key, value in {**facts, **{k.replace("__", "."): v for k, v in changed.items()}}.items()
        if value is not None
    }


def llama() -> Any:
    """The model that is in the file."""
    shape = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    return random_model("llama", ENTRIES, max_position_embeddings=CONTEXT, tie_word_embeddings=True, **shape)


NAMES = {
    "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def llama_tensors() -> Iterable[Stored]:
    """Its weights in 32 bits, queries and keys with the halves of each head interleaved, as llama.cpp has them."""
    for name, weight in llama().state_dict().items():
        if name == "lm_head.weight":
            continue
        called = name.replace("model.layers.", "blk.")
        for ours, theirs in NAMES.items():
            called = called.replace(ours, theirs)
        if "attn_q" in called or "attn_k" in called:
            halves = weight.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH)
            weight.copy_(halves.swapaxes(1, 2).reshape(weight.shape).clone())
        yield Stored(called, tuple(weight.shape), F32, weight.numpy().tobytes())


def write_llama(path: Path, **changed: Any) -> Path:
    path.write_bytes(gguf(llama_facts(**changed), list(llama_tensors())))
    return path
