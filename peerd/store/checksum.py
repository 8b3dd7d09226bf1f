"""Rows that notice flipped bits: SQLite checks the structure of its pages, not their content."""

from __future__ import annotations

import zlib


def sealed(body: bytes) -> bytes:
    """CRC-32 in four bytes, big-endian, then the body."""
    return zlib.crc32(body).to_bytes(4, "big") + body


def unsealed(row: bytes) -> bytes | None:
    """The body, None if it is not what was written."""
    body = row[4:]
    return body if row[:4] == zlib.crc32(body).to_bytes(4, "big") else None
