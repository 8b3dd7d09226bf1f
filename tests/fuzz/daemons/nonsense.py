"""What is said in place of what the other side waits for, and how: at once, cut short, or a byte at a time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import trio

SLOW_SECONDS = 0.03
LINES = (
    b"/multistream/1.0.0\n",
    b"/multistream/1.0.0",
    b"/noise\n",
    b"/yamux/1.0.0\n",
    b"/plaintext/2.0.0\n",
    b"na\n",
    b"ls\n",
    b"\n",
    b"",
    b"\xff\xfe\xfd\n",
    b"/nois\xc3\n",
    b"\xed\xa0\x80\n",
    b"\0\n",
    b"/meshsub/1.2.0\n",
    b"/ipfs/ping/1.0.0\n",
    b"x" * 1023 + b"\n",
    b"x" * 1024 + b"\n",
    b"\xff" * 1022 + b"\n",
    "\u202e\U0001f600\n".encode(),
)
LENGTHS = (b"\x00", b"\x7f", b"\xff\x07", b"\xff\xff\xff\xff\x07", b"\xff" * 9 + b"\x01", b"\x80" * 20)


def of_negotiation(dice: random.Random) -> bytes:
    """Some lines of multistream-select, or what looks like them."""
    return b"".join(line(dice) for _ in range(dice.randrange(1, 4)))


def line(dice: random.Random) -> bytes:
    """One, mostly with its right length."""
    text = dice.choice(LINES) if dice.random() < 0.8 else dice.randbytes(dice.randrange(60))
    length = bytes([len(text)]) if len(text) < 128 else bytes([len(text) & 127 | 128, len(text) >> 7])
    return (length if dice.random() < 0.8 else dice.choice(LENGTHS)) + text


async def drip(dice: random.Random, write: Callable[[bytes], Awaitable[object]], said: bytes) -> None:
    """All of it at once, a part of it, or slowly."""
    how = dice.random()
    if how < 0.7:
        await write(said)
    elif how < 0.85:
        await write(said[: dice.randrange(len(said) + 1)])
    else:
        for byte in said[:30]:
            await write(bytes([byte]))
            await trio.sleep(SLOW_SECONDS)
