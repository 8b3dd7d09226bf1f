"""What slow tests need: the data folder, the base model, and the benchmarks beside the packages."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from p2pfinetune import nano

ROOT = Path(__file__).parents[2]

sys.path.insert(0, str(ROOT))  # the benchmarks are not installed


@pytest.fixture(scope="session")
def data() -> Path:
    """PEERD_DATA, by default beside the repository."""
    folder = Path(os.environ.get("PEERD_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "wikineural").is_dir():
        pytest.skip(f"there is no wikineural in {folder}: set PEERD_DATA to the data folder")
    return folder


@pytest.fixture(scope="session")
def nano_folder() -> Path:
    """The embedded model, or the one that PEERD_NANO names."""
    folder = Path(os.environ.get("PEERD_NANO", nano.folder()))
    if not (folder / "config.json").is_file():
        pytest.skip(f"there is no model in {folder}: run python -m scripts.nano.pretrain, or set PEERD_NANO")
    return folder
