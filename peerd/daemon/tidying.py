"""Files of the moment, removed at the start, at the end and before the next worker begins."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from glob import escape
from pathlib import Path

from p2pfinetune.system.durable import unfinished
from peerd.machine.paths import Paths


def clear(paths: Paths) -> None:
    """Remove temporary files: of the worker, and of a record, configuration or key whose writer was killed."""
    clear_folder(paths.scratch)
    for file in (paths.splits, paths.looks, paths.identity, paths.config.resolve()):
        for left in unfinished(file):
            left.unlink(missing_ok=True)
    for left in _unfinished_before(paths):
        left.unlink(missing_ok=True)


def _unfinished_before(paths: Paths) -> Iterator[Path]:
    """The same of versions before `durable.write_whole`; what lies beside the identity may hold its seed.

    Under their very names: a link to the configuration may lead to a folder in which people edit.
    """
    yield from paths.identity.parent.glob(f".{escape(paths.identity.name)}.*")
    yield from paths.config.resolve().parent.glob(".config-*.toml")
    yield paths.splits.with_name(paths.splits.name + ".part")


def clear_folder(folder: Path, keep: Collection[Path] = ()) -> None:
    """Remove what is in it; nothing if somebody removed it as a whole."""
    for left in folder.iterdir() if folder.is_dir() else ():
        if left not in keep:
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
