"""Exports of messengers: who wrote what and when, as conversations. Pure.

WhatsApp exports lines of text, in two forms and in the order of day and month of whoever exported it:

    [28.11.26, 21:30:05] Anna: Are you coming?        28/11/2026, 21:30 - Anna: Are you coming?

A line without such a head goes on with the message above. What the messenger itself says (a head without a name, a
medium that was left out) is left away. A text is taken for such an export only if nearly all of its first lines fit,
for a log of another program may begin with a time too.

Hours of silence end a conversation, so a chat of years is many documents, and one that is exported again tomorrow has
the same ones and a few more. Whose lines are answers nobody can see in the file. If the user says which name is theirs
(`me`), what they wrote is what the model learns to say: others' messages are questions, and several in a row are one
turn. If not, a conversation is text like any other, lines of "Name: what was written", and all of it is learnt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from p2pfinetune.data.chats.turns import ASSISTANT, USER, ChatTurn

SILENCE = timedelta(hours=6)  # after which another conversation begins
LOOKED_AT = 40  # lines of a text by which it is told whether it is an export
LEAST_HEADS = 3  # lines with a head and a name, among these
LONGEST = 8192  # characters of one conversation, however short the silences are: it stands in one split as a whole
MARKS = "\u200e\u200f\u202a\u202c\u2068\u2069\ufeff"  # that WhatsApp puts around names and media
HEAD = re.compile(
    r"\A\[?(?P<day>\d{1,4}[./-]\d{1,2}[./-]\d{2,4}), (?P<hour>\d{1,2}[:.]\d{2}(?:[:.]\d{2})?)"
    r"(?:\s?(?P<half>[AaPp])\.?\s?[Mm]\.?)?(?:\]| -) (?:(?P<name>[^:\n]{1,60}): )?"
)
UNMARKED = {ord(mark): None for mark in MARKS}
MONTHS = 12
LEFT_OUT = re.compile(r"<[^<>]{3,40}>|(?:image|video|audio|sticker|GIF|document) omitted|null", re.IGNORECASE)


class Message(NamedTuple):
    """What somebody wrote at once."""

    at: datetime
    name: str
    text: str


def whatsapp(text: str) -> list[Message] | None:
    """The messages of an export; None if the text is none."""
    first = [line for line in text[:65_536].split("\n", LOOKED_AT + 1)[:LOOKED_AT] if line.strip()]
    heads = [match for line in first if (match := HEAD.search(line.translate(UNMARKED))) is not None]
    if sum(match["name"] is not None for match in heads) < min(LEAST_HEADS, len(first)) or not heads:
        return None
    if not first[0].translate(UNMARKED).startswith(heads[0][0]) or 2 * len(heads) < len(first):
        return None
    return list(_messages(text))


def _messages(text: str) -> Iterator[Message]:
    lines = text.translate(UNMARKED).split("\n")
    dates = [match for line in lines if (match := HEAD.search(line)) is not None]
    is_day_first = not any(_numbers(match["day"])[1] > MONTHS for match in dates)
    found: Message | None = None
    rest: list[str] = []  # lines behind its first; joined once, since a message may be a whole file
    for line in lines:
        match = HEAD.search(line)
        if match is None:
            rest.append(line)
            continue
        yield from _whole(found, rest)
        rest.clear()
        at = _time(match, is_day_first=is_day_first)
        said = line[match.end() :]
        is_said = match["name"] is not None and at is not None and not LEFT_OUT.fullmatch(said.strip())
        found = Message(at, str(match["name"]).strip(), said) if is_said and at is not None else None
    yield from _whole(found, rest)


def _whole(begun: Message | None, rest: Sequence[str]) -> Iterator[Message]:
    """With the lines behind its first; none if nothing is said in it."""
    if begun is not None and (text := "\n".join([begun.text, *rest])).strip():
        yield begun._replace(text=text)


def _numbers(date: str) -> list[int]:
    return [int(number) for number in re.split(r"[./-]", date)]


def _time(match: re.Match[str], *, is_day_first: bool) -> datetime | None:
    """When it was written; None for a time that there is not."""
    one, two, three = _numbers(match["day"])
    hour, minute, *_ = _numbers(match["hour"].replace(":", "."))
    half = (match["half"] or "").lower()
    hour = hour % 12 + 12 * (half == "p") if half else hour
    if one > 31:
        year, month, day = one, two, three
    else:
        (day, month), year = ((one, two) if is_day_first else (two, one)), three
    try:
        return datetime(year + 2000 * (year < 100), month, day, hour, minute)  # noqa: DTZ001 - of their clock
    except ValueError:
        return None


def conversations(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """Divided by silence, and by length."""
    talk: list[Message] = []
    size = 0
    for message in messages:
        if talk and (message.at - talk[-1].at > SILENCE or size + len(message.text) > LONGEST):
            yield talk
            talk, size = [], 0
        talk.append(message)
        size += len(message.text)
    if talk:
        yield talk


def turns_of_messages(talk: Sequence[Message], me: str) -> tuple[ChatTurn, ...]:
    """The turns of a conversation, with mine as answers; none if I said nothing."""
    others = {message.name for message in talk} - {me}
    turns: list[ChatTurn] = []
    for message in talk:
        is_mine = message.name == me
        text = message.text.strip() if is_mine or len(others) < 2 else f"{message.name}: {message.text.strip()}"
        if turns and turns[-1].is_answer == is_mine:
            turns[-1] = ChatTurn(turns[-1].role, f"{turns[-1].content}\n{text}", is_mine)
        elif is_mine:
            turns.append(ChatTurn(ASSISTANT, text, is_answer=True))
        else:
            turns.append(ChatTurn(USER, text))
    return tuple(turns) if any(turn.is_answer for turn in turns) else ()


def written_out(talk: Sequence[Message]) -> str:
    """A conversation as text."""
    return "\n".join(f"{message.name}: {message.text.strip()}" for message in talk)
