"""Where an export is written: a folder that appears whole or not at all, on a disk that has room for it.

A new folder is made beside its place and renamed into it. Into one that exists, whose owner said so, each file is moved
whole. What an attempt that was killed left behind is removed by the next one for the same place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from p2pfinetune.errors import ExportError
from p2pfinetune.model.base import model_file
from p2pfinetune.system.durable import sync_file, sync_folder

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
SLACK_BYTES = 16_000_000  # tokenizers, cards, headers
UNFINISHED = ".part"


@contextmanager
def whole(folder: Path, needed_bytes: int) -> Iterator[Path]:
    """An empty folder to write into, which takes the place of `folder` if the block ends well.

    What is written is its owner's alone: a model betrays something of the text it was trained on. Raises ExportError if
    a model lies in the folder or the disk has no room for `needed_bytes`, OSError for what the disk refuses.
    """
    if found := model_file(folder):
        raise ExportError(f"{folder} holds a model ({found})", "files of two models would mix: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    _clear(folder)
    _must_have_room(folder.parent, needed_bytes + SLACK_BYTES)
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}{UNFINISHED}")
    fresh.mkdir(mode=PRIVATE_FOLDER)
    try:
        yield fresh
        _settle(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _clear(folder: Path) -> None:
    for left in folder.parent.glob(f".{escape(folder.name)}.*{UNFINISHED}"):
        shutil.rmtree(left, ignore_errors=True)


def _must_have_room(parent: Path, needed: int) -> None:
    if (free := shutil.disk_usage(parent).free) < needed:
        raise ExportError(
            f"{parent} has room for {free / 1e9:.1f} GB, and {needed / 1e9:.1f} GB are needed",
            "free some space, choose a folder on another disk, or export the adapter alone: --format peft",
        )


def _settle(fresh: Path, folder: Path) -> None:
    files = sorted(file for file in fresh.rglob("*") if file.is_file())
    for file in files:
        file.chmod(PRIVATE_FILE)
        sync_file(file)
    if folder.is_dir():
        for file in files:
            target = folder / file.relative_to(fresh)
            target.parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
            file.replace(target)
        sync_folder(folder)
    else:
        fresh.rename(folder)
        sync_folder(folder.parent)
