"""`config.toml` in the home: what was chosen once is remembered. A damaged file is an error and is left as it is."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from peerd.config import Config
from peerd.durable import sync_folder
from peerd.errors import StoreError, UsageError
from peerd.faults import around

UNFINISHED = ".config-*.toml"
"""Beside the file, where a start was killed while it wrote."""
HEADER = (
    "# Options of `peerd start`, remembered. Every one can be given on the command line, which wins and is kept here.\n"
)


def read(path: Path) -> dict[str, Any]:
    """What is remembered; empty where nothing is. Raises UsageError for a damaged file, which stays untouched."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}", _mend(path)) from error
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is damaged: line {line} is no text", _mend(path)) from error
    except (ValueError, RecursionError) as error:  # endless digits and deep nesting, too
        raise UsageError(f"{path} is damaged: {error}", _mend(path)) from error


def merged(remembered: Mapping[str, Any], given: Mapping[str, Any], source: Path) -> Config:
    """The configuration: what is given now over what is remembered over the defaults. Raises UsageError."""
    try:
        msgspec.convert(dict(remembered), Config)
    except msgspec.ValidationError as error:
        raise UsageError(f"{source}: {error}", _mend(source)) from error
    try:
        return msgspec.convert({**remembered, **given}, Config)
    except msgspec.ValidationError as error:
        raise UsageError(_as_option(str(error)), "see: peerd start --help") from error


def read_config(path: Path) -> Config:
    """The remembered configuration."""
    return merged(read(path), {}, path)


def write_config(path: Path, config: Config) -> None:
    """Remember everything that differs from the defaults; the old file stays whole until the new one is on disk."""
    defaults = msgspec.to_builtins(Config())
    chosen = {name: value for name, value in msgspec.to_builtins(config).items() if value != defaults[name]}
    try:
        _replace(path, HEADER + tomli_w.dumps(chosen))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", "is the disk full?") from error


def put_back(path: Path, before: Mapping[str, Any]) -> None:
    """What `read` gave before; no file where there was none."""
    if before:
        write_config(path, msgspec.convert(dict(before), Config))
    else:
        path.unlink(missing_ok=True)


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".config-", suffix=".toml")  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            with around("config.write"):
                file.write(text)
                file.flush()
            with around("config.sync"):
                os.fsync(file.fileno())
        with around("config.rename"):
            Path(name).replace(path)
    finally:  # also where a signal ends the command meanwhile
        Path(name).unlink(missing_ok=True)
    with around("config.folder_sync"):
        sync_folder(path.parent)


def _as_option(message: str) -> str:
    """`Expected int >= 1 - at $.rank` is about `--rank`."""
    text, _, field = message.partition(" - at `$.")
    return f"--{field.strip('`').replace('_', '-')}: {text}" if field else message


def _mend(path: Path) -> str:
    return f"mend it in an editor, or start afresh: mv {path} {path}.bad"
