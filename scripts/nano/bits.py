"""Bits per byte of a language model on a text: what models with different tokenizers can be compared by.

Windows do not overlap: the text's tokens are cut into pieces of (context - 1), each is read after the model's
beginning-of-text token and nothing else, so every token is scored exactly once and none has more context than the
model's own. Overlapping windows would lower all figures. No generation and no reading of files here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WINDOWS_AT_ONCE = 16  # of at most 512 tokens: half a gigabyte of logits at the largest vocabularies


@dataclass(frozen=True, slots=True)
class Score:
    """How well a text was foreseen: the sum over its tokens, and its length in UTF-8."""

    nats: float
    tokens: int
    bytes: int

    @property
    def bits_per_byte(self) -> float:
        """Nats over all tokens, in bits, for each byte of the text: the same unit whatever the tokenizer."""
        return self.nats / math.log(2) / self.bytes

    @property
    def bytes_per_token(self) -> float:
        """How much text one token stands for."""
        return self.bytes / self.tokens


def windows(ids: Sequence[int], first: int, context: int) -> Iterator[list[list[int]]]:
    """Batches of equally long rows: `first`, then the next piece of at most context - 1 tokens."""
    step = context - 1
    rows = [[first, *ids[begin : begin + step]] for begin in range(0, len(ids), step)]
    whole = [row for row in rows if len(row) == context]
    for begin in range(0, len(whole), WINDOWS_AT_ONCE):
        yield whole[begin : begin + WINDOWS_AT_ONCE]
    if rows and len(rows[-1]) < context:
        yield [rows[-1]]


def score(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    on_progress: Callable[[int], None] | None = None,
) -> Score:
    """The model on all texts together, each begun afresh. `on_progress` hears the bytes of each text that is done."""
    context = int(model.config.max_position_embeddings)
    nats, tokens, size = 0.0, 0, 0
    for text in texts:
        ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for rows in windows(ids, int(tokenizer.bos_token_id), context):
            nats += nats_of(model, rows)
        tokens += len(ids)
        size += len(text.encode())
        if on_progress:
            on_progress(len(text.encode()))
    return Score(nats, tokens, size)


def nats_of(model: PreTrainedModel, rows: list[list[int]]) -> float:
    """Minus the log probability of all but the first token of each row, summed in float64."""
    import torch

    with torch.inference_mode():
        ids = torch.tensor(rows)  # (rows, tokens)
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits  # (rows, tokens, vocabulary)
        foreseen = logits[:, :-1].flatten(0, 1).float()
        losses = torch.nn.functional.cross_entropy(foreseen, ids[:, 1:].flatten(), reduction="none")
    return float(losses.double().sum())
