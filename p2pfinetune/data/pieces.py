"""The text of one file as documents, whatever other files hold. Pure.

A text file is one document, a row of a .jsonl file is one document, and what is long is cut into blocks that are
documents of their own (see `blocks`). A conversation is one document however long it is (see `chats`), so that no
answer is in another split than its question. The id of a document is the SHA-256 of its text, or of the turns of a
conversation, so that it never depends on a file's name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from p2pfinetune.data import blocks, formats, own_files
from p2pfinetune.data.chats.exports import rows_of, talk, telegram
from p2pfinetune.data.chats.messages import Message, conversations, turns_of_messages, whatsapp, written_out
from p2pfinetune.data.chats.turns import TOOL, TOOLS, ChatTurn, digest_of, said
from p2pfinetune.data.encodings import FileText
from p2pfinetune.data.guess import Evidence
from p2pfinetune.data.machine_text import LOCK_FILES, Cleaned, cleaned, whole_file
from p2pfinetune.data.report import NOTHING, TEXT_FIELDS
from p2pfinetune.data.secrets import REASON as SECRET
from p2pfinetune.data.secrets import is_file_of_secrets, secrets
from p2pfinetune.data.spool import SpooledText
from p2pfinetune.names import Digest
from p2pfinetune.system.path_names import shown

OTHER_JSON = "JSON, and neither conversations nor text fields"  # why a file is left out
NOT_MINE = "conversations without a line of --me"
ROW_SUFFIXES = (".jsonl", ".ndjson")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")
TRAILING_BLANKS = re.compile(r"(?<![ \t\v\f])[ \t\v\f]++$", re.MULTILINE)  # each run of blanks is looked at once


@dataclass(frozen=True, slots=True)
class Document:
    """A piece of text that is trained on, scored or held out as a whole. `source` tells people where it was found."""

    id: Digest
    held: str | SpooledText
    """Its text, or where it lies."""
    source: str
    turns: tuple[ChatTurn, ...] = ()
    """Of a conversation, whose `text` is what was said without who said it; none if it is no conversation."""

    @property
    def text(self) -> str:
        """What is trained on; of a conversation what was said. OSError if it was laid aside and is lost."""
        return self.held if isinstance(self.held, str) else self.held.read()

    @property
    def characters(self) -> int:
        """Of the text."""
        return len(self.held) if isinstance(self.held, str) else self.held.characters

    @classmethod
    def of(cls, text: str, source: str) -> Document:
        """A document whose id is the digest of this very text."""
        return cls(Digest(hashlib.sha256(text.encode()).hexdigest()), text, source)

    @classmethod
    def chat(cls, turns: tuple[ChatTurn, ...], source: str) -> Document:
        """A conversation, whose id is the digest of its turns."""
        return cls(Digest(digest_of(turns)), said(turns), source, turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileContent:
    """What one file holds; see `report.FileRead` for the fields."""

    documents: tuple[Document, ...] = ()
    reason: str = ""
    """Why there are none; empty if there are some."""
    bad_rows: int = 0
    encoding: str = ""
    replaced: int = 0
    left_out: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    evidence: Evidence | None = None
    """By which the encoding was guessed; None if the file or somebody tells it."""
    second: str | None = None
    """What another guesser takes it for, if ours stays open; None if it was not asked."""


@dataclass(frozen=True, slots=True)
class TextChoices:
    """What somebody said of how text is to be taken."""

    me: str = ""
    """Name in exports of messengers, whose lines are answers then."""
    keep_secrets: bool = False
    """Lines that look like passwords or tokens stay."""


USUAL = TextChoices()


def content_of(read: FileText, path: Path, choices: TextChoices = USUAL) -> FileContent:
    """The documents of a file, and what is to be said of it."""
    if own_files.is_log(read.text):
        return FileContent(reason=own_files.OWN, encoding=read.encoding, replaced=read.replaced)
    if not choices.keep_secrets and is_file_of_secrets(read.text, path.name.rpartition(":")[2]):
        return FileContent(reason=SECRET, left_out={SECRET: len(read.text)}, encoding=read.encoding)
    found = _Pieces(choices)
    if is_rows(path, read.text):
        found.take_rows(read.text, path)
    elif path.name.lower() not in LOCK_FILES and (value := whole_json(read.text, path)) is not None:
        found.take_json(value, path)
    elif (messages := whatsapp(read.text)) is not None:
        found.take_messages(messages, shown(path))
    elif reason := whole_file(read.text, path.name):
        found.left_out[reason] = len(read.text)
    else:
        opened = formats.read_text(read.text, path.name)
        found.take_parts(opened or formats.FileTexts(parts=(formats.TextPart(read.text),)), path)
        if opened and opened.reason:
            return FileContent(reason=opened.reason, encoding=read.encoding, replaced=read.replaced)
    return found.content(read.encoding, read.replaced)


def content_of_parts(opened: formats.FileTexts, path: Path, choices: TextChoices = USUAL) -> FileContent:
    """The documents of a file whose format tells its own encoding."""
    if opened.reason:
        return FileContent(reason=opened.reason)
    found = _Pieces(choices)
    found.take_parts(opened, path)
    return found.content(opened.encoding, opened.replaced)


@dataclass(slots=True)
class _Pieces:
    """What has been found in one file."""

    choices: TextChoices
    documents: list[Document] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    bad_rows: int = 0
    is_other_json: bool = False

    def take(self, text: Cleaned, source: str) -> None:
        self.left_out.update(text.left_out)
        self.documents += [Document.of(block, source) for block in blocks.cut(normalise(text.text))]

    def take_rows(self, text: str, path: Path) -> None:
        name = shown(path)
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                self.take_row(parsed(line), f"{name}:{number}")

    def take_row(self, row: Any, source: str) -> None:
        turns = talk(row)
        content = row_text(row) if turns is None else None
        self.bad_rows += turns is None and content is None
        if turns is not None:
            self.take_chat(turns, source)
        elif content is not None:
            self.take(self._text_of(content), source)

    def take_json(self, value: Any, path: Path) -> None:
        """A file that is JSON as a whole."""
        name, rows, chats = shown(path), rows_of(value), telegram(value)
        if chats is not None:
            for messages in chats:
                self.take_messages(messages, name)
        elif rows is not None:
            for number, row in enumerate(rows, start=1):
                self.take_row(row, f"{name}:{number}")
        else:
            self.is_other_json = True

    def take_messages(self, messages: Sequence[Message], source: str) -> None:
        """An export of a messenger: conversations if somebody says whose the answers are, else text."""
        for one in conversations(messages):
            if not self.choices.me:
                self.take(self._text_of(written_out(one)), source)
            elif turns := turns_of_messages(one, self.choices.me):
                self.take_chat(turns, source)
            else:
                self.left_out[NOT_MINE] += sum(len(message.text) for message in one)

    def take_chat(self, turns: Iterable[ChatTurn], source: str) -> None:
        """A conversation, if an answer is left of it."""
        kept = tuple(turn for turn in map(self._clean, turns) if turn.content or turn.calls or turn.role == TOOL)
        if any(turn.is_answer for turn in kept):
            self.documents.append(Document.chat(kept, source))

    def _clean(self, turn: ChatTurn) -> ChatTurn:
        content, thought = self._cleaned(turn.content), self._cleaned(turn.reasoning)
        calls = self._cleaned_json(json.loads(turn.calls)) if turn.calls else None
        if turn.role == TOOLS:
            content = json.dumps(self._cleaned_json(json.loads(turn.content)), ensure_ascii=False)
        written = json.dumps(calls, ensure_ascii=False) if calls else ""
        is_answer = turn.is_answer and bool(content or written)
        return ChatTurn(turn.role, content, is_answer, LONE_SURROGATES.sub("\ufffd", written), thought)

    def _text_of(self, text: str) -> Cleaned:
        return cleaned(text, keep_secrets=self.choices.keep_secrets)

    def _cleaned(self, text: str) -> str:
        found = self._text_of(text)
        self.left_out.update(found.left_out)
        return normalise(found.text).strip()

    def _cleaned_json(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._cleaned(value)
        if isinstance(value, list):
            return [self._cleaned_json(one) for one in value]
        if isinstance(value, dict):
            return {key: self._cleaned_json(one) for key, one in value.items() if not self._is_secret(key, one)}
        return value

    def _is_secret(self, key: str, value: Any) -> bool:
        """Whether a name says so of a value that stands apart from it, be it a number; or is one itself."""
        is_single = isinstance(value, str | int | float) and not isinstance(value, bool)
        said = f'"{key}": "{value}"' if is_single else key
        if self.choices.keep_secrets or not any(secrets(said)):
            return False
        self.left_out[SECRET] += len(str(value)) if is_single else len(key)
        return True

    def take_parts(self, opened: formats.FileTexts, path: Path) -> None:
        self.left_out.update(opened.left_out)
        for part in opened.parts:
            self.take(self._text_of(part.text), f"{shown(path)}{part.place}")

    def content(self, encoding: str, replaced: int) -> FileContent:
        return FileContent(
            documents=tuple(self.documents),
            reason=self.reason(),
            bad_rows=self.bad_rows,
            encoding=encoding,
            replaced=replaced,
            left_out=self.left_out or NOTHING,
        )

    def reason(self) -> str:
        """Why there are no documents: what most of the text was, where something was left out of it."""
        if self.documents:
            return ""
        if self.left_out:
            return self.left_out.most_common(1)[0][0]
        if self.is_other_json or self.bad_rows:
            return OTHER_JSON
        return "empty"


def normalise(text: str) -> str:
    """Newlines as line ends, no white space before them, no blank lines around: editors differ in these."""
    text = LONE_SURROGATES.sub("\ufffd", text)  # JSON can spell them, UTF-8 and tokenizers cannot
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return TRAILING_BLANKS.sub("", text).strip("\n")


def is_rows(path: Path, text: str) -> bool:
    """Whether every line is a JSON value: by suffix, or because the first lines are objects."""
    if path.suffix.lower() in ROW_SUFFIXES:
        return True
    if not text[:100].lstrip().startswith("{"):
        return False
    first = [line for line in text.split("\n", 4)[:3] if line.strip()]
    return len(first) >= 2 and all(isinstance(parsed(line), dict) for line in first)


def parsed(text: str) -> Any:
    """What a text says in JSON; None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def whole_json(text: str, path: Path) -> Any:
    """What a file says that is JSON as a whole, or called so; None if it is text, or a notebook, which is read as one.

    What is called .json and is none is nothing that a person wrote to be read either.
    """
    is_called = path.suffix.lower() == ".json"
    inside = text.strip() if is_called or text[:100].lstrip()[:1] in {"{", "["} else ""
    if not is_called and inside[-1:] not in {"}", "]"}:
        return None
    value = parsed(inside)
    if isinstance(value, dict) and "nbformat" in value:
        return None
    return {} if value is None and is_called and inside else value


def row_text(row: Any) -> str | None:
    """The text of one row: a JSON string, or the first of the usual fields that holds one."""
    if isinstance(row, dict):
        row = next((row[name] for name in TEXT_FIELDS if isinstance(row.get(name), str)), None)
    return row if isinstance(row, str) and row.strip() else None
