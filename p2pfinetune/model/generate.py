"""Continue a prompt, greedily or by sampling with a seed of its own. Changes neither weights nor global randomness.

Temperature divides the logits, and then the smallest set of tokens that holds `top_p` of the probability is sampled
from (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751). A continuation shows people what an adapter learnt; no
figure rests on it. A model's cache of keys and values is used if it returns one; if not, every token runs the whole
text anew.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from p2pfinetune.data.tokens import beginning, end_of_text, plain_ids
from p2pfinetune.errors import OptionError
from p2pfinetune.model.base import Base
from p2pfinetune.model.compute import measuring_precision, without_dropout


def continuation(
    base: Base, model: Any, prompt: str, *, max_tokens: int, temperature: float, seed: int, top_p: float = 1.0
) -> str:
    """The text after the prompt, up to end-of-text or `max_tokens`; temperature 0 takes the likeliest token always."""
    if max_tokens < 1 or not temperature >= 0.0 or not 0.0 < top_p <= 1.0:
        raise OptionError("at least one token, a temperature of zero or more, and a top_p in (0, 1] are needed")
    prompt_ids = _prompt(base, prompt, max_tokens)
    dice = torch.Generator().manual_seed(seed)
    ends, ids = set(end_of_text(base.tokenizer)), list(prompt_ids)
    fresh, cache = ids, None
    room = base.max_context or len(ids) + max_tokens
    with torch.inference_mode(), without_dropout(model), measuring_precision(base.device, base.precision):
        while len(ids) - len(prompt_ids) < max_tokens and len(ids) < room:
            out = model(input_ids=torch.tensor([fresh], device=base.device), past_key_values=cache, use_cache=True)
            token = _choose(out.logits[0, -1].float().cpu(), temperature, top_p, dice)
            if token in ends:
                break
            ids.append(token)
            cache = getattr(out, "past_key_values", None)
            fresh = ids if cache is None else [token]
    return _text_behind(base.tokenizer, prompt_ids, ids)


def _prompt(base: Base, prompt: str, max_tokens: int) -> list[int]:
    """Ids of the prompt as documents begin in training; the end of a prompt that leaves no room for the answer."""
    ids = [*beginning(base.tokenizer), *plain_ids([prompt], base.tokenizer)[0]]
    ids = ids or end_of_text(base.tokenizer) or [0]
    keep = max(1, base.max_context - max_tokens) if base.max_context else len(ids)
    return ids[-keep:]


def _choose(logits_v: Tensor, temperature: float, top_p: float, dice: torch.Generator) -> int:
    if temperature == 0.0:
        return int(logits_v.argmax())
    likely_v, order_v = (logits_v / temperature).softmax(dim=0).sort(descending=True)
    # a token stays while those before it hold less than top_p together, so the first always stays
    before_v = likely_v.cumsum(dim=0) - likely_v
    kept_v = torch.where(before_v < top_p, likely_v, 0.0)
    return int(order_v[torch.multinomial(kept_v, 1, generator=dice)])


def _text_behind(tokenizer: Any, prompt_ids: list[int], ids: list[int]) -> str:
    """Decoded together with the prompt, since some tokenizers drop the space in front of a text's first word."""
    whole: str = tokenizer.decode(ids, skip_special_tokens=True)
    start: str = tokenizer.decode(prompt_ids, skip_special_tokens=True)
    return whole[len(start) :] if whole.startswith(start) else tokenizer.decode(ids[len(prompt_ids) :])
