"""Try tiny random models of families and write what came of it into docs/models.md: `python -m tests.families [NAME ...]`.

All of them, or those named; the rows of the others stay.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
import transformers

from tests.families import table
from tests.families.tiny import FAMILIES
from tests.families.trial import tried


def main() -> int:
    """About a second for each family."""
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rows = table.written()
    for family in sys.argv[1:] or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows[family] = table.row(family, tried(family, Path(folder)))
        sys.stderr.write(f"{rows[family]}\n")
    table.write([rows[family] for family in FAMILIES])
    return 0


if __name__ == "__main__":
    sys.exit(main())
