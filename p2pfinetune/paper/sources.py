"""The files that the settings are made of, as pieces of plain text in an order drawn from the seed.

A piece is what near-duplicates are looked for among: a sentence, a news item, a passage of a file. Sentences are so
short that several make a document. Reads what is asked for and nothing else; counts no tokens and deals nothing.

Markup of the data set is undone if it is known (WikiText's ` @,@ `), for a peer learns what it is shown: the trace
of a file's origin would be the easiest thing to tell categories apart by.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from p2pfinetune.data.blocks import cut
from p2pfinetune.data.documents import normalise
from p2pfinetune.errors import TextError
from p2pfinetune.paper.installed_text import LICENCE

SENTENCES = 10  # a document: about a kilobyte. The sentences of these files are no articles, so any ten will do
PASSAGE = 1000  # characters: short enough that a small split still holds text of several files
LEAST_PASSAGE = 200  # characters: less of a long text is a remainder and no passage
CLEAN = "jatin20k"  # the rows of AG News of this origin have a full stop between title and description

FIRST_COMMENT = re.compile(r"\A\s*/\*.*?\*/\s*", re.DOTALL)
UNKNOWN = "<unk>"
JOINED = re.compile(r" @(.)@ ")  # WikiText writes 1 @,@ 000 and so on
BEFORE = re.compile(r" (?=[.,;:!?)\]%]|'\w)")
AFTER = re.compile(r"(?<=[(\[]) ")


@dataclass(frozen=True, slots=True)
class Source:
    """One file, or a part of it, below the data folder."""

    file: str
    pieces: Callable[[Path, random.Random], Iterator[str]]
    per_document: int = 1
    """So many pieces make a document."""

    def read(self, data: Path, seed: int) -> Iterator[str]:
        """Every piece once, in an order drawn from the seed. Raises TextError if the file is absent or damaged."""
        path = data / self.file
        if not path.is_file():
            raise TextError(f"there is no {self.file} in the data folder {data}", "give the folder that holds it")
        dice = random.Random(f"{seed} {self.file}")
        try:
            yield from self.pieces(path, dice)
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            raise TextError(f"{path} cannot be read: {error}", "fetch the file again") from error


def sentences(file: str) -> Source:
    """Text of one sentence a line."""
    return Source(file, _sentences, SENTENCES)


def wikitext(file: str) -> Source:
    """Sentences of a WikiText file: as people write them, and only those without a word that it calls unknown."""
    return Source(file, _wikitext, SENTENCES)


def news(file: str, label: int, *, clean: bool | None = None) -> Source:
    """The rows of one class of AG News; with `clean`, only those with or only those without clean borders."""
    return Source(file, partial(_news, label=label, clean=clean))


def java(file: str) -> Source:
    """Passages of Java files, without the licences that open them."""
    return Source(file, _java)


def novels(file: str) -> Source:
    """Passages of novels, all of them mixed."""
    return Source(file, _novels)


def _sentences(path: Path, dice: random.Random) -> Iterator[str]:
    yield from _shuffled((normalise(line) for line in path.read_text(encoding="utf-8").split("\n")), dice)


def _wikitext(path: Path, dice: random.Random) -> Iterator[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    found = [part for line in lines if not line.startswith("=") for part in re.split(r"(?<= [.!?]) ", line)]
    yield from _shuffled((_as_written(part) for part in found if UNKNOWN not in part and " " in part), dice)


def _as_written(tokens: str) -> str:
    """Undo the spaces that WikiText puts around punctuation."""
    return AFTER.sub("", BEFORE.sub("", JOINED.sub(r"\1", tokens)))


def _news(path: Path, dice: random.Random, *, label: int, clean: bool | None) -> Iterator[str]:
    of_class = (row for row in _rows(path) if row["label"] == label)
    chosen = (row for row in of_class if clean is None or (row.get("src") == CLEAN) is clean)
    yield from _shuffled((normalise(row["text"]) for row in chosen), dice)


def _java(path: Path, dice: random.Random) -> Iterator[str]:
    """File after file, so that a small draw need not cut them all."""
    for text in _shuffled((row["text"] for row in _rows(path)), dice):
        yield from passages(without_licence(text))


def _novels(path: Path, dice: random.Random) -> Iterator[str]:
    yield from _shuffled((part for row in _rows(path) for part in passages(row["text"])), dice)


def without_licence(text: str) -> str:
    """A source file without the comment that opens it, where that is a licence."""
    opening = FIRST_COMMENT.search(text)
    return text[opening.end() :] if opening and LICENCE.search(opening.group()) else text


def passages(text: str) -> list[str]:
    """Blocks of a text, cut further at the ends of lines to about PASSAGE characters each."""
    found = []
    for block in cut(normalise(text)):
        lines: list[str] = []
        for line in block.split("\n"):
            lines.append(line)
            if sum(map(len, lines)) >= PASSAGE:
                found.append("\n".join(lines).strip("\n"))
                lines = []
        found.append("\n".join(lines).strip("\n"))
    return [passage for passage in found if len(passage) >= min(LEAST_PASSAGE, len(text))]


def _shuffled(texts: Iterable[str], dice: random.Random) -> list[str]:
    found = [text for text in texts if text.strip()]
    dice.shuffle(found)
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
    return [json.loads(line) for line in text.split("\n") if line.strip()]
