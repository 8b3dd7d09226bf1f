"""A chat as the ids that its base model goes on from: by the model's own template, up to where it is to answer.

What somebody writes is text and nothing else, as in `data.tokens`: in what a line of the chat says, the spelling of a
control token is broken by a character that none of the lines has, so that no one can begin a turn of another's. The
template is rendered as a whole and cut at these places; nothing else differs from what the template gives.

A base without a template gets a plain one, in which each line stands behind who says it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from p2pfinetune.data.tokens import beginning, control_tokens
from p2pfinetune.errors import OptionError
from p2pfinetune.speech import ChatLine

PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
PLAIN_STOP = ("\n\nUser:", "\n\nSystem:", "\n\nAssistant:")
"""Where an answer by the plain template ends, since no token says it."""


def chat_ids(tokenizer: Any, lines: Sequence[ChatLine]) -> list[int]:
    """Raises OptionError if the template takes no such chat."""
    cut = _unused(lines)
    spelt = re.compile(f"{_spelling(control_tokens(tokenizer).values())}", re.IGNORECASE)
    safe = [
        {"role": line.role, "content": spelt.sub(lambda m: m[0][0] + cut + m[0][1:], line.content)} for line in lines
    ]
    parts = _rendered(tokenizer, safe).split(cut)
    ids = [token for part in parts if part for token in tokenizer(part, add_special_tokens=False)["input_ids"]]
    return ids if getattr(tokenizer, "chat_template", None) else [*beginning(tokenizer), *ids]


def chat_stop(tokenizer: Any) -> tuple[str, ...]:
    """Strings that end an answer in a chat; none if the model has a template, whose answers end by a token."""
    return () if getattr(tokenizer, "chat_template", None) else PLAIN_STOP


def _rendered(tokenizer: Any, messages: list[dict[str, str]]) -> str:
    from jinja2 import TemplateError

    own = None if getattr(tokenizer, "chat_template", None) else PLAIN_TEMPLATE
    try:
        found: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True, chat_template=own
        )
    except (TemplateError, ValueError, TypeError, KeyError, IndexError) as error:
        said = f"this model's chat template does not take such a chat: {str(error)[:200]}"
        raise OptionError(said, "most want user and assistant by turns, and the user last") from error
    return found


def _spelling(controls: Iterable[str]) -> str:
    """Any of the control tokens; in one of a single character there is nothing to break."""
    longest_first = sorted((word for word in controls if len(word) > 1), key=len, reverse=True)
    return "|".join(map(re.escape, longest_first)) or r"(?!)"


def _unused(lines: Sequence[ChatLine]) -> str:
    """A character of private use that no line has."""
    used = {character for line in lines for character in line.content + line.role}
    return next(chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in used)
