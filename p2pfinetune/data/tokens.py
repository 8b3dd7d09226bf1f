"""Documents to token ids, with whatever the tokenizer itself puts around a text and an end-of-text token behind it.

What somebody writes is text and nothing else: `<|endoftext|>`, `</s>` or `<|im_start|>` in a note about models would
end the note, or begin a turn, where nobody meant that. Tokenizers leave special tokens unparsed when asked to; tokens
that were added without being called special they parse all the same, and some find their own special tokens in the
plain vocabulary. So the ids are looked at, and if one of them is such a token, the text is encoded in pieces that
break its spelling in two. Added tokens that are white space or words are not control, and stay.

Each document ends in end-of-text if the tokenizer has one, so that blocks of training, which run across documents,
show where one ends and the next begins; scoring never looks across.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenArray = NDArray[np.unsignedinteger[Any]]  # uint16 where the vocabulary fits, else uint32


@dataclass(frozen=True, slots=True, eq=False)
class TokenDocument:
    """The ids of one document, and which of them are counted: learnt, and measured."""

    ids: TokenArray
    counted: NDArray[np.bool_] | None = None
    """None: every one, as of all text that is no conversation."""

    @property
    def marks(self) -> NDArray[np.bool_]:
        """The same for every document."""
        return np.ones(len(self.ids), np.bool_) if self.counted is None else self.counted

    @property
    def size(self) -> int:
        """Counted tokens."""
        return len(self.ids) if self.counted is None else int(np.count_nonzero(self.counted))


# how tokens are spelled that are control without being called so
MARKUP = re.compile(r"[<\[{\uff5c|].*[>\]}\uff5c|]", re.DOTALL)
TEXTS_AT_ONCE = 256  # enough for the tokenizer's own threads, and little to hold as Python integers


def token_type(tokenizer: PreTrainedTokenizerBase) -> type[np.uint16 | np.uint32]:
    """The narrowest type that holds every id; ids may have gaps, so that the largest is more than their number."""
    return np.uint16 if max(tokenizer.get_vocab().values(), default=0) < 1 << 16 else np.uint32


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> Iterator[TokenArray]:
    """The ids of each text, after what the tokenizer puts first (Llama, Gemma: BOS) and before end-of-text if any."""
    width, first, last = token_type(tokenizer), beginning(tokenizer), end_of_text(tokenizer)
    for begin in range(0, len(texts), TEXTS_AT_ONCE):
        for ids in plain_ids(texts[begin : begin + TEXTS_AT_ONCE], tokenizer):
            yield np.asarray([*first, *ids, *last], dtype=width)


def plain_ids(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The ids of each text alone, none of them a control token whatever the text says."""
    control = control_tokens(tokenizer)
    return [
        ids if control.keys().isdisjoint(ids) else _in_pieces(text, tokenizer, control)
        for text, ids in zip(texts, _ids(list(texts), tokenizer), strict=True)
    ]


def control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    """Ids and spellings of tokens that say something about a text instead of being part of one."""
    given: dict[int, str] = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
    for token, added in tokenizer.added_tokens_decoder.items():
        if added.special or MARKUP.fullmatch(added.content):
            given[token] = added.content
    if tokenizer.unk_token_id not in {tokenizer.eos_token_id, tokenizer.bos_token_id}:
        given.pop(tokenizer.unk_token_id, None)  # what a text becomes that has no other token
    return given


def passages(document: TokenDocument, tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, bool]]:
    """What the model sees, control tokens spelt out: runs of tokens that are counted, and runs that are not."""
    edges = np.flatnonzero(np.diff(document.marks.astype(np.int8))) + 1
    runs = pairwise([0, *edges.tolist(), len(document.ids)])
    how: dict[str, Any] = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
    return [
        (str(tokenizer.decode(document.ids[begin:stop].tolist(), **how)), bool(document.marks[begin]))
        for begin, stop in runs
        if begin < stop
    ]


def _in_pieces(text: str, tokenizer: PreTrainedTokenizerBase, control: Mapping[int, str]) -> list[int]:
    longest_first = "|".join(re.escape(spelling) for spelling in sorted(control.values(), key=len, reverse=True))
    spelt = re.compile(f"{longest_first}", re.IGNORECASE)
    cuts = [match.start() + 1 for match in spelt.finditer(text)]
    pieces = [text[begin:end] for begin, end in pairwise([0, *cuts, len(text)]) if begin < end]
    return [token for ids in _ids(pieces, tokenizer) for token in ids if token not in control]


def _ids(texts: list[str], tokenizer: Any) -> list[list[int]]:
    # verbose=False: a text longer than the model's context is no mistake here, it is read in windows
    found: list[list[int]] = tokenizer(texts, add_special_tokens=False, split_special_tokens=True, verbose=False)[
        "input_ids"
    ]
    return found


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The special tokens that this tokenizer puts before every text."""
    ids, plain = _around(tokenizer, special=True), _around(tokenizer, special=False)
    return ids[: ids.index(plain[0])] if plain and plain[0] in ids else []


def _around(tokenizer: Any, *, special: bool) -> list[int]:
    found: list[int] = tokenizer("a", add_special_tokens=special)["input_ids"]
    return found


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The end-of-text token, where the tokenizer has one."""
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
