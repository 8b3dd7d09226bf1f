"""What a model is asked to go on with, and what it says, piece by piece, as values. Never imports torch.

    Sampling, and a prompt or ChatLines   -->   Begun  Piece  Piece  ...  Ended

The library, the worker's pipe and the control interface all speak of an answer in these.
"""

from __future__ import annotations

from typing import Literal

import msgspec

MAX_CHOICES = 20  # likeliest tokens that may be asked for beside the chosen one; as many as OpenAI's interface gives


Role = Literal["system", "user", "assistant", "tool"]


class ChatLine(msgspec.Struct, frozen=True):
    """What one side of a chat has said."""

    role: Role
    content: str


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How tokens are chosen, and when it is enough."""

    max_tokens: int
    temperature: float = 0.0
    """0 takes the likeliest token always."""
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    """The text ends before the first of these, which are no part of it."""
    choices: int | None = None
    """How many of the likeliest tokens are told beside each chosen one; None: no probabilities at all."""


class Choice(msgspec.Struct, frozen=True):
    """A token that might have been, and the logarithm of its probability."""

    text: str
    logprob: float


class Chance(msgspec.Struct, frozen=True):
    """A token that was chosen, how likely it was before temperature and top_p, and the likeliest at its place."""

    text: str
    logprob: float
    top: tuple[Choice, ...] = ()


class Begun(msgspec.Struct, frozen=True, kw_only=True, tag="begun", tag_field="kind"):
    """It was understood, and the first pass of the model follows."""

    prompt_tokens: int
    left_out: int = 0
    """Of a prompt too long: tokens; of a chat: lines."""


class Piece(msgspec.Struct, frozen=True, kw_only=True, tag="piece", tag_field="kind"):
    """What follows, in whole characters. All texts in their order are the answer."""

    text: str
    chances: tuple[Chance, ...] = ()
    """Of the tokens that the text ends the last of, if they were asked for."""


class Ended(msgspec.Struct, frozen=True, kw_only=True, tag="ended", tag_field="kind"):
    """Nothing follows."""

    reason: Literal["stop", "length", "cancelled"]
    """stop: an end-of-text token or a stop string; length: `max_tokens` or the context are used up."""
    prompt_tokens: int
    completion_tokens: int


Said = Begun | Piece | Ended
