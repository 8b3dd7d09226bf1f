"""Markdown as a person typed it, without what a program keeps in it: front matter, properties, ids of blocks.

Front matter is YAML between `---` or TOML between `+++` at the very beginning (Jekyll, Hugo, Obsidian), only if its
first line is a key; two rulers around prose are prose. Logseq keeps properties in lines `key:: value`. Wiki links are
their text: `[[Page|words]]` is "words"; what is embedded (`![[picture.png]]`) and what a block is called (`((id))`,
`^id`) is nothing. Fences of code are left alone, and so is all other Markdown: a person types it.
"""

from __future__ import annotations

import re

from p2pfinetune.data.formats.parts import FileTexts, opened

FRONT_MATTER = "front matter"
MAX_FRONT_MATTER = 20_000  # characters; a longer one is a text between two rulers
YAML_KEY = re.compile(r"\s*(#.*|[\w.\"'-][\w .\"'/-]{0,60}:(\s.*)?)")
TOML_KEY = re.compile(r"\s*(#.*|\[{1,2}[\w.-]+\]{1,2}|[\w.\"'-]{1,60}\s*=.*)")
FENCE = re.compile(r"^[ \t>*-]*(```+|~~~+)")
PROPERTY = re.compile(r"[ \t]*(?:- )?[A-Za-z][\w-]{0,40}::(?: .*)?")
BLOCK_ID = re.compile(r"[ \t]\^[A-Za-z0-9-]{3,40}(?=[ \t]*\n?\Z)")
EMBEDDED = re.compile(r"!\[\[[^\[\]\n]{1,300}\]\]|\(\([0-9a-f]{8}-[0-9a-f-]{27}\)\)")
WIKI_LINK = re.compile(r"\[\[(?=[^\s\[\]])(?:[^\[\]|\n]{1,300}\|)?([^\[\]|\n]{1,300})\]\]")


def markdown(text: str) -> FileTexts:
    """The text without front matter and marks of programs."""
    body = without_front_matter(text)
    kept: list[str] = []
    fence = ""
    for line in body.split("\n"):
        mark = FENCE.search(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        if fence or mark:
            kept.append(line)
        elif not PROPERTY.fullmatch(line):
            kept.append(_links(line))
    found = "\n".join(kept)
    return opened(found, {FRONT_MATTER: len(text) - len(body)})


def without_front_matter(text: str) -> str:
    """What follows it; the whole text if there is none."""
    for mark, key in (("---", YAML_KEY), ("+++", TOML_KEY)):
        first, _, rest = text.partition("\n")
        if first.rstrip() == mark and (end := _end(rest, mark)) >= 0 and key.fullmatch(_first(rest[:end])):
            return rest[end:].partition("\n")[2]
    return text


def _first(text: str) -> str:
    return next((line for line in text.split("\n") if line.strip()), "a:")


def _end(text: str, mark: str) -> int:
    """Where the closing mark begins, alone in its line; negative if it is not near."""
    at = 0
    for line in text[:MAX_FRONT_MATTER].split("\n"):
        if line.rstrip() == mark:
            return at
        at += len(line) + 1
    return -1


def _links(line: str) -> str:
    if "[[" in line or "((" in line:
        line = WIKI_LINK.sub(r"\1", EMBEDDED.sub("", line))
    return BLOCK_ID.sub("", line) if "^" in line else line
