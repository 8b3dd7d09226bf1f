r"""Every message that peers, daemons and bootstrap nodes exchange, as frozen values. Nothing here touches bytes.

A message travels inside a signed envelope (`envelope.py`); its bytes are bounded MessagePack (`framing.py`).
Field names are short words because they travel. Any change of the fields raises the version: whoever does not know a
field refuses the message, and holds that against its sender; another version is held against nobody.

Patterns stand between \A and \Z: msgspec searches, and `$` also holds before a line break at the end.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from p2pfinetune.names import Digest, PeerId, Round

VERSION = 3  # 2: announcements say when they were sealed; 3: and which blob theirs is a difference to
MAX_ANNOUNCEMENT_BYTES = 4096  # signed envelope included; gossip is for announcements, payloads go over streams
MAX_NAME = 64  # characters of a display name
MAX_ADDRESSES = 8  # a device has some interfaces, not hundreds
MAX_ADDRESS = 256  # bytes of one multiaddr
MAX_SKETCH = 16 * 1024  # bytes: 4096 numbers

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Hex = Annotated[Digest, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
"""A digest: 64 hexadecimal digits, small ones, and not a byte more."""
Address = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ADDRESS)]
Tag = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{2}\Z")]
"""Eight bits of something; see `traits`."""
Kind = Annotated[str, msgspec.Meta(pattern=r"\A(version|group|model|adapter|network)\Z")]
"""In what one network differs from another."""


class Announcement(msgspec.Struct, frozen=True, kw_only=True, tag="announcement", forbid_unknown_fields=True):
    """I published an adapter; fetch the blob of this digest from me or from anyone who holds it."""

    network: Hex
    peer: Annotated[PeerId, msgspec.Meta(min_length=8, max_length=128)]
    epoch: Count
    """Of one run of the sender's daemon, above those before, so that no number is used twice (docs/adr/0017)."""
    sequence: Count
    """Strictly increasing within an epoch, reserved on disk before use."""
    round: Annotated[Round, msgspec.Meta(ge=0, le=2**53)]
    codec: Annotated[str, msgspec.Meta(min_length=1, max_length=32)]
    size: Annotated[int, msgspec.Meta(ge=1, le=2**40)]
    """Bytes of the blob."""
    blob: Hex
    base: Hex | None = None
    """The blob of a key frame that this one is a difference to; None: it is one itself. No base has a base."""
    base_size: Annotated[int, msgspec.Meta(ge=0, le=2**40)] = 0
    """Bytes of the base; zero if there is none."""
    time: Count
    """Unix seconds of the sealing, by the sender's clock. A repetition says everything again but with a new time."""
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)] = ""
    """Display name chosen by the sender: untrusted, for people only."""
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_ADDRESSES)] = ()
    """Where the sender listens."""

    def __post_init__(self) -> None:
        """What cannot be meant is no message; on the wire it is refused like a field of a wrong kind."""
        if (self.base is None) != (self.base_size == 0) or self.base == self.blob:
            raise ValueError("a base is another blob, of a size")

    @property
    def key_frame(self) -> tuple[Digest, int]:
        """Digest and bytes of the blob that says all by itself: the base, or else the blob."""
        return (self.blob, self.size) if self.base is None else (self.base, self.base_size)

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """Everything that who decodes this update needs."""
        return (self.blob,) if self.base is None else (self.blob, self.base)

    @property
    def order(self) -> tuple[int, int]:
        """Newer announcements of one peer compare greater."""
        return (self.epoch, self.sequence)

    def repeats(self, other: Announcement) -> bool:
        """The same again, whenever it was sealed."""
        return self == msgspec.structs.replace(other, time=self.time)


class BlobRequest(msgspec.Struct, frozen=True, kw_only=True, tag="blob-request", forbid_unknown_fields=True):
    """Send me the bytes of this blob from `offset` on."""

    blob: Hex
    offset: Count = 0


class BlobReply(msgspec.Struct, frozen=True, kw_only=True, tag="blob-reply", forbid_unknown_fields=True):
    """What follows on the stream: `size - offset` raw bytes, or nothing when `status` is not `ok`."""

    status: Annotated[str, msgspec.Meta(pattern=r"\A(ok|absent|busy|bad-offset)\Z")]
    size: Count = 0


class MiddleRequest(msgspec.Struct, frozen=True, kw_only=True, tag="middle-request", forbid_unknown_fields=True):
    """Tell me your gradient at the middle of these two updates, mine and yours."""

    mine: Hex
    yours: Hex


class MiddleReply(msgspec.Struct, frozen=True, kw_only=True, tag="middle-reply", forbid_unknown_fields=True):
    """A sketch of it, if `status` is `ok`: so many fp32 numbers, little-endian; else nothing."""

    status: Annotated[str, msgspec.Meta(pattern=r"\A(ok|not-chosen|busy|absent|again)\Z")]
    sketch: Annotated[bytes, msgspec.Meta(max_length=MAX_SKETCH)] = b""


class PeerRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a peer said it can be reached."""

    peer: Annotated[PeerId, msgspec.Meta(min_length=8, max_length=128)]
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_ADDRESSES)]


class Why(msgspec.Struct, frozen=True, kw_only=True, tag="why", forbid_unknown_fields=True):
    """What a peer tells of its own network to one that is of another."""

    version: Count
    """Of the messages of peers."""
    group: Tag
    model: Tag
    adapter: Tag


class Register(msgspec.Struct, frozen=True, kw_only=True, tag="register", forbid_unknown_fields=True):
    """To a bootstrap node: remember me under this network, and hand me some others (the sample is the reply)."""

    network: Hex
    addresses: Annotated[tuple[Address, ...], msgspec.Meta(max_length=MAX_ADDRESSES)]
    want: Annotated[int, msgspec.Meta(ge=0, le=64)] = 16
    why: Why | None = None
    """Under the id of the bootstrap node, so that it can compare those of several networks."""


class Sample(msgspec.Struct, frozen=True, kw_only=True, tag="sample", forbid_unknown_fields=True):
    """From a bootstrap node: a random few of the peers registered under that network, or why not."""

    status: Annotated[str, msgspec.Meta(pattern=r"\A(ok|quota|full|bad-request)\Z")]
    peers: Annotated[tuple[PeerRecord, ...], msgspec.Meta(max_length=64)] = ()
    expires_seconds: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 0
    """Register again before this much time has passed."""
    others: Annotated[tuple[Kind, ...], msgspec.Meta(max_length=5)] = ()
    """In what the network differs that is nearest to the asker's own; empty if no other is registered."""
