"""Target: the head of a GGUF file, which somebody else wrote and everything behind it believes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from p2pfinetune.errors import ModelError
from p2pfinetune.model.gguf_header import BLOCKS, read_header
from tests.fuzz import mutate
from tests.fuzz.local import scratch
from tests.fuzz.target import Target
from tests.support.gguf_files import F32, Q4_1, Stored, gguf

MOST_A_BYTE = 6  # weights in one byte of the densest kind
WORDS = [b"GGUF", struct.pack("<Q", 1 << 60), struct.pack("<Q", (1 << 64) - 1), struct.pack("<I", 9), struct.pack("<I", 8),
         b"general.alignment", struct.pack("<II", 4, 0), b"\xff" * 4, b"\x00" * 8]  # fmt: skip


def run_head(data: bytes) -> None:
    """Refused, or no more than the file has room for."""
    with scratch() as folder:
        (path := folder / "a.gguf").write_bytes(data)
        try:
            header = read_header(path)
        except ModelError:
            return
    assert header.parameters <= MOST_A_BYTE * len(data)
    assert sum(tensor.size for tensor in header.tensors) <= len(data)
    assert len(header.facts) + len(header.tensors) <= len(data)
    assert {tensor.kind for tensor in header.tensors} <= {kind for kind, _, _ in BLOCKS.values()}


def head_seeds() -> Iterator[bytes]:
    """Files that are right, and files that claim what they have no room for."""
    facts = {
        "general.architecture": "llama",
        "general.alignment": 32,
        "a.b": 1.5,
        "c": True,
        "list": [1, 2],
        "words": ["a", "bc"],
    }
    tensors = [Stored("norm", (8,), F32, bytes(32)), Stored("matrix", (2, 32), Q4_1, bytes(40))]
    whole = gguf(facts, tensors)
    yield whole
    yield gguf({}, [])
    yield whole[: len(whole) // 2]
    yield gguf(facts, tensors, counts=(1 << 60, 6))
    yield gguf(facts, tensors, counts=(2, 1 << 60))
    yield gguf(facts, [tensors[0], tensors[1]._replace(begin=0)])
    yield gguf(facts, [tensors[0]._replace(shape=(1 << 60, 1 << 60))])
    yield gguf({"general.alignment": 3}, [])
    yield gguf({}, [])[:-8] + struct.pack("<Q", 4) + b"list" + struct.pack("<IIQ", 9, 0, 1 << 60)


TARGETS = (
    Target(
        name="gguf",
        run=run_head,
        seeds=head_seeds,
        max_bytes=4096,
        mutate=mutate.plain(WORDS),
        words=WORDS,
        peak_bytes=1 << 20,
    ),
)
