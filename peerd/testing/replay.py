"""Run again what happened to a daemon's core: `python -m peerd.testing.replay FILE`.

The core is a pure function of its state and one event, so a state and the events after it are a bug report that anybody
can run: to the same state, and to the same exception at the same event. A record holds just that.

What a record must not hold: the user's text and tensors never enter the core, and neither does any key but one, the key
of the lots (`peerd.core.dice`), by which a node chooses among strangers. If others had it, they could choose ids that
this node prefers. So the key is left out, and instead the record has every lot that was drawn between its first state
and its last: `taken` finds them by running the events once more when the record is made. The reasons that
failures are given end at the first path in them. Peers' ids, names and addresses stay: without them nothing can be told
apart, and whoever passes a record on should know it.

`story` answers "why did this happen" about a peer or a blob: the events that name it, and what the core did about them.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from peerd.control.render import line
from peerd.core.dice import Drawn
from peerd.core.effects import AnyEffect
from peerd.core.events import AnyEvent
from peerd.core.node import Node, step
from peerd.testing.invariants import broken

VERSION = 2  # 2: updates may be differences to a base
MAX_RECORD_BYTES = 64 * 2**20  # of a file that somebody sends; the ring that makes one keeps far less
REASONS = frozenset({"reason", "withheld"})  # fields that hold what a failure was called
_PATH = re.compile(r"(?<![\w/])['\"]?[~/].*", re.DOTALL)  # from the first path on: where it ends, nobody can tell


class NotARecord(ValueError):
    """A file that is no record of this version; the words say what is wrong with it."""


class Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A state, what happened after it, and the state to which that led."""

    version: int = VERSION
    program: str
    """The version of peerd that wrote it."""
    why: str
    """Why it was written."""
    begun: Node
    """Without the key of the lots."""
    events: tuple[AnyEvent, ...]
    lots: dict[str, float]
    """Every lot drawn on the way, by the words it was drawn from."""
    ended: str
    """`fingerprint` of the state after the last event."""


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a record and what came of it."""

    event: AnyEvent
    node: Node
    """Afterwards."""
    effects: tuple[AnyEffect, ...] = ()
    error: BaseException | None = None
    """What the core raised; then the state is as before."""
    broken: tuple[str, ...] = ()
    """Invariants that do not hold afterwards."""


def taken(begun: Node, events: Sequence[AnyEvent], *, program: str, why: str) -> Record:
    """The record of a core that began in this state, with its key, and took these events. Runs them once more."""
    drawn = Drawn({}, begun.lots)
    last = begun
    for turn in _turns(msgspec.structs.replace(begun, lots=drawn), events):
        last = turn.node
    return Record(
        program=program,
        why=_PATH.sub("…", why),
        begun=_without_paths(msgspec.structs.replace(begun, lots=b"")),
        events=tuple(_without_paths(event) for event in events),
        lots=drawn.answers,
        ended=fingerprint(last),
    )


def replayed(record: Record, *, check: bool = True) -> Iterator[Replayed]:
    """Every event in turn. `check`: look at the invariants too.

    Raises KeyError for a lot that the record does not have: then this code draws others than the one that wrote it.
    """
    yield from _turns(msgspec.structs.replace(record.begun, lots=Drawn(record.lots)), record.events, check=check)


def fingerprint(node: Node) -> str:
    """Of everything in a state but the key of the lots and the paths in its reasons."""
    plain = _without_paths(msgspec.structs.replace(node, lots=b""))
    return hashlib.blake2b(msgspec.msgpack.encode(plain, order="deterministic"), digest_size=16).hexdigest()


def encoded(record: Record) -> bytes:
    """As a file: MessagePack, one map."""
    return msgspec.msgpack.encode(record)


def decoded(data: bytes) -> Record:
    """Raises NotARecord."""
    if len(data) > MAX_RECORD_BYTES:
        raise NotARecord(f"{len(data)} bytes are more than a record has")
    try:
        record = msgspec.msgpack.decode(data, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise NotARecord(f"no record of a daemon's core: {error}") from None
    if record.version != VERSION:
        raise NotARecord(f"a record of version {record.version}; this program runs those of version {VERSION}")
    return record


def story(turns: Iterable[Replayed], word: str) -> Iterator[str]:
    """What happened to a peer or a blob, by its id, its digest or the end of one, and what was done about it.

    Lines as people read them. An event is told if it names the word, or if an effect of it does.
    """
    for turn in turns:
        told = [effect for effect in turn.effects if _names(effect, word)]
        if not told and not _names(turn.event, word):
            continue
        yield f"{turn.event.at:12.3f}  {_said(turn.event)}"
        yield from (f"{'':12}    -> {_said(effect)}" for effect in told)
        if turn.error is not None:
            yield f"{'':12}    the core raised {type(turn.error).__name__}: {turn.error}"


def _turns(node: Node, events: Iterable[AnyEvent], *, check: bool = False) -> Iterator[Replayed]:
    """As the shell does it: an event at which the core raises changes nothing."""
    for event in events:
        before = node
        try:
            node, effects = step(before, event)
        except Exception as error:  # whatever the core raised in the daemon, it raises here
            yield Replayed(event=event, node=before, error=error)
            continue
        faults = broken(node, effects, before) if check else ()
        yield Replayed(event=event, node=node, effects=tuple(effects), broken=faults)


def _without_paths(value: Any, name: str = "") -> Any:
    """The same value; the reasons that it holds end at the first path."""
    if isinstance(value, msgspec.Struct):
        fields = {field: _without_paths(item, field) for field, item in msgspec.structs.asdict(value).items()}
        return msgspec.structs.replace(value, **fields)
    if isinstance(value, Mapping):
        return {key: _without_paths(item, str(key)) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_without_paths(item, name) for item in value)
    return _PATH.sub("…", value) if isinstance(value, str) and name in REASONS else value


def _names(value: Any, word: str) -> bool:
    """Whether a field of it is the word, or ends in it."""
    return any(text == word or (len(word) >= 4 and text.endswith(word)) for text in _texts(msgspec.to_builtins(value)))


def _texts(plain: Any) -> Iterator[str]:
    if isinstance(plain, str):
        yield plain
    elif isinstance(plain, dict):
        for key, item in plain.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(plain, list | tuple | set | frozenset):
        for item in plain:
            yield from _texts(item)


def _said(value: Any) -> str:
    """One line: its kind, and those fields that say something."""
    fields = {
        name: item for name, item in msgspec.structs.asdict(value).items() if name != "at" and item not in (None, "")
    }
    told = ", ".join(f"{name} {_short(item)}" for name, item in fields.items())
    return f"{type(value).__name__}({told})"


def _short(item: Any) -> str:
    if isinstance(item, msgspec.Struct):
        return _said(item)
    text = str(item)
    return text if len(text) <= 80 else f"{text[:76]}..."


def main(words: Sequence[str] | None = None) -> int:
    """0 if the record ends as it ended in the daemon, 1 if not, 2 if it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m peerd.testing.replay", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="what `peerd debug record FILE` wrote, or a daemon whose core raised")
    parser.add_argument(
        "--story", metavar="WORD", default="", help="of a peer or a blob: its id, digest, or the end of it"
    )
    given = parser.parse_args(words)
    try:
        record = decoded(given.file.read_bytes())
    except (OSError, NotARecord) as error:
        _print(f"{given.file}: {error}", file=sys.stderr)
        return 2
    return told(record, given.story)


def _print(text: str, end: str = "\n", file: TextIO | None = None) -> None:
    """What a stranger chose, such as a peer's name, moves no cursor."""
    print("\n".join(line(part) for part in text.split("\n")), end=end, file=file)


def told(record: Record, word: str = "") -> int:
    """Run it and say what came of it; the exit code."""
    _print(f"{len(record.events)} events, recorded by peerd {record.program}: {record.why}")
    turns, ended = list(replayed(record)), fingerprint(record.begun)
    for turn in turns:
        ended = fingerprint(turn.node) if turn is turns[-1] else ended
        for fault in turn.broken:
            _print(f"at {turn.event.at:.3f} after {type(turn.event).__name__}: {fault}")
        if turn.error is not None:
            _print(f"at {turn.event.at:.3f} the core raised at {_said(turn.event)}:")
            _print("".join(traceback.format_exception(turn.error)), end="")
    if word:
        _print("\n".join(story(turns, word)) or f"nothing in this record names {word}")
    same = ended == record.ended
    _print("the same state as in the daemon" if same else "another state than in the daemon: this is other code")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
