"""`config.toml` in the home: what was chosen once is remembered. A damaged file is an error and is left as it is.

The file is the user's as much as ours. It is changed where an option has changed and nowhere else, so that comments,
order and blank lines stay (tomlkit); it keeps its mode; if it is a link, as people have it who keep such files
in one place, the file that the link names is written. A start that changes nothing writes nothing.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import tomlkit
from tomlkit.exceptions import TOMLKitError

from p2pfinetune.system.durable import mode_of, write_whole
from peerd.config import Config
from peerd.errors import StoreError, UsageError
from peerd.machine.faults import within

_BOUND = re.compile(r"(<=|>=|<|>) (-?[0-9.e+]+)")
_RANGES = {"<=": "at most", ">=": "at least", "<": "less than", ">": "more than"}
MAX_SHOWN = 40  # characters of a number that is told to be too large
HEADER = (
    "# Options of `peerd start`, remembered. Every one can be given on the command line, which wins and is kept here.\n"
)


def contents(path: Path) -> bytes | None:
    """The bytes of the file; None if there is none. Raises UsageError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}", _mend(path)) from error


def read(path: Path) -> dict[str, Any]:
    """What is remembered; empty if nothing is. Raises UsageError for a damaged file, which stays untouched."""
    content = contents(path)
    if content is None:
        return {}
    try:
        return tomllib.loads(content.decode("utf-8-sig"))  # some editors put a byte-order mark before everything
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UsageError(f"{path} is damaged: line {line} is no text", _mend(path)) from error
    except (ValueError, RecursionError) as error:  # endless digits and deep nesting, too
        raise UsageError(f"{path} is damaged: {error}", _mend(path)) from error


def merged(remembered: Mapping[str, Any], given: Mapping[str, Any], source: Path) -> Config:
    """The configuration: what is given now over what is remembered over the defaults. Raises UsageError."""
    try:
        remembered = _of_today(remembered)
        msgspec.convert(remembered, Config)
    except msgspec.ValidationError as error:
        field, told = _told(str(error), remembered)
        raise UsageError(f"{source}: {field}: {told}" if field else f"{source}: {told}", _mend(source)) from error
    try:
        return msgspec.convert({**remembered, **given}, Config)
    except msgspec.ValidationError as error:
        field, told = _told(str(error), given)
        option = f"--{field.replace('_', '-')}: " if field else ""
        raise UsageError(option + told, "see: peerd start --help") from error


def _of_today(remembered: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier version remembered, in the words of this one."""
    twin = remembered.get("twin")
    return {**remembered, "twin": "on" if twin else "off"} if isinstance(twin, bool) else dict(remembered)


def read_config(path: Path) -> Config:
    return merged(read(path), {}, path)


def write_config(path: Path, config: Config) -> None:
    """Remember everything that differs from the defaults; the old file stays whole until the new one is on disk.

    What is not an option of `peerd start` cannot stand in it, so whatever else is in the file is a comment.
    """
    defaults = msgspec.to_builtins(Config())
    chosen = {name: value for name, value in msgspec.to_builtins(config).items() if value != defaults[name]}
    before = contents(path)
    text = edited(before, chosen)
    if text != before:
        _write(path, text)


def edited(before: bytes | None, chosen: Mapping[str, Any]) -> bytes:
    """The file with these options and no others; what did not change keeps its place, its comments and its form."""
    if before is None:
        return (HEADER + tomlkit.dumps(chosen)).encode()
    try:
        text = before.decode("utf-8-sig")
        was, document = tomllib.loads(text), tomlkit.parse(text)
        for name in was.keys() - chosen.keys():
            del document[name]
        for name, value in chosen.items():
            if name not in was or was[name] != _as_read(value):
                document[name] = value
        text = tomlkit.dumps(document)
        if tomllib.loads(text) == _as_read(chosen):
            return text.encode()
    except (TOMLKitError, ValueError):
        pass
    return (HEADER + tomlkit.dumps(chosen)).encode()  # losing comments is better than losing an option


def _as_read(value: Any) -> Any:
    return tomllib.loads(tomlkit.dumps({"value": value}))["value"]


def put_back(path: Path, before: bytes | None) -> None:
    """What `contents` gave before; no file if there was none. Raises StoreError."""
    if before is not None:
        _write(path, before)
    else:
        path.resolve().unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    try:
        place = path.resolve()
        write_whole(place, content, mode=mode_of(place), step=within("config"))
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", "is the disk full?") from error


def _told(message: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """Field and words: `Expected `int` >= 1 - at `$.rank`` is about `rank`, and tells a person that 0 is too small."""
    text, _, field = message.partition(" - at `$.")
    field = field.strip("`")
    bound = _BOUND.search(text)
    if bound is None or field not in values:
        return field, text
    sign, number = bound.groups()
    limit = f"{int(number.removesuffix('.0')):,}" if number.removesuffix(".0").lstrip("-").isdigit() else number
    return field, f"{str(values[field])[:MAX_SHOWN]} is out of range: it has to be {_RANGES[sign]} {limit}"


def _mend(path: Path) -> str:
    return f"mend it in an editor, or start afresh: mv {path} {path}.bad"
