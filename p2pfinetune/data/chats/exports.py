"""A whole JSON file: rows, what a chat service or a messenger exports, or nothing that may be trained on. Pure.

No file is trained on as raw JSON: brackets and keys are no text of a person's, and a configuration is no conversation.
So whatever is JSON as a whole, called .json or not, is either one of these or is left out by name:

    a list of rows, or an object with one    each row as in a .jsonl file: a conversation, or a text field
    an object that is a conversation         one conversation
    ChatGPT's conversations.json             what was said on the way to the last message, without branches left behind
    Telegram's result.json                   messages, see `messages`

A single object with a text field is not read: most of these are settings, with a `message` or `content` among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from p2pfinetune.data.chats.messages import Message
from p2pfinetune.data.chats.shapes import Turns, conversation_of, turns_of

ROW_LISTS = ("data", "rows", "train", "examples", "conversations", "chats", "items")
MOST_STEPS = 100_000  # messages on the way back from the last one


def rows_of(value: Any) -> Sequence[Any] | None:
    """The rows of a file that was parsed; None if it is none that may be read."""
    if isinstance(value, list):
        turns = turns_of(value)
        return [value] if turns is not None and any(turn.is_answer for turn in turns) else value
    if not isinstance(value, Mapping):
        return None
    if talk(value) is not None:
        return [value]
    return next((value[name] for name in ROW_LISTS if isinstance(value.get(name), list) and value[name]), None)


def talk(row: Any) -> Turns | None:
    """A conversation in one of the forms of datasets or exports; a list of turns is one too."""
    if isinstance(row, list):
        return conversation_of({"messages": row})
    if isinstance(row, Mapping) and isinstance(row.get("mapping"), Mapping):
        return _on_the_way(row)
    return conversation_of(row)


def _on_the_way(row: Mapping[str, Any]) -> Turns | None:
    """From ChatGPT's tree of messages, those from the first to the one that was last seen."""
    nodes, at = row["mapping"], row.get("current_node")
    if at not in nodes:
        at = next((name for name, node in reversed(nodes.items()) if isinstance(node, Mapping)), None)
    found: list[Any] = []
    while isinstance(node := nodes.get(at) if isinstance(at, str) else None, Mapping) and len(found) < MOST_STEPS:
        found.append(_node(node.get("message")))
        at = node.get("parent")
    turns = turns_of([one for one in reversed(found) if one is not None])
    return turns if turns and any(turn.is_answer for turn in turns) else None


def _node(message: Any) -> dict[str, Any] | None:
    """A message as {role, content}; None for one that nobody reads: hidden, empty, or a tool's own affair."""
    if not isinstance(message, Mapping) or not isinstance(message.get("content"), Mapping):
        return None
    author, content = message.get("author"), message["content"]
    role = author.get("role") if isinstance(author, Mapping) else None
    parts = content.get("parts")
    if role not in {"user", "assistant"} or not isinstance(parts, list):
        return None
    text = "\n\n".join(part for part in parts if isinstance(part, str) and part.strip())
    return {"role": role, "content": text} if text and message.get("recipient", "all") == "all" else None


def telegram(value: Any) -> list[list[Message]] | None:
    """The messages of each chat in an export of Telegram; None if it is none."""
    if not isinstance(value, Mapping):
        return None
    chats = value.get("chats")
    listed = chats.get("list") if isinstance(chats, Mapping) else [value]
    found = [_telegrams(chat) for chat in listed] if isinstance(listed, list) else []
    return [one for one in found if one] or None


def _telegrams(chat: Any) -> list[Message]:
    messages = chat.get("messages") if isinstance(chat, Mapping) else None
    if not isinstance(messages, list):
        return []
    found = []
    for one in messages:
        if isinstance(one, Mapping) and one.get("type") == "message" and isinstance(one.get("from"), str):
            text = one.get("text")
            parts = text if isinstance(text, list) else [text]
            said = "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in parts if part)
            if said.strip() and (at := _time(one.get("date"))) is not None:
                found.append(Message(at, one["from"], said.strip()))
    return found


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=None)
    except (TypeError, ValueError):
        return None
