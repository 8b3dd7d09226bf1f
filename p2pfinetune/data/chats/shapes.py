"""A row of JSON as a conversation, if it has one of the forms in which conversations are kept. Pure.

    messages, conversations, ...   lists of turns: OpenAI's {role, content}, ShareGPT's {from, value}, Claude's exports
    instruction, input, output     Alpaca's, with `system` and `history`
    prompt, completion             and the other usual pairs: question and answer, query and response, input and output
    chosen, rejected               preferences (DPO), of which only what was chosen is learnt

The shape decides, and no file's name. A row that is not wholly understood (a role that nobody knows, a turn without
text) is no conversation: half of one would be learnt as if it were all that was said. What is not text, a picture, say,
is left out of its turn. A turn of an assistant is an answer unless the row says that it is not to be learnt (`weight` 0
as OpenAI has it, or `train` false).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from p2pfinetune.data.chats.turns import ASSISTANT, SYSTEM, TOOL, TOOLS, USER, ChatTurn

Turns = tuple[ChatTurn, ...]

LISTS = ("messages", "conversations", "conversation", "chat_messages", "dialog", "dialogue", "turns", "chat")
ROLE_FIELDS, CONTENT_FIELDS = ("role", "from", "sender"), ("content", "value", "text")
ROLES = {
    **dict.fromkeys(("system", "developer"), SYSTEM),
    **dict.fromkeys(("user", "human", "prompter"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bot", "model", "ai", "function_call"), ASSISTANT),
    **dict.fromkeys(("tool", "function", "observation", "tool_response", "ipython"), TOOL),
}
PAIRS = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("prompt", "chosen"),
    ("question", "chosen"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)
DEEPEST = 64  # lists and objects in one another; schemas of tools have a dozen
THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL)


def conversation_of(row: Any) -> Turns | None:
    """The turns of a row, at least one of them an answer; None if it is no conversation."""
    if not isinstance(row, Mapping) or not _is_shallow(row):
        return None
    found = next((turns for shape in SHAPES if (turns := shape(row)) is not None), None)
    if found is None or not any(turn.is_answer for turn in found):
        return None
    return (*_set_up(row, found), *found)


def _set_up(row: Mapping[str, Any], turns: Turns) -> Iterable[ChatTurn]:
    """What stands beside the turns: tools, and a system prompt if none is among them."""
    tools = _json(row.get("tools")) or [{"type": "function", "function": one} for one in _json(row.get("functions"))]
    if tools:
        yield ChatTurn(TOOLS, json.dumps(tools, ensure_ascii=False))
    system = next((row[name] for name in ("system", "system_prompt") if _is_said(row.get(name))), None)
    if system and turns[0].role != SYSTEM:
        yield ChatTurn(SYSTEM, system.strip())


def _json(value: Any) -> list[Any]:
    """A list of objects, that some datasets keep as the text of one."""
    value = _object(value) if isinstance(value, str) else value
    return value if isinstance(value, list) and all(isinstance(one, dict) for one in value) else []


def _listed(row: Mapping[str, Any]) -> Turns | None:
    turns = next((row[name] for name in LISTS if isinstance(row.get(name), list)), None)
    return turns_of(turns) if turns and "chosen" not in row else None


def _preferred(row: Mapping[str, Any]) -> Turns | None:
    """The chosen side; beside it, if it does not repeat it, what was asked."""
    question, chosen = row.get("prompt"), row.get("chosen", row.get("completion"))
    if isinstance(row.get("input"), Mapping) and "preferred_output" in row:  # OpenAI's
        question, chosen = row["input"].get("messages"), row["preferred_output"]
    if isinstance(chosen, Mapping):
        chosen = [chosen]
    if not isinstance(chosen, list) or (answered := turns_of(chosen)) is None:
        return None
    if answered[0].role != ASSISTANT:
        return answered
    if isinstance(question, str):
        return (ChatTurn(USER, question.strip()), *answered) if _is_said(question) else None
    asked = turns_of(question) if isinstance(question, list) else None
    return None if asked is None else (*(replace(turn, is_answer=False) for turn in asked), *answered)


def _instructed(row: Mapping[str, Any]) -> Turns | None:
    """Alpaca's."""
    instruction, more = row.get("instruction"), row.get("input")
    answer = next((row[name] for name in ("output", "response") if _is_said(row.get(name))), None)
    if not _is_said(instruction) or answer is None:
        return None
    before = row.get("history") or []
    if not isinstance(before, list) or not all(_is_pair(pair) for pair in before):
        return None
    pairs = [(_text(asked), _text(answered)) for asked, answered in before]
    question = "\n\n".join(str(part).strip() for part in (instruction, more) if _is_said(part))
    return _paired([*pairs, (question, answer)])


def _asked(row: Mapping[str, Any]) -> Turns | None:
    found = next((pair for pair in PAIRS if all(_is_said(row.get(name)) for name in pair)), None)
    return _paired([(row[found[0]], row[found[1]])]) if found else None


def _paired(pairs: Sequence[tuple[str, str]]) -> Turns:
    return tuple(turn for asked, answer in pairs for turn in (ChatTurn(USER, asked.strip()), _answer(answer, {})))


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_said(part) for part in value)


SHAPES: tuple[Callable[[Mapping[str, Any]], Turns | None], ...] = (_listed, _preferred, _instructed, _asked)


def turns_of(values: Sequence[Any]) -> Turns | None:
    """The turns of a list of them; None if one of them is not understood, or there are none."""
    found = [_turn(value) for value in values]
    turns = tuple(turn for turn in found if turn is not None)
    return turns if turns and len(turns) == len(found) else None


def _turn(value: Any) -> ChatTurn | None:
    if not isinstance(value, Mapping):
        return None
    named = next((value[name] for name in ROLE_FIELDS if isinstance(value.get(name), str)), "")
    role, content = ROLES.get(named.lower()), _content(value)
    calls = _calls(value) if role == ASSISTANT else ""
    content = "" if content is None and calls else content
    if role is None or content is None or not (content.strip() or calls or role == TOOL):
        return None
    if named == "function_call":
        content, calls = "", _calls({"function_call": _object(content)}) or calls
        if not calls:
            return None
    return replace(_answer(content, value), calls=calls) if role == ASSISTANT else ChatTurn(role, content.strip())


def _answer(content: str, value: Mapping[str, Any]) -> ChatTurn:
    """What an assistant said, apart from what it thought."""
    thought = value.get("reasoning_content") or value.get("reasoning") or ""
    if (match := THOUGHT.fullmatch(content)) is not None:
        thought, content = match[1], match[2]
    is_learnt = value.get("weight", 1) != 0 and value.get("train") is not False
    return ChatTurn(ASSISTANT, content.strip(), is_learnt, reasoning=_text(thought).strip())


def _content(value: Mapping[str, Any]) -> str | None:
    """The text of a turn, also of one in parts; empty if the turn says that it has none; None if nothing is said."""
    names = [name for name in CONTENT_FIELDS if name in value]
    texts = [_text(value[name]) for name in names if isinstance(value[name], str | list) or value[name] is None]
    return next((text for text in texts if text.strip()), "" if texts else None)


def _text(content: Any) -> str:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    parts = [part if isinstance(part, str) else part.get("text") for part in content if isinstance(part, str | Mapping)]
    return "\n\n".join(part for part in parts if isinstance(part, str) and part.strip())


def _calls(value: Mapping[str, Any]) -> str:
    calls = _json(value.get("tool_calls"))
    if not calls and isinstance(value.get("function_call"), Mapping):
        calls = [{"type": "function", "function": value["function_call"]}]
    found = [_call(call) for call in calls]
    return json.dumps(found, ensure_ascii=False) if found and None not in found else ""


def _call(call: Mapping[str, Any]) -> dict[str, Any] | None:
    """With its arguments as an object, which is what templates expect."""
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not _is_said(function.get("name")):
        return None
    arguments = function.get("arguments", {})
    arguments = _object(arguments) if isinstance(arguments, str) else arguments
    return {"type": "function", "function": {"name": function["name"], "arguments": arguments}}


def _object(text: str) -> Any:
    """What a text says in JSON; the text, if it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return found if _is_shallow(found) else text


def _is_shallow(value: Any) -> bool:
    """Whether nothing in it is nested deeper than anybody writes; what is, would end in an error further on."""
    level = [value]
    for _ in range(DEEPEST):
        inside = [part for part in level if isinstance(part, list | dict)]
        level = [one for part in inside for one in (part.values() if isinstance(part, dict) else part)]
        if not level:
            return True
    return False


def _is_said(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
