"""What a conversation is: turns in their order, some of which are answers that a model is to learn. Values alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass

TOOLS = "tools"
"""The role of a first turn that nobody said: its content is a JSON list of the tools that may be called."""
SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """What somebody said at once."""

    role: str
    """tools, system, user, assistant or tool."""
    content: str
    is_answer: bool = False
    """Whether this is learnt, with loss on answers."""
    calls: str = ""
    """Tools that an assistant asks for, as a JSON list in OpenAI's form; empty if there are none."""
    reasoning: str = ""
    """What an assistant thought before it answered."""


def said(turns: Sequence[ChatTurn]) -> str:
    """What distinguishes a conversation from others, as plain text: not who spoke, and nothing that was set up before.

    Hundreds of conversations may begin with one system prompt, and are no copies of one another for that.
    """
    parts = [part for turn in turns if turn.role not in {TOOLS, SYSTEM} for part in (turn.reasoning, turn.content)]
    return "\n\n".join(filter(None, parts)) or "\n\n".join(turn.content or turn.calls for turn in turns)


def digest_of(turns: Sequence[ChatTurn]) -> str:
    """Of all that there is to a conversation, so that no text and no other conversation has the same."""
    return hashlib.sha256(json.dumps(["chat", *map(astuple, turns)]).encode()).hexdigest()
