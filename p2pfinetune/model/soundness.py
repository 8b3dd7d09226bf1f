"""Whether a base model can be what the rest takes it for: finite, causal, and with a row for every token of a text.

Found out once, when it is loaded, by two forward passes that differ in their second half: numbers of the first half
that differ, too, saw the future. A model that does would be measured by how well it copies. The same passes show losses
that are no numbers and weights that change while the model runs, which its copies share. By trying and not by a list of
families: a list is out of date with the next model, and a mask can be lost in a conversion.

All that follows rests on this: windows are padded on the right without a mask, several adapters share one set of base
tensors, and differences of losses are taken for differences of models.

Shapes: t positions, v entries of the vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from p2pfinetune.data.corpus import Corpus
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.data.tokens import control_tokens
from p2pfinetune.errors import ModelError

POSITIONS = 16  # of a pass, half of which differ
LEAK = 1e-4  # of the change itself: thousands of times what rounding carries back, a tenth of the least that was seen
LEAK_IN_16_BITS = 0.05  # kernels chosen by the number of rows round otherwise there
OTHERS = "choose a causal language model, such as nano, gpt2 or HuggingFaceTB/SmolLM2-135M"
NO_MEMORY = "memory"  # in the words of every failed allocation; those are for the worker's boundary to tell


def check_tokens(name: str, model: Any, tokenizer: Any) -> None:
    """ModelError if text can become ids beyond the embedding. More rows than tokens are usual, and fine.

    Control tokens that are only written in the vocabulary do not count: no text becomes one of them. Nor does one for
    unknown letters, which many tokenizers name and never give; `check_text` sees those that do.
    """
    rows = rows_of(model)
    special = {*control_tokens(tokenizer), *tokenizer.all_special_ids}
    put_around = set(tokenizer("a")["input_ids"]) | {tokenizer.eos_token_id} - {None}
    beyond = {
        i: token for token, i in tokenizer.get_vocab().items() if i >= rows and (i in put_around or i not in special)
    }
    if not beyond:
        return
    first = min(beyond)
    raise ModelError(
        f"the tokenizer of {name} does not fit its model: {_counted(len(beyond))} beyond the {rows} that the model "
        f"has, the first is {beyond[first]!r} ({first})",
        "fetch both again from one place; after adding tokens: model.resize_token_embeddings(len(tokenizer)), then "
        "save_pretrained()",
    )


def check_text(name: str, model: Any, corpus: Corpus) -> None:
    """ModelError if the text, as it was read, holds ids beyond the embedding: every step on them would fail."""
    rows = rows_of(model)
    highest = max(int(corpus.split(split).tokens.max(initial=0)) for split in SPLITS)
    if highest >= rows:
        raise ModelError(
            f"the text holds token {highest}, and {name} knows {rows}: the tokenizer does not fit the model",
            "fetch both again from one place; a note that spells out a special token can do it, too",
        )


def check_loss(name: str, loss: float) -> None:
    """ModelError if the base's own loss on the text is no number: nothing could be told from it."""
    if not math.isfinite(loss):
        raise ModelError(
            f"the loss of {name} on this text is no number (NaN or infinite), so nothing could be learnt or measured",
            f"try --precision fp32, or {OTHERS}",
        )


def rows_of(model: Any) -> int:
    """How many ids both ends of the model know."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    sizes = [int(end.weight.shape[0]) for end in ends if isinstance(getattr(end, "weight", None), Tensor)]
    return min([*sizes, int(model.config.get_text_config().vocab_size)])


@torch.no_grad()
def check_passes(name: str, model: Any) -> None:
    """ModelError for a model that fails, gives no numbers, sees what comes after, or changes while it runs."""
    one, other = _inputs(model)
    versions = [parameter._version for parameter in model.parameters()]  # noqa: SLF001 - the only count of changes
    try:
        first_tv, second_tv = (model(input_ids=ids, use_cache=False).logits[0] for ids in (one, other))
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError, ImportError) as error:
        if NO_MEMORY in str(error).lower():
            raise
        kind = getattr(model.config, "model_type", "unknown")
        raise ModelError(f"{name}, a {kind} model, cannot be run: {str(error)[:200]}", OTHERS) from error
    if not (first_tv.isfinite().all() and second_tv.isfinite().all()):
        what = "a damaged checkpoint, or one that overflows here; fetch it again, try --precision fp32"
        raise ModelError(
            f"{name} gives numbers that are none (NaN or infinite) for a plain text", f"{what}, or {OTHERS}"
        )
    share = share_seen(first_tv.float(), second_tv.float())
    if share > (LEAK if first_tv.dtype == torch.float32 else LEAK_IN_16_BITS):
        raise ModelError(
            f"{name} looks at the words that come after the one it predicts (bidirectional attention, as BERT's), so "
            "it cannot write text, and a loss measured on it would mean nothing",
            OTHERS,
        )
    if versions != [parameter._version for parameter in model.parameters()]:  # noqa: SLF001
        raise ModelError(f"{name} changes its own weights while it runs, and its copies share them", OTHERS)


def share_seen(first_tv: Tensor, second_tv: Tensor) -> float:
    """How much of the change in the second half is seen in the first, 0 to about 1.

    A ratio of root mean squares over v, so that neither the size of logits nor that of the change matters.
    """
    change_t = (first_tv - second_tv).square().mean(dim=1).sqrt()
    half = len(change_t) // 2
    return float(change_t[:half].mean() / change_t[half:].mean().clamp(min=1e-12))


def _inputs(model: Any) -> tuple[Tensor, Tensor]:
    """Two rows that are equal in their first half alone."""
    longest = int(getattr(model.config.get_text_config(), "max_position_embeddings", 0) or POSITIONS)
    half, rows = max(1, min(POSITIONS, longest) // 2), rows_of(model)
    one = torch.arange(5, 5 + 2 * half) % rows
    other = one.clone()
    other[half:] = (other[half:] + 2 * half + 1) % rows
    device = model.get_input_embeddings().weight.device
    return one.unsqueeze(0).to(device), other.unsqueeze(0).to(device)


def _counted(number: int) -> str:
    return "one of its tokens lies" if number == 1 else f"{number} of its tokens lie"
