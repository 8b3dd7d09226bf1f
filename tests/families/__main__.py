"""Try a tiny random model of every family and write what came of it into docs/models.md: `python -m tests.families`."""

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
    rows = []
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(table.row(family, tried(family, Path(folder))))
        sys.stderr.write(f"{rows[-1]}\n")
    table.write(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
