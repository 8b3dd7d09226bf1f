"""Of a Jupyter notebook what was written into its cells; what they printed and drew is left out."""

from __future__ import annotations

import json
from typing import Any

from p2pfinetune.data.formats.parts import FileTexts, opened

OUTPUTS = "notebook outputs"
KINDS = frozenset({"code", "markdown", "raw", "heading"})


def is_notebook(text: str) -> bool:
    """Whether it may be one; `sources` decides."""
    return (text[:1] == "{" or text[:100].lstrip().startswith("{")) and '"nbformat"' in text


def notebook(text: str) -> FileTexts | None:
    """The sources of its cells, parted by blank lines; None if the text is no notebook."""
    found = sources(text) if is_notebook(text) else None
    return None if found is None else opened(found, {OUTPUTS: len(text) - len(found)})


def sources(text: str) -> str | None:
    """The sources alone; of version 3 of the format too, in which cells stand in worksheets."""
    try:
        whole = json.loads(text)
        sheets = whole.get("worksheets", [whole])
        cells = [cell for sheet in sheets for cell in sheet["cells"] if cell["cell_type"] in KINDS]
        found = [_joined(cell["source"] if "source" in cell else cell["input"]) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return "\n\n".join(source for source in found if source.strip())


def _joined(source: Any) -> str:
    return source if isinstance(source, str) else "".join(line for line in source if isinstance(line, str))
