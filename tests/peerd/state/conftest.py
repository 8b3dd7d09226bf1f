"""Ways to damage a file."""

import random
from pathlib import Path

OFFSET, LENGTH = 150, 200  # where and how much is overwritten
FLIPPED = 1e-3  # of the bits


def damaged(data: bytes, how: str, seed: int = 0) -> bytes | None:
    """The bytes afterwards; None where the file is gone."""
    match how:
        case "deleted":
            return None
        case "emptied":
            return b""
        case "first byte only":
            return data[:1]
        case "cut in half":
            return data[: len(data) // 2]
        case "last byte missing":
            return data[:-1]
        case "zeroed":
            return bytes(len(data))
        case "bits flipped":
            dice, flipped = random.Random(seed), bytearray(data)
            for bit in dice.sample(range(8 * len(data)), max(1, round(8 * len(data) * FLIPPED))):
                flipped[bit // 8] ^= 1 << bit % 8
            return bytes(flipped)
        case "overwritten":
            return data[:OFFSET].ljust(OFFSET, b"\0") + b"\xaa" * LENGTH + data[OFFSET + LENGTH :]
        case _:
            raise ValueError(how)


DAMAGES = (
    "deleted",
    "emptied",
    "first byte only",
    "cut in half",
    "last byte missing",
    "zeroed",
    "bits flipped",
    "overwritten",
)


def do_damage(file: Path, how: str, seed: int = 0) -> None:
    """To a file that is there."""
    after = damaged(file.read_bytes(), how, seed)
    if after is None:
        file.unlink()
    else:
        file.write_bytes(after)
