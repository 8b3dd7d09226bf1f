"""Bounded MessagePack and length-prefixed frames: values to bytes and back, nothing about sockets or signatures.

Bytes from strangers go through `unpack`, which never raises: what does not fit is a `Refusal`.

    frame:  length of the body, 4 bytes, big-endian | body: one MessagePack map with a `type`

Every length is judged before what it announces is read or room is made for it. MessagePack and not JSON, since
signatures and sealed payloads are bytes; and not protobuf, whose decoders keep fields that they do not know. Unknown
fields, repeated keys, extension types and arrays beyond MAX_ITEMS are refused: two programs that read one signed
message must not be able to see two things in it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgpack
import msgspec

from p2pfinetune.names import Refusal

Message = TypeVar("Message", bound=msgspec.Struct)

HEADER_BYTES = 4  # big-endian length of the body
MAX_ITEMS = 128  # of one array or map; the largest message holds 64 peer records


def pack(message: msgspec.Struct) -> bytes:
    """MessagePack of a message: a map in the order of the fields."""
    packed: bytes = msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))
    return packed


def unpack(data: bytes, kind: type[Message], *, max_bytes: int) -> Message | Refusal:
    """The message these bytes hold. Reasons: `oversize`, `malformed` (no MessagePack), `bad-message` (other fields)."""
    found = unpack_plain(data, max_bytes=max_bytes)
    if isinstance(found, Refusal):
        return found
    if not isinstance(found, dict) or "type" not in found:  # msgspec takes a map without a tag for the kind it expects
        return Refusal("bad-message", "no map with a type")
    try:
        return msgspec.convert(found, kind, strict=True)
    except msgspec.ValidationError as error:
        return Refusal("bad-message", str(error)[:200])


def unpack_plain(data: bytes, *, max_bytes: int) -> Any | Refusal:
    """The built-in values these bytes hold. Reasons: `oversize`, `malformed`."""
    if len(data) > max_bytes:
        return Refusal("oversize", f"{len(data)} bytes, at most {max_bytes}")
    try:
        return msgpack.unpackb(
            data,
            raw=False,
            strict_map_key=True,
            object_pairs_hook=_map_without_repetition,
            max_str_len=max_bytes,
            max_bin_len=max_bytes,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except (ValueError, msgpack.UnpackException) as error:  # what msgpack documents; fuzzed
        return Refusal("malformed", str(error)[:200])


def _map_without_repetition(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """Two readers of one signed message must not see two values, so a repeated key is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in a map")
    return found


def frame(body: bytes, *, max_bytes: int) -> bytes:
    """Length and body. A longer body than the other side would read is our bug, so it raises ValueError."""
    if len(body) > max_bytes:
        raise ValueError(f"a frame of {len(body)} bytes, at most {max_bytes}")
    return len(body).to_bytes(HEADER_BYTES, "big") + body


def body_length(header: bytes, *, max_bytes: int) -> int | Refusal:
    """How many bytes follow a header, decided before any of them is read. Reasons: `truncated`, `oversize`."""
    if len(header) != HEADER_BYTES:
        return Refusal("truncated", f"{len(header)} bytes of a header of {HEADER_BYTES}")
    length = int.from_bytes(header, "big")
    if length > max_bytes:
        return Refusal("oversize", f"a frame of {length} bytes, at most {max_bytes}")
    return length
