"""What a chat template puts around each turn, found by asking it; nothing of Jinja is read.

Most templates say one thing before and one thing behind a turn, by its role, and one thing that begins the answer
(ChatML, Llama 3, Zephyr, Phi-3). Such a template can be said in any other language. It is rendered for a conversation
of marks, cut at them, and then rendered for others, which have to come out as what was found says. A template that does
more (dates, tools, a system turn inside the first question) fails that, and is told with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from p2pfinetune.data.tokens import beginning
from p2pfinetune.errors import ExportError
from p2pfinetune.export.gguf_tokenizer import template_of

Line = tuple[str, str]
"""Role and content."""

ROLES = ("system", "user", "assistant")
MARKS: tuple[Line, ...] = (("system", "M0M"), ("user", "M1M"), ("assistant", "M2M"), ("user", "M3M"))
OTHERS: tuple[tuple[Line, ...], ...] = (
    (("user", "one"),),
    (("user", "one"), ("assistant", "two"), ("user", "three")),
    (("system", "four"), ("user", "one")),
    (("system", "four"), ("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "4"), ("user", "5")),
)
DOES_MORE = "the base's chat template does more than to put something before and behind each turn"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """A template that says the same around every turn of a role."""

    around: Mapping[str, tuple[str, str]]
    """Role to what stands before and behind."""
    answer: str
    """What begins an answer."""
    system: str = ""
    """Said by the template itself if a conversation has no system turn; empty if it says nothing."""

    def rendered(self, lines: Sequence[Line]) -> str:
        """As the template would."""
        if self.system and lines[0][0] != "system":
            lines = [("system", self.system), *lines]
        return "".join(f"{self.around[role][0]}{text}{self.around[role][1]}" for role, text in lines) + self.answer


def turns_of(tokenizer: Any) -> Surroundings:
    """What the tokenizer's template says around turns. ExportError says why it cannot be said so."""
    found = _cut(_rendered(tokenizer, MARKS))
    found = replace(found, system=_own_system(found, _rendered(tokenizer, OTHERS[0])))
    if any(found.rendered(lines) != _rendered(tokenizer, lines) for lines in OTHERS):
        raise ExportError(DOES_MORE)
    return found


def _cut(whole: str) -> Surroundings:
    """At the marks; between two of them, before what stands before the first, with the other role's name in it."""
    rest, between = whole, []
    for _, mark in MARKS:
        before, found, rest = rest.partition(mark)
        if not found:
            raise ExportError("the base's chat template leaves turns out, or changes what they say")
        between.append(before)
    starts = {role: between[0].replace("system", role).replace("System", role.capitalize()) for role in ROLES}
    expected = [*(starts[role] for role, _ in MARKS[1:]), ""]
    if not all(piece.endswith(start) for piece, start in zip([*between[1:], rest], expected, strict=True)):
        raise ExportError(DOES_MORE)
    ends = [piece.removesuffix(start) for piece, start in zip([*between[1:], rest], expected, strict=True)]
    around = {role: (starts[role], ends[i]) for i, role in enumerate(ROLES)}
    if not rest.startswith(ends[1]):
        raise ExportError(DOES_MORE)
    return Surroundings(around, rest.removeprefix(ends[1]))


def _own_system(found: Surroundings, alone: str) -> str:
    """The system turn in a conversation that has none."""
    before, behind = found.around["system"]
    spoken = alone.removesuffix(found.rendered(OTHERS[0]))
    return spoken.removeprefix(before).removesuffix(behind) if spoken.startswith(before) else ""


def _rendered(tokenizer: Any, lines: Sequence[Line]) -> str:
    """Without the token that the tokenizer itself puts at the beginning of every text."""
    from jinja2 import TemplateError

    messages = [{"role": role, "content": text} for role, text in lines]
    try:
        whole: str = tokenizer.apply_chat_template(
            messages, chat_template=template_of(tokenizer), tokenize=False, add_generation_prompt=True
        )
    except (TemplateError, ValueError, TypeError, KeyError) as error:
        raise ExportError(f"the base's chat template refuses a conversation: {error}") from error
    first = tokenizer.decode(beginning(tokenizer)) if beginning(tokenizer) else ""
    return whole.removeprefix(first)
