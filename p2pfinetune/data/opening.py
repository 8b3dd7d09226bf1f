"""The bytes of one file as documents: unpacked if they are packed, taken apart by their format, and decoded. Pure.

    bytes --members--> files, each again from the beginning          (.gz, .zst, .zip, .tar; see `formats`)
          --read_bytes--> texts                                       (PDF, office, books, mail)
          --look--> a text, or evidence of its encoding               (everything else; see `encodings`)

Of an archive the members are weighed together, as the files of a folder are, and it is one row of the report: what of
it is not read is counted in characters under the reason. An archive in an archive is opened, one in that is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from p2pfinetune.data import formats
from p2pfinetune.data.encodings import decoded, look, without_padding
from p2pfinetune.data.formats.archive import MAX_UNPACKED_BYTES, TOO_LARGE, is_hidden
from p2pfinetune.data.formats.parts import summed
from p2pfinetune.data.guess import Evidence, settle
from p2pfinetune.data.ignored import ANYWHERE
from p2pfinetune.data.pieces import USUAL, FileContent, TextChoices, content_of, content_of_parts
from p2pfinetune.data.report import UNKNOWN

MAX_DEPTH = 2  # archives inside one another
NESTED = "an archive in an archive in an archive"
HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Around:
    """The archives around a file: how many, and what may still be unpacked of the outermost."""

    budget: formats.Budget
    depth: int = 0


def content_of_bytes(
    data: bytes, path: Path, encoding: str = "", choices: TextChoices = USUAL, around: Around | None = None
) -> FileContent:
    """What bytes hold by themselves; for text that is not Unicode, the evidence of its encoding alone.

    `encoding` is what somebody said of text that is not Unicode, and `around` is what archives are around the file.
    """
    around = around or Around(formats.Budget.of(len(data)))
    inside = formats.members(data, path.name, around.budget)
    if inside is not None and around.depth >= MAX_DEPTH:
        return FileContent(reason=NESTED)
    if inside is not None:
        return _unpacked(inside, path, encoding, choices, around)
    opened = formats.read_bytes(data, path.name)
    if opened is not None:
        return content_of_parts(opened, path, choices)
    found = look(data, encoding or formats.declared(data, path.name))
    if isinstance(found, Evidence):
        return FileContent(reason=UNKNOWN, evidence=found)
    return content_of(found, path, choices) if found else FileContent(reason="not text")


def _unpacked(
    inside: Iterable[formats.PackedFile], path: Path, encoding: str, choices: TextChoices, around: Around
) -> FileContent:
    """The content of all members. Those whose encoding is open wait until all have been weighed."""
    found: dict[Path, tuple[FileContent, int]] = {}
    waiting: dict[Path, bytes] = {}
    inner, characters = replace(around, depth=around.depth + 1), 0
    for number, member in enumerate(inside):
        if characters > MAX_UNPACKED_BYTES:  # a document can hold more than it takes
            found[path] = (FileContent(reason=TOO_LARGE), len(member.data))
            break
        place = Path(f"{path}:{member.name or number}")
        if member.reason:
            found[place] = (FileContent(reason=member.reason), member.size_bytes)
        elif is_hidden(member.name, ANYWHERE):
            found[place] = (FileContent(reason=HIDDEN), len(member.data))
        else:
            content = content_of_bytes(member.data, place, encoding, choices, inner)
            found[place] = (content, len(member.data))
            characters += sum(len(document.text) for document in content.documents)
            if content.evidence is not None:
                waiting[place] = member.data
    chosen = settle({place: evidence for place in waiting if (evidence := found[place][0].evidence)})
    for place, guessed in chosen.items():
        if guessed is not None:
            text = decoded(without_padding(waiting[place]), guessed)
            found[place] = (content_of(text, place, choices), found[place][1])
    return joined(found.values())


def joined(contents: Iterable[tuple[FileContent, int]]) -> FileContent:
    """The contents of several files, each with its size in bytes, as that of one."""
    every = list(contents)
    left_out = summed(*(one.left_out or ({one.reason: size} if one.reason else {}) for one, size in every))
    documents = tuple(document for one, _ in every for document in one.documents)
    usual = Counter(one.encoding for one, _ in every if one.encoding).most_common(1)
    return FileContent(
        documents=documents,
        reason="" if documents else max(left_out, key=left_out.__getitem__, default="empty"),
        bad_rows=sum(one.bad_rows for one, _ in every),
        encoding=usual[0][0] if usual else "",
        replaced=sum(one.replaced for one, _ in every),
        left_out=left_out,
    )
