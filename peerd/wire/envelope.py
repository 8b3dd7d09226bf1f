"""The signed envelope: MessagePack of [version, payload bytes, signature].

The signature covers a prefix of our own and the exact payload bytes; who signed stands inside the payload. Opening
never raises: whatever a stranger sends that is not a valid announcement is a `Refusal`.

The payload travels as the very bytes that were signed. To sign a value and encode it again for the check would need one
canonical form of every value (JOSE and COSE sign bytes for that reason); here only the outer list has to be in its
shortest form, so that an announcement has one spelling. The prefix (`DOMAIN`) keeps a signature that the same key made
for libp2p, or for another version, from counting here.

A signature is the dear part of a message (some 150 microseconds), and several ask for it: who passes gossip on, who
answers an echo, the daemon. So bytes and what was found out about them travel together, as an `Envelope`: it is opened
where the bytes arrive, and whoever holds one need not, and does not, verify again. Nothing but this file makes one.
"""

from __future__ import annotations

import msgpack
import msgspec

from p2pfinetune.names import Refusal
from peerd.wire.framing import pack, unpack, unpack_plain
from peerd.wire.keys import PeerKey, verify
from peerd.wire.messages import MAX_ANNOUNCEMENT_BYTES, VERSION, Announcement

DOMAIN = b"peerd announcement, version 3\x00"  # so that a signature made for anything else never counts here


class Envelope(msgspec.Struct, frozen=True):
    """Bytes that came from somewhere, opened: holding one says that the signature of `said` was verified."""

    data: bytes
    said: Announcement | Refusal


def opened(data: bytes) -> Envelope:
    """Of bytes that nobody has looked at. Called once for each message, where it arrives."""
    return Envelope(data, open_announcement(data))


def sealed(key: PeerKey, announcement: Announcement) -> Envelope:
    """The own announcement in its envelope; raises as `seal` does."""
    return Envelope(seal(key, announcement), announcement)


def seal(key: PeerKey, announcement: Announcement) -> bytes:
    """The envelope of the own announcement. Raises ValueError for another's, or one that would be too long to send."""
    if announcement.peer != key.peer_id:
        raise ValueError(f"{key.peer_id} cannot sign for {announcement.peer}")
    payload = pack(announcement)
    envelope = _outer(payload, key.sign(DOMAIN + payload))
    if len(envelope) > MAX_ANNOUNCEMENT_BYTES:
        raise ValueError(f"an announcement of {len(envelope)} bytes, at most {MAX_ANNOUNCEMENT_BYTES}")
    return envelope


def open_announcement(data: bytes) -> Announcement | Refusal:
    """The announcement, its signature verified.

    Reasons: `oversize`, `malformed`, `bad-envelope`, `version`, `bad-message`, `signature`.
    """
    outer = unpack_plain(data, max_bytes=MAX_ANNOUNCEMENT_BYTES)
    match outer:
        case Refusal():
            return outer
        case [int(version), bytes(payload), bytes(signature)] if not isinstance(version, bool):
            pass
        case _:
            return Refusal("bad-envelope", "not [version, payload, signature]")
    if version != VERSION:
        return Refusal("version", f"version {version}, this one speaks {VERSION}")
    if _outer(payload, signature) != data:
        return Refusal("bad-envelope", "not the shortest form")  # else one announcement had many spellings
    announcement = unpack(payload, Announcement, max_bytes=MAX_ANNOUNCEMENT_BYTES)
    if isinstance(announcement, Announcement) and not verify(announcement.peer, signature, DOMAIN + payload):
        return Refusal("signature", f"not signed by {announcement.peer}")
    return announcement


def _outer(payload: bytes, signature: bytes) -> bytes:
    packed: bytes = msgpack.packb([VERSION, payload, signature])
    return packed
