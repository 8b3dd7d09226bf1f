"""Documents to token ids, with whatever the tokenizer itself puts around a text and an end-of-text token behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenArray = NDArray[np.unsignedinteger[Any]]  # uint16 where the vocabulary fits, else uint32

TEXTS_AT_ONCE = 256  # enough for the tokenizer's own threads, and little to hold as Python integers


def token_type(tokenizer: PreTrainedTokenizerBase) -> type[np.uint16 | np.uint32]:
    """The narrowest type that holds every id; ids may have gaps, so that the largest is more than their number."""
    return np.uint16 if max(tokenizer.get_vocab().values(), default=0) < 1 << 16 else np.uint32


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[TokenArray]:
    """The ids of each text, after what the tokenizer puts first (Llama, Gemma: BOS) and before end-of-text if any."""
    width, first, last = token_type(tokenizer), beginning(tokenizer), end_of_text(tokenizer)
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        batch = list(texts[begin : begin + TEXTS_AT_ONCE])
        # verbose=False: a text longer than the model's context is no mistake here, it is read in windows
        for ids in tokenizer(batch, add_special_tokens=False, verbose=False)["input_ids"]:
            yield np.asarray([*first, *ids, *last], dtype=width)


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that this tokenizer puts before every text."""
    ids: list[int] = _ids(tokenizer, special=True)
    plain = _ids(tokenizer, special=False)
    return ids[: ids.index(plain[0])] if plain and plain[0] in ids else []


def _ids(tokenizer: Any, *, special: bool) -> list[int]:
    found: list[int] = tokenizer("a", add_special_tokens=special)["input_ids"]
    return found


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The end-of-text token, where the tokenizer has one."""
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
