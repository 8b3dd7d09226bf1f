"""Org as a person typed it (Emacs), without what the program keeps in it: drawers, keywords, clocks, results.

Headings, lists, marks and blocks of code stay, as those of Markdown do. A title that `#+TITLE:` gives is the first
line; links are their words; what blocks of code printed (`#+RESULTS:`) is left out as outputs of notebooks are.
"""

from __future__ import annotations

import re

from p2pfinetune.data.formats.parts import FileTexts, opened

PROPERTIES, RESULTS = "properties of notes", "outputs of code in notes"
DRAWER = re.compile(r"[ \t]*:[A-Za-z][\w-]{0,40}:[ \t]*")
END = re.compile(r"[ \t]*:END:[ \t]*", re.IGNORECASE)
TITLE = re.compile(r"#\+title:[ \t]*(.*)", re.IGNORECASE)
BLOCK = re.compile(r"[ \t]*#\+(begin|end)_(\w+)\b.*", re.IGNORECASE)
RESULT = re.compile(r"[ \t]*#\+results\b.*:.*", re.IGNORECASE)
KEYWORD = re.compile(r"[ \t]*#\+[A-Za-z][\w-]{0,40}:.*|[ \t]*#([ \t].*)?")
PLANNING = re.compile(r"[ \t]*((CLOCK|SCHEDULED|DEADLINE|CLOSED):[ \t]*[\[<][^\n]*)")
OUTPUT = re.compile(r"[ \t]*(:([ \t].*)?|\|.*)")
LINK = re.compile(r"\[\[([^\[\]\n]{1,2000})\](?:\[([^\[\]\n]{1,2000})\])?\]")
HEADING = re.compile(r"\*+[ \t].*")
MAX_DRAWER = 200  # lines


def org(text: str) -> FileTexts:
    """The text without drawers, keywords, clocks and results."""
    lines = text.split("\n")
    kept: list[str] = []
    left_out = {PROPERTIES: 0, RESULTS: 0}
    at, inside = 0, ""
    while at < len(lines):
        line = lines[at]
        block = BLOCK.fullmatch(line)
        after, reason = at + 1, ""
        if block and (not inside or block[2].lower() == inside):
            inside = block[2].lower() if block[1].lower() == "begin" else ""
        elif inside:
            pass
        elif RESULT.fullmatch(line):
            after, reason = _end_of_result(lines, at + 1), RESULTS
        elif DRAWER.fullmatch(line):
            after = _end_of_drawer(lines, at)
            reason = PROPERTIES if after > at + 1 else ""
        elif title := TITLE.fullmatch(line):
            line = title[1]
        elif KEYWORD.fullmatch(line) or PLANNING.fullmatch(line):
            reason = PROPERTIES
        else:
            line = LINK.sub(lambda link: link[2] or link[1], line) if "[[" in line else line
        if reason:
            left_out[reason] += sum(len(one) + 1 for one in lines[at:after])
        else:
            kept.append(line)
        at = after
    return opened("\n".join(kept), left_out)


def _end_of_drawer(lines: list[str], begin: int) -> int:
    """Behind its `:END:`; behind its first line if it has none before the next heading."""
    for at in range(begin + 1, min(len(lines), begin + MAX_DRAWER)):
        if END.fullmatch(lines[at]):
            return at + 1
        if HEADING.fullmatch(lines[at]) or DRAWER.fullmatch(lines[at]):
            break
    return begin + 1


def _end_of_result(lines: list[str], begin: int) -> int:
    """Behind a block, a drawer, or the lines that begin as output does."""
    if begin < len(lines) and (block := BLOCK.fullmatch(lines[begin])) and block[1].lower() == "begin":
        for at in range(begin + 1, len(lines)):
            if (end := BLOCK.fullmatch(lines[at])) and end[1].lower() == "end" and end[2].lower() == block[2].lower():
                return at + 1
        return begin
    if begin < len(lines) and DRAWER.fullmatch(lines[begin]):
        return _end_of_drawer(lines, begin)
    at = begin
    while at < len(lines) and OUTPUT.fullmatch(lines[at]):
        at += 1
    return at
