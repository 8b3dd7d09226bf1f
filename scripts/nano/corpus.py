"""The text the embedded base model is trained on: public-domain novels and Python Enhancement Proposals.

Reads `novels/eng.jsonl.gz` and `peps/peps.jsonl.gz` of a data folder, holds documents out by a hash of their id
(so that the held-out set never moves), trains the tokenizer and writes one flat file of token ids.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

SOURCES = {"novels": "novels/eng.jsonl.gz", "peps": "peps/peps.jsonl.gz"}
VOCABULARY = 4096
END_OF_TEXT = "<|endoftext|>"
MAX_CHARACTERS = 400_000  # of one document, so that no long novel outweighs the rest
HELD_OUT_PERCENT = {"novels": 5, "peps": 4}
TOKENIZER_BYTES = 14_000_000  # bytes of each source shown to the tokenizer's trainer, so that neither drowns the other

Split = Literal["train", "held-out"]


@dataclass(frozen=True, slots=True)
class Text:
    """One document: its source, an id that never changes, and its text."""

    source: str
    id: str
    text: str

    @property
    def split(self) -> Split:
        """Where the document belongs, from the hash of its id alone."""
        bucket = int.from_bytes(hashlib.sha256(self.id.encode()).digest()[:4], "big") % 100
        return "held-out" if bucket < HELD_OUT_PERCENT[self.source] else "train"


def read(data: Path, split: Split) -> Iterator[Text]:
    """Every document of one split, in file order. Raises FileNotFoundError where the data folder lacks a source."""
    for source, name in SOURCES.items():
        with gzip.open(data / name, "rt", encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                text = Text(source, f"{source}/{row.get('id', row.get('pep'))}", row["text"][:MAX_CHARACTERS])
                if text.split == split:
                    yield text


def train_tokenizer(data: Path) -> Tokenizer:
    """A byte-level BPE over an equal share of both sources: every string round-trips, no token is unknown."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_balanced(data), trainer)
    return tokenizer


def _balanced(data: Path) -> Iterator[str]:
    given = dict.fromkeys(SOURCES, 0)
    for text in read(data, "train"):
        if given[text.source] < TOKENIZER_BYTES:
            piece = text.text[: TOKENIZER_BYTES // 40]  # a slice of many books teaches more words than one whole book
            given[text.source] += len(piece)
            yield piece


def write_tokens(data: Path, tokenizer: Tokenizer, out: Path) -> int:
    """Encode the training split into one flat uint16 file, documents separated by END_OF_TEXT; returns its length."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    parts = [np.asarray([end, *tokenizer.encode(text.text).ids], dtype=np.uint16) for text in read(data, "train")]
    tokens = np.concatenate(parts)
    scratch = out.with_suffix(".part")
    tokens.tofile(scratch)
    scratch.replace(out)
    return len(tokens)
