"""The table of docs/models.md: a row for each family, as it came out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.families.trial import Outcome

DOCUMENT = Path(__file__).parents[2] / "docs/models.md"
PLACE = re.compile(r"(<!-- tried: families -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| `model_type` | layers that get an adapter | what is said at the start |\n|---|---|---|\n"
SHARE = re.compile(r",? ?\d+ % of the weights of its layers,?")  # of a tiny model, which says nothing of a real one


def row(family: str, outcome: Outcome) -> str:
    """One line."""
    said = SHARE.sub("", outcome.said)
    return f"| `{family}` | {outcome.adapted or '**refused**'} | {said} |"


def written() -> dict[str, str]:
    """The rows as they stand in the document, by family."""
    found = PLACE.search(DOCUMENT.read_text())
    lines = found[0].splitlines() if found else []
    return {line.split("`")[1]: line for line in lines if line.startswith("| `") and "model_type" not in line}


def write(rows: Sequence[str]) -> None:
    """All of them anew."""
    text = PLACE.sub(lambda m: m[1] + HEAD + "\n".join(rows) + "\n" + m[2], DOCUMENT.read_text())
    DOCUMENT.write_text(text)
