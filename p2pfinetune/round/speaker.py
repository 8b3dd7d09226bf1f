"""What the models of a learner say, beside training: on a module tree of its own, which shares the base's tensors.

The live model of training is never touched, so an answer may be given between any two passes of it, in the middle of a
merge too, and training stays the same to the bit. Several answers may be under way: each keeps the adapter that it
began with, which is copied in before its next pass if another was there.

Shapes: none; the adapter's factors alone are copied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from typing import Any

import msgspec

from p2pfinetune.batched.speaking import Voice
from p2pfinetune.data.chats.marking import prompt_ids as chat_ids
from p2pfinetune.data.chats.template import ChatTemplate
from p2pfinetune.errors import OptionError, PromptTooLong
from p2pfinetune.model.adapter import Adapter, attach
from p2pfinetune.model.base import Base
from p2pfinetune.model.generate import Going, Mixed, MixedMember, Passes, check, prompt_ids, said_by
from p2pfinetune.names import DEFAULT_ADAPTER
from p2pfinetune.options import AdapterSpec
from p2pfinetune.round.blend import Blend
from p2pfinetune.speech import Begun, ChatLine, Piece, Said, Sampling

MAX_TOKENS = 4096  # of a prompt and its answer
KEPT_SHARE, LEAST_KEPT = 1 / 8, 1 << 28
"""Of the bytes of the weights, and bytes: what the model may keep of an answer while it speaks (keys and values)."""

NEXT_LINE = ("\n\nUser:", "\n\nSystem:", "\n\nAssistant:")
"""Where an answer ends by the simple template, in which a base that learnt no chats ends it by no token."""


class Speaker:
    """Of one base and spec; the tree is made when something is first said."""

    def __init__(self, base: Base, spec: AdapterSpec, front: Sequence[int] = ()) -> None:
        """`front`: ids that stand before every prompt and are never left out; see `data.profile`."""
        self._base, self._spec, self._front = base, spec, [*front]
        self._model: Any = None
        self._held: Adapter | None = None

    @cached_property
    def context(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        model = self._base.model
        weights = sum(tensor.numel() * tensor.element_size() for tensor in model.parameters())
        most = max(LEAST_KEPT, KEPT_SHARE * weights) / kept_bytes(model.config.get_text_config())
        return min(self._base.max_context or MAX_TOKENS, MAX_TOKENS, int(most))

    def respond(
        self, adapter: Adapter | Blend, prompt: str | Sequence[ChatLine], sampling: Sampling, *, cuts: bool = True
    ) -> Iterator[Said | None]:
        """One pass of the model for each value: what can be said after it, None if nothing can.

        A mixture takes a pass of each of its members for every word.

        `cuts`: leave out the beginning of a prompt, and the oldest lines of a chat, that are too long, instead of
        refusing. Raises OptionError for what cannot be gone on with, before the first value.
        """
        check(sampling)
        if isinstance(prompt, str):
            whole = prompt_ids(self._base, prompt)
            kept = whole[-self._room(sampling) :] if cuts else whole
            ids, left_out = [*self._front, *kept], len(whole) - len(kept)
        else:
            ids, left_out = self._chat(prompt, sampling, cuts=cuts)
            if ChatTemplate(self._base.tokenizer).is_simple:
                sampling = msgspec.structs.replace(sampling, stop=(*sampling.stop, *NEXT_LINE))
        if len(ids) >= self.context:
            hint = "shorten it; a base model with a longer context takes more"
            raise PromptTooLong(f"the prompt has {len(ids)} tokens, and this model looks at {self.context}", hint)
        most = min(sampling.max_tokens, self.context - len(ids))
        return self._spoken(adapter, ids, left_out, msgspec.structs.replace(sampling, max_tokens=most))

    def text(self, adapter: Adapter | Blend, prompt: str, sampling: Sampling) -> str:
        """All that is said after a prompt."""
        return "".join(one.text for one in self.respond(adapter, prompt, sampling) if isinstance(one, Piece))

    def _spoken(
        self, adapter: Adapter | Blend, ids: list[int], left_out: int, sampling: Sampling
    ) -> Iterator[Said | None]:
        yield Begun(prompt_tokens=len(ids), left_out=left_out)
        yield from said_by(self._base, self._passes(adapter, ids), ids, sampling)

    def _passes(self, adapter: Adapter | Blend, ids: list[int]) -> Going:
        """With the adapter copied in before each: another answer may have had its own there meanwhile."""
        weights = {DEFAULT_ADAPTER: 1.0} if isinstance(adapter, Adapter) else adapter.weights
        members = {DEFAULT_ADAPTER: adapter} if isinstance(adapter, Adapter) else adapter.members
        return Mixed(
            [
                MixedMember(weights[name], partial(self._with, member), Passes(self._base, self._with(member), ids))
                for name, member in members.items()
            ]
        )

    @cached_property
    def _tree(self) -> Voice:
        return Voice(attach(self._base, self._spec))

    def _with(self, adapter: Adapter) -> Any:
        if self._held is not adapter:
            self._model, self._held = self._tree.holding(adapter), adapter
        return self._model

    def _room(self, sampling: Sampling) -> int:
        """For the prompt: what the answer leaves, and half of the context always."""
        return max(1, self.context - min(sampling.max_tokens, self.context // 2) - len(self._front))

    def _chat(self, lines: Sequence[ChatLine], sampling: Sampling, *, cuts: bool) -> tuple[list[int], int]:
        """The ids, and how many lines were left out: the oldest, but neither what the system says nor the last turn."""
        if not lines:
            raise OptionError("a chat has one line at least", "add one of the role user")
        shorter = _shorter(lines) if cuts else [[*lines]]
        fits = bisect_left(shorter, True, key=lambda kept: len(self._ids(kept)) <= self._room(sampling))
        kept = shorter[min(fits, len(shorter) - 1)]
        return [*self._front, *self._ids(kept)], len(lines) - len(kept)

    def _ids(self, lines: Sequence[ChatLine]) -> list[int]:
        return chat_ids(self._base.tokenizer, lines)


def kept_bytes(config: Any) -> int:
    """Of one token, by a transformer of this configuration; one that does not say keeps little."""
    heads = getattr(config, "num_key_value_heads", None) or getattr(config, "num_attention_heads", None) or 1
    width = getattr(config, "hidden_size", None) or 1
    size = getattr(config, "head_dim", None) or width // (getattr(config, "num_attention_heads", None) or 1)
    return max(1, 2 * 4 * heads * size * (getattr(config, "num_hidden_layers", None) or 1))


def _shorter(lines: Sequence[ChatLine]) -> list[list[ChatLine]]:
    """The chat, and shorter and shorter ones that begin where a user speaks, each with what the system says."""
    system = [line for line in lines if line.role == "system"]
    others = [line for line in lines if line.role != "system"]
    begins = [place for place, line in enumerate(others) if line.role == "user" and place]
    return [[*lines], *([*system, *others[place:]] for place in begins)]
