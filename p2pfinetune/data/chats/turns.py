"""What a conversation is: turns in their order, some of which are answers that a model is to learn. Values alone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What somebody said at once."""

    role: str
    """system, user, assistant or tool, whatever the file called it."""
    content: str
    is_answer: bool
    """Whether this is learnt, with loss on answers."""
    calls: str = ""
    """Tools that an assistant asks for, as a JSON list in OpenAI's form; empty if there are none."""
