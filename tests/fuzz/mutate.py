"""Mutations that know a structure, each a function of bytes and dice: they work with and without a fuzzer.

Formats with lengths, checksums and signatures stop plain bit flips at the door. So values are taken apart into a tree,
the tree is changed, and it is written again, in spellings too that no honest writer uses.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import msgpack

from tests.fuzz.target import Mutator

NUMBERS = (0, 1, -1, 2, 7, 64, 127, 128, 129, 255, 256, 4096, 65_535, 2**31 - 1, 2**31, 2**32, 2**48, 2**53, 2**53 + 1,
           2**63 - 1, 2**63, 2**64 - 1, -(2**63))  # fmt: skip
TEXTS = ("", "a", "0", "\0", "\n", "é", "\ud7ff", "\U0001f600", "a" * 33, "a" * 65, "a" * 64, "b" * 257, "../x", "²")
OTHERS = (None, True, False, 0.0, -0.0, 1.5, 1e308, float("nan"), float("inf"), b"", b"\xff", b"a" * 64)


class Pairs(list[tuple[Any, Any]]):
    """A map as it was written: keys may repeat."""


class Bare(bytes):
    """Bytes that are written as they are, where a value should stand."""


def plain(words: Sequence[bytes] = ()) -> Mutator:
    """Bits, bytes, runs and words."""

    def mutate(data: bytes, dice: Random) -> bytes:
        body = bytearray(data)
        place, end = sorted((dice.randint(0, len(body)), dice.randint(0, len(body))))
        match dice.randrange(9):
            case 0 if body:
                body[place % len(body)] ^= 1 << dice.randrange(8)
            case 1 if body:
                body[place % len(body)] = dice.choice((0, 1, 0x7F, 0x80, 0xC1, 0xFE, 0xFF, dice.randrange(256)))
            case 2:
                del body[place:end]
            case 3:
                body[place:place] = body[place:end] * dice.choice((1, 1, 2, 16))
            case 4:
                body[place:place] = dice.randbytes(dice.choice((1, 2, 4, 8)))
            case 5:
                del body[place:]
            case 6:
                body[place:end] = bytes(end - place)
            case 7:
                width = dice.choice((1, 2, 4, 8))
                number = dice.choice(NUMBERS) % (1 << 8 * width)
                body[place : place + width] = number.to_bytes(width, dice.choice(("big", "little")))
            case _ if words:
                body[place : dice.choice((place, end))] = dice.choice(words)
        return bytes(body)

    return mutate


def trees(
    read: Callable[[bytes], Any], write: Callable[[Any, Random], bytes], names: Sequence[str], words: Sequence[bytes]
) -> Mutator:
    """Takes apart, changes a few nodes, writes again; plain mutations where it cannot be taken apart, and sometimes."""
    otherwise = plain(words)

    def mutate(data: bytes, dice: Random) -> bytes:
        if dice.random() < 0.25:
            return otherwise(data, dice)
        try:
            tree = read(data)
        except (ValueError, RecursionError, msgpack.UnpackException):
            return otherwise(data, dice)
        for _ in range(dice.choice((0, 1, 1, 1, 2, 4))):
            tree = changed(tree, dice, names)
        try:
            return write(tree, dice)
        except (ValueError, RecursionError, OverflowError, TypeError):
            return otherwise(data, dice)

    return mutate


def changed(tree: Any, dice: Random, names: Sequence[str]) -> Any:
    """The tree with one node another one."""
    if isinstance(tree, Pairs) and tree and dice.random() < 0.85:
        place = dice.randrange(len(tree))
        key, value = tree[place]
        return Pairs([*tree[:place], *_pair(key, value, dice, names), *tree[place + 1 :]])
    if isinstance(tree, list) and not isinstance(tree, Pairs) and tree and dice.random() < 0.85:
        place = dice.randrange(len(tree))
        items = {
            0: [],
            1: [tree[place]] * dice.choice((2, 2, 9, 65, 129)),
            2: [tree[place], other(tree[place], dice)],
        }.get(dice.randrange(9), [changed(tree[place], dice, names)])
        return [*tree[:place], *items, *tree[place + 1 :]]
    return other(tree, dice)


def _pair(key: Any, value: Any, dice: Random, names: Sequence[str]) -> list[tuple[Any, Any]]:
    match dice.randrange(12):
        case 0:
            return []
        case 1:
            return [(key, value), (key, other(value, dice))]  # the key stands twice
        case 2:
            return [(dice.choice((*names, *TEXTS)), value)]
        case 3:
            return [(key, value), (dice.choice((*names, "x")), other(value, dice))]
        case _:
            return [(key, changed(value, dice, names))]


def other(value: Any, dice: Random) -> Any:
    """A value near this one, or of another kind."""
    if dice.random() < 0.7:
        match value:
            case bool():
                return not value
            case int():
                return dice.choice((value + 1, value - 1, value * 2, -value, value % 1000 + 0.5, *NUMBERS))
            case str() if value:
                place = dice.randrange(len(value))
                put = dice.choice(("", value[place] * 2, value[place].swapcase(), " ", "0", "/", *TEXTS))
                return value[:place] + put + value[place + 1 :]
            case bytes():
                return plain()(value, dice)
    deep = ["x"]
    for _ in range(dice.choice((1, 20, 1200))):
        deep = [deep]
    return dice.choice((*NUMBERS, *TEXTS, *OTHERS, [], Pairs(), [value], [value] * 129, Pairs([("x", value)]), deep))


def read_msgpack(data: bytes) -> Any:
    """A tree of lists and Pairs."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False, object_pairs_hook=Pairs, unicode_errors="replace")


def write_msgpack(tree: Any, dice: Random | None = None) -> bytes:
    """Now and then with a length or an integer in a wider form than needed, or a length that lies."""
    odd = dice if dice is not None and dice.random() < 0.3 else None
    return _msgpack(tree, odd)


def _msgpack(tree: Any, odd: Random | None) -> bytes:
    packer = msgpack.Packer(unicode_errors="surrogatepass")
    strange = odd is not None and odd.random() < 0.15
    match tree:
        case Bare():
            return bytes(tree)
        case Pairs():
            inner = b"".join(_msgpack(part, odd) for pair in tree for part in pair)
            head = b"\xdf" + struct.pack(">I", len(tree)) if strange else packer.pack_map_header(len(tree))
            return head + inner
        case list():
            head = b"\xdd" + struct.pack(">I", len(tree)) if strange else packer.pack_array_header(len(tree))
            return head + b"".join(_msgpack(part, odd) for part in tree)
        case int() if strange and not isinstance(tree, bool):
            return b"\xd3" + struct.pack(">q", max(-(2**63), min(tree, 2**63 - 1)))
        case str() if strange:
            text = tree.encode("utf-8", "surrogatepass")
            lie = odd.choice((0, 0, 1, 2**31, 2**32 - 1 - len(text)))
            return b"\xdb" + struct.pack(">I", len(text) + lie) + text
        case bytes() if strange:
            return b"\xc6" + struct.pack(">I", len(tree)) + tree
    packed: bytes = packer.pack(tree)
    return packed


def read_json(data: bytes) -> Any:
    """A tree of lists and Pairs."""
    return json.loads(data.decode("utf-8"), object_pairs_hook=Pairs)


def write_json(tree: Any, dice: Random | None = None) -> bytes:
    """As json.dumps, with repeated keys where there are some, and with the constants that are not JSON."""
    return _json(tree).encode("utf-8", "surrogatepass")


def _json(tree: Any) -> str:
    match tree:
        case Bare():
            return tree.decode("latin-1")
        case Pairs():
            return "{" + ",".join(f"{json.dumps(str(key))}:{_json(value)}" for key, value in tree) + "}"
        case list():
            return "[" + ",".join(map(_json, tree)) + "]"
        case bytes():
            return json.dumps(tree.decode("latin-1"))
    return json.dumps(tree)


def msgpack_trees(names: Sequence[str] = (), words: Sequence[bytes] = ()) -> Mutator:
    """For a bare MessagePack value."""
    return trees(read_msgpack, write_msgpack, names, words)


def json_trees(names: Sequence[str] = (), words: Sequence[bytes] = ()) -> Mutator:
    """For a bare JSON value."""
    return trees(read_json, write_json, names, words)


def framed(inner: Mutator, *, width: int = 4, order: Any = "big", head: int = 0) -> Mutator:
    """For `head` bytes of anything, a length, a body of that length, and what follows: the length stays right, mostly."""
    otherwise = plain()

    def mutate(data: bytes, dice: Random) -> bytes:
        begin = head + width
        if len(data) < begin or dice.random() < 0.2:
            return otherwise(data, dice)
        length = int.from_bytes(data[head:begin], order)
        before, body, after = data[:head], data[begin : begin + length], data[begin + length :]
        match dice.randrange(8):
            case 0 if head:
                before = plain()(before, dice)[:head].ljust(head, b"\0")
            case 1:
                after = otherwise(after, dice)
            case _:
                body = inner(body, dice)
        claimed = (len(body) if dice.random() < 0.9 else dice.choice(NUMBERS)) % (1 << 8 * width)
        return before + claimed.to_bytes(width, order) + body + after

    return mutate
