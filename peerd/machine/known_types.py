"""Every type that is read from bytes is worked out once, in one thread, before others begin.

msgspec works out what a struct looks like when it is first asked to decode one, and runs Python code for that (the
annotations), so other threads take turns with it. One that decodes the same type meanwhile is given what is half made
and reads through a null pointer: the process ends with signal 11, and no handler of ours is asked (msgspec 0.22;
`tests/peerd/test_known_types.py` shows it). A daemon decodes on its loop, in libp2p's thread and in the journal's; a
program of a user's may have a client in each of its threads. Once a type is known, decoding it is safe from anywhere.
When msgspec works types out under a lock of its own, this file can go.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

OURS = ("peerd", "p2pfinetune", "bootstrap")
"""Whose structs."""


def work_out() -> int:
    """All that have been imported by now; how many. Call it where no other thread decodes yet."""
    return sum(map(is_known, structs(msgspec.Struct)))


def is_known(kind: type[msgspec.Struct]) -> bool:
    """Worked out now or before; False for one that nothing can decode, such as the core's state."""
    try:
        msgspec.json.Decoder(kind)
    except (TypeError, NameError):
        return False
    return True


def structs(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Of ours, each once, whatever it is derived from."""
    for kind in base.__subclasses__():
        if kind.__module__.partition(".")[0] in OURS:
            yield kind
        yield from structs(kind)
