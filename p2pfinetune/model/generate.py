"""Continue a prompt, greedily or by sampling with a seed of its own. Changes neither weights nor global randomness.

Temperature divides the logits, and then the smallest set of tokens that holds `top_p` of the probability is sampled
from (nucleus sampling, Holtzman et al. 2020, arXiv 1904.09751). A continuation shows people what an adapter learnt; no
figure rests on it. A model's cache of keys and values is used if it returns one; if not, every token runs the whole
text anew.

A continuation is made one pass of the model at a time, so that whoever runs the model can do something else between
two of them: train, or go on with another continuation on the same model. A long prompt is more than one pass. Nothing
that holds for a whole thread (inference mode, precision) lasts from one pass to the next.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from p2pfinetune.data.tokens import beginning, end_of_text, plain_ids
from p2pfinetune.errors import OptionError
from p2pfinetune.model.base import Base
from p2pfinetune.model.compute import measuring_precision, without_dropout
from p2pfinetune.model.unfolding import Unfolding
from p2pfinetune.speech import Chance, Choice, Ended, Piece, Sampling

LEAST_TEMPERATURE = 1e-6  # below, logits divided by it may be beyond fp32; and no other token has a chance
PASS_TOKENS = 256  # of a prompt that are read in one pass, so that nobody waits for all of a long one


def continuation(
    base: Base,
    model: Any,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float,
    seed: int,
    top_p: float = 1.0,
    front: Sequence[int] = (),
) -> str:
    """The text after the prompt, up to end-of-text or `max_tokens`; temperature 0 takes the likeliest token always.

    `front`: ids that stand before the prompt.
    """
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed, top_p=top_p)
    ids = prompt_ids(base, prompt)
    left = max(1, room(base, max_tokens, len(ids) + len(front)) - len(front))
    passes = said(base, model, [*front, *ids[-left:]], sampling)
    return "".join(piece.text for piece in passes if isinstance(piece, Piece))


def said(base: Base, model: Any, ids: list[int], sampling: Sampling) -> Iterator[Piece | Ended | None]:
    """One pass of the model each: what can be said after it, None if nothing can; at the end how it ended.

    `ids`, one at least, must fit into the model's context. Raises OptionError for options out of range.
    """
    check(sampling)
    return said_by(base, Passes(base, model, ids), ids, sampling)


class Going(Protocol):
    """What says what may come next."""

    def add(self, token: int) -> None:
        """What came."""
        ...

    def run(self) -> Tensor | None:
        """One pass; logits (v,) on the CPU for what follows, None if another pass is needed first."""
        ...


def check(sampling: Sampling) -> None:
    """Raises OptionError for options out of range."""
    if sampling.max_tokens < 1 or not sampling.temperature >= 0.0 or not 0.0 < sampling.top_p <= 1.0:
        raise OptionError("at least one token, a temperature of zero or more, and a top_p in (0, 1] are needed")


def prompt_ids(base: Base, prompt: str) -> list[int]:
    """Ids of the prompt as documents begin in training; of an empty one the end of a document before."""
    ids = [*beginning(base.tokenizer), *plain_ids([prompt], base.tokenizer)[0]]
    return ids or end_of_text(base.tokenizer) or [0]


def room(base: Base, max_tokens: int, otherwise: int) -> int:
    """Tokens that a prompt may have, if its answer is to fit behind it; `otherwise` if the model does not say."""
    return max(1, base.max_context - max_tokens) if base.max_context else otherwise


def end_tokens(base: Base) -> set[int]:
    """Those that end an answer: end-of-text, and what the model's own settings name beside it."""
    named = getattr(getattr(base.model, "generation_config", None), "eos_token_id", None)
    more = named if isinstance(named, list) else [named]
    return {*end_of_text(base.tokenizer), *(int(token) for token in more if token is not None)}


def said_by(base: Base, passes: Going, ids: list[int], sampling: Sampling) -> Iterator[Piece | Ended | None]:
    """As `said`, by passes of one model or of several."""
    text = Unfolding(base.tokenizer, ids, sampling.stop)
    dice, ends = torch.Generator().manual_seed(sampling.seed), end_tokens(base)
    most = min(sampling.max_tokens, base.max_context - len(ids)) if base.max_context else sampling.max_tokens
    reason: Literal["stop", "length"] = "length"
    made = 0
    while made < most:
        logits_v = passes.run()
        if logits_v is None:
            yield None
            continue
        token = _choose(logits_v, sampling.temperature, sampling.top_p, dice)
        if token in ends:
            reason = "stop"
            break
        made += 1
        piece = text.add(token, _chance(logits_v, token, sampling.choices, text))
        passes.add(token)
        if text.stopped:
            reason = "stop"
            yield piece
            break
        yield piece
    yield text.rest()
    yield Ended(reason=reason, prompt_tokens=len(ids), completion_tokens=made)


@dataclass(frozen=True, slots=True)
class MixedMember:
    """One of several models that go on with one text together."""

    weight: float
    """Of its probabilities, above zero; those of all members sum to one."""
    prepare: Callable[[], object]
    """Called before each of its passes: members may share one module tree."""
    passes: Going


class Mixed:
    """A mixture of predictions: the weighted mean of the members' probabilities, one pass of one member at a time."""

    def __init__(self, members: Sequence[MixedMember]) -> None:
        self._members = members
        self._found: list[Tensor] = []

    def add(self, token: int) -> None:
        """It came for all of them."""
        for member in self._members:
            member.passes.add(token)

    def run(self) -> Tensor | None:
        """A pass of whoever has not said yet what may come; logits (v,) once all have: logarithms of the mean.

        Of a single member its own logits, to the bit.
        """
        member = self._members[len(self._found)]
        member.prepare()
        logits_v = member.passes.run()
        if len(self._members) == 1:
            return logits_v
        if logits_v is not None:
            self._found.append(logits_v.log_softmax(dim=0) + math.log(member.weight))
        if len(self._found) < len(self._members):
            return None
        found, self._found = torch.stack(self._found).logsumexp(dim=0), []
        return found


class Passes:
    """Of one continuation: what the model has read, and what it has not."""

    def __init__(self, base: Base, model: Any, ids: list[int]) -> None:
        self._base, self._model = base, model
        self._ids, self._read, self._cache = list(ids), 0, None
        # logits of a whole prompt and a large vocabulary would be the largest tensor by far
        self._last_alone = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
        self._forgets = False  # a model that returns nothing to go on from reads the whole text in each pass

    def add(self, token: int) -> None:
        """It is read in the next pass."""
        self._ids.append(token)

    def run(self) -> Tensor | None:
        """One pass; logits (v,) on the CPU for what follows the last token, None if not all has been read yet."""
        base, model = self._base, self._model
        fresh = self._ids if self._forgets else self._ids[self._read :][:PASS_TOKENS]
        ids_bt = torch.tensor([fresh], device=base.device)
        with torch.inference_mode(), without_dropout(model), measuring_precision(base.device, base.precision):
            out = model(input_ids=ids_bt, past_key_values=self._cache, use_cache=True, **self._last_alone)
        self._cache = getattr(out, "past_key_values", None)
        self._forgets = self._cache is None
        self._read += len(fresh)
        if len(fresh) == len(self._ids) or not (self._forgets or self._read < len(self._ids)):
            logits_v: Tensor = out.logits[0, -1].float().cpu()
            return logits_v
        return None


def _choose(logits_v: Tensor, temperature: float, top_p: float, dice: torch.Generator) -> int:
    if temperature < LEAST_TEMPERATURE:
        return int(logits_v.argmax())
    likely_v, order_v = (logits_v / temperature).softmax(dim=0).sort(descending=True)
    # a token stays while those before it hold less than top_p together, so the first always stays
    before_v = likely_v.cumsum(dim=0) - likely_v
    kept_v = torch.where(before_v < top_p, likely_v, 0.0)
    return int(order_v[torch.multinomial(kept_v, 1, generator=dice)])


def _chance(logits_v: Tensor, token: int, choices: int | None, text: Unfolding) -> Chance | None:
    if choices is None:
        return None
    logprobs_v = logits_v.log_softmax(dim=0)
    best = logprobs_v.topk(min(choices, len(logprobs_v)))
    top = [
        Choice(text.spelt(other), logprob)
        for logprob, other in zip(best.values.tolist(), best.indices.tolist(), strict=True)
    ]
    return Chance(text.spelt(token), float(logprobs_v[token]), tuple(top))
