"""Where models that were made on this machine lie, for all homes of a user: they are large, and the same for all.

`models` in the cache folder of `peerd` that the platform has for this user (`~/.cache/peerd` on Linux), or the folder
that PEERD_MODELS names. Whatever lies there can be made again. What is fetched from a hub is in the hub's own cache.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import platformdirs

from p2pfinetune.errors import ModelError

VARIABLE: Final = "PEERD_MODELS"
TAG: Final = "CACHEDIR.TAG"
SIGNATURE: Final = "Signature: 8a477f597d28d172789f06886806bc55\n"  # https://bford.info/cachedir/


def models_cache() -> Path:
    """The folder, which need not be there yet. ModelError if nobody knows where it is."""
    if given := os.environ.get(VARIABLE):
        return Path(given).absolute()
    try:
        return Path(platformdirs.user_cache_dir("peerd", appauthor=False)).absolute() / "models"
    except RuntimeError as error:
        raise ModelError(
            "there is no cache folder for models: HOME is not set", f"set HOME, or name a folder: {VARIABLE}=DIR"
        ) from error


def made(folder: Path) -> Path:
    """The folder, which is there now and says to backups, and to those who look for text, that it is a cache."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (tag := folder / TAG).exists():
            tag.write_text(SIGNATURE, "utf-8")
    except OSError as error:
        raise ModelError(
            f"cannot write in the cache folder {folder}: {error.strerror}", f"name another: {VARIABLE}=DIR"
        ) from error
    return folder
