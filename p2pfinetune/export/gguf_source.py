"""What the GGUF file said that a base was made of: its keys, to be written again as they were.

Whoever trains on a GGUF gets back one that says of tokenizer and shape what the first one said, sentencepiece's scores
and names of pre-tokenizers included, which no folder of transformers holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfinetune.model.base import Base
from p2pfinetune.model.from_gguf import record

TAKEN = ("tokenizer.", "general.license", "general.organization", "general.languages", "general.basename")
TOKENS = "tokenizer.ggml.tokens"


@dataclass(frozen=True, slots=True)
class SourceKey:
    """One value, with the types that GGUF has of it."""

    name: str
    value: Any
    types: tuple[Any, ...]


def source_keys(base: Base, architecture: str) -> list[SourceKey]:
    """Of the file, if the base was made of one that is still there and is still that model; else nothing."""
    from gguf import GGUFReader

    about = record(base.folder)
    if about is None or about.architecture != architecture or not Path(about.gguf).is_file():
        return []
    try:
        fields = GGUFReader(about.gguf).fields
    except (OSError, ValueError, KeyError, IndexError):  # it has become another file since
        return []
    wanted = (*TAKEN, f"{architecture}.")
    found = [SourceKey(n, f.contents(), tuple(f.types[:2])) for n, f in fields.items() if n.startswith(wanted)]
    told = next((key.value for key in found if key.name == TOKENS), None)
    return found if _is_of(told, base.tokenizer.get_vocab()) else []


def write_source(writer: Any, keys: list[SourceKey]) -> None:
    """In place of what would be written of a configuration and a tokenizer."""
    for key in keys:
        writer.add_key_value(key.name, key.value, key.types[0], *key.types[1:])


def _is_of(tokens: Any, vocabulary: Mapping[str, int]) -> bool:
    """Whether the file's tokens are those that were trained with, a made-up name of an unused row aside."""
    return tokens is not None and all(i < len(tokens) and tokens[i] == token for token, i in vocabulary.items())
