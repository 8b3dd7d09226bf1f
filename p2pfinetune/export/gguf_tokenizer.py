"""A tokenizer as llama.cpp reads it: byte-level BPE whose way of cutting text into words llama.cpp has, too.

llama.cpp holds the regular expressions by which text is cut before BPE in its own code, under names
(`tokenizer.ggml.pre`); the file only says which. Its conversion scripts recognise a tokenizer by a hash of what it
makes of one long text, from a list that their package does not ship. Here it is recognised by its own rules in
`tokenizer.json`: those that are the same as one of llama.cpp's get its name, and every other is refused. A wrong name
would load and cut words otherwise than in training, which nobody would notice but by worse answers.

Tokenizers of sentencepiece (Llama 2, Mistral, Gemma) are refused as well: their scores are in no `tokenizer.json`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from p2pfinetune.data.chats.template import SIMPLE
from p2pfinetune.data.tokens import beginning
from p2pfinetune.errors import ExportError

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN_2 = LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
CUTS: Mapping[tuple[str, ...], str] = {
    ("GPT-2",): "gpt-2",
    ("digits", "GPT-2"): "smollm",
    (QWEN_2, "bytes"): "qwen2",
    (LLAMA_3, "bytes"): "dbrx",
    (LLAMA_3, "bytes", "whole words first"): "llama-bpe",
}
"""The steps of a tokenizer's pre-tokenizer, to llama.cpp's name of them (its `llama-vocab.cpp`)."""
MARKS_OF_TRAINING = re.compile(r"\{%(-?\s*(?:end)?generation\s*-?)%\}")
"""Which part an assistant wrote, in the Jinja of transformers alone; as comments they trim white space all the same."""
INSTEAD = "export with --format peft or merged, or --format gguf-lora beside a GGUF of the base that others made"


def cuts_of(meaning: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer (its JSON) cuts text. ExportError if it has none."""
    model = meaning["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        raise ExportError(
            f"the tokenizer is of sentencepiece's kind ({model['type']}), whose scores are not in tokenizer.json",
            INSTEAD,
        )
    normalizer = meaning.get("normalizer")
    if normalizer is not None and normalizer["type"] != "NFC":
        raise _unknown(f"it changes letters first ({normalizer['type']})")
    steps = tuple(_step(step) for step in _flat(meaning.get("pre_tokenizer")))
    first = ("whole words first",) if model.get("ignore_merges") else ()
    if (name := CUTS.get((*steps, *first))) is None:
        raise _unknown(f"it cuts text by {', then by '.join(steps) or 'nothing'}")
    return name


def write_tokenizer(writer: Any, tokenizer: Any, entries: int) -> None:
    """All of `tokenizer.*` for an embedding of so many rows. ExportError if llama.cpp has not its kind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise _unknown("it is written in Python alone")
    meaning = json.loads(backend.to_str())
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cuts_of(meaning))
    tokens, types = _tokens(meaning, entries)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(_merges(meaning["model"]["merges"]))
    writer.add_add_space_prefix(False)
    for kind in ("bos", "eos", "unk", "pad"):
        if (token := getattr(tokenizer, f"{kind}_token_id")) is not None:
            getattr(writer, f"add_{kind}_token_id")(token)
    writer.add_add_bos_token(bool(beginning(tokenizer)))
    writer.add_chat_template(MARKS_OF_TRAINING.sub(r"{#\1#}", template_of(tokenizer)))


def template_of(tokenizer: Any) -> str:
    """The chat template of conversations without tools; the simple one that is trained with if there is none."""
    found = tokenizer.chat_template
    if isinstance(found, dict):
        found = found.get("default", "")
    return found or SIMPLE


def _tokens(meaning: Mapping[str, Any], entries: int) -> tuple[list[str], list[int]]:
    """By id. Rows of the embedding that no token has are unused ones, as many models have some."""
    from gguf import TokenType

    tokens, types = [f"[PAD{i}]" for i in range(entries)], [int(TokenType.UNUSED)] * entries
    for token, i in meaning["model"]["vocab"].items():
        tokens[i], types[i] = token, int(TokenType.NORMAL)
    for added in meaning["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    return tokens, types


def _merges(merges: Sequence[Any]) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _flat(step: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if step is None:
        return []
    return list(step["pretokenizers"]) if step["type"] == "Sequence" else [step]


def _step(step: Mapping[str, Any]) -> str:
    """In the words of CUTS if it is one of those, else as a person may find it in tokenizer.json."""
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return "GPT-2"
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}:
            return "bytes"
        case {"type": "Digits", "individual_digits": True}:
            return "digits"
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            return str(regex)
    return json.dumps(step)


def _unknown(why: str) -> ExportError:
    return ExportError(f"llama.cpp has no name for this tokenizer: {why}", INSTEAD)
