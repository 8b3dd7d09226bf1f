"""The Ed25519 identity of a peer: the seed on disk, the peer id it gives, signatures and their verification.

A peer id is the base58 form of the identity multihash of libp2p's protobuf public key (libp2p specs, peer-ids), so the
public key is inside it and verifying needs no look-up. The seed never leaves this file and the libp2p adapter.
"""

from __future__ import annotations

import os
import re
import stat
import zlib
from pathlib import Path

import base58
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from p2pfinetune.names import PeerId
from p2pfinetune.system.durable import create_whole
from peerd.errors import StoreError, UsageError
from peerd.machine.faults import within
from peerd.machine.unfit import LACKING

SEED_BYTES = 32
SIGNATURE_BYTES = 64
CHECKSUM_BYTES = 4  # CRC-32
MAX_GROUP_KEY_FILE = 4096  # bytes; 64 digits and a line break
OTHER_HOME = (
    "put back a copy of it; to become a new peer, use another --home: peers' trust and how your text is split "
    "belong to the key"
)
_PUBLIC_KEY_BYTES = 32
_PROTOBUF_KEY = bytes.fromhex("08011220")  # field 1 (type) = 1, Ed25519; field 2 (data): 32 bytes
_IDENTITY_MULTIHASH = bytes.fromhex("0024")  # code 0, the bytes themselves; 36 bytes
_PREFIX = _IDENTITY_MULTIHASH + _PROTOBUF_KEY
_FIELD = 2**255 - 19
_SIGN = 1 << 255  # of x, in the highest bit
_ORDER_8 = (  # RFC 7748 and 8032 name none of them; as in libsodium's ge25519_has_small_order
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
)
_SMALL_ORDER = frozenset({0, 1, _FIELD - 1, *(int.from_bytes(y, "little") for y in _ORDER_8)})  # y, either sign of x
_MAX_PEER_ID = 64  # characters; an Ed25519 peer id has 52, and base58 takes quadratic time


class PeerKey:
    """A private key. Its repr shows the peer id only."""

    __slots__ = ("_private", "peer_id", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"an Ed25519 seed has {SEED_BYTES} bytes, got {len(seed)}")
        self.seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.peer_id = peer_id_of(self._private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"PeerKey({self.peer_id})"

    def sign(self, data: bytes) -> bytes:
        """64 bytes; the same for the same data."""
        return self._private.sign(data)

    @classmethod
    def load_or_create(cls, path: Path, *, used: bool = False) -> PeerKey:
        """The key kept in a file of mode 0600; a new one if there is no file, unless its home was `used` already.

        Raises StoreError, or UsageError for a key that is gone or damaged: it is never replaced unasked.
        """
        try:
            if not path.exists():
                if used:
                    raise UsageError(f"the identity key {path} is gone, but its home has been used", OTHER_HOME)
                _create(path, sealed(Ed25519PrivateKey.generate().private_bytes_raw()))
            return cls(_read(path))
        except OSError as error:
            why = error.strerror or error
            hint = f"look at the rights and the free space of {path.parent}"
            raise StoreError(f"the identity key {path} cannot be used: {why}", hint) from error


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a raw Ed25519 public key."""
    return PeerId(base58.b58encode(_PREFIX + public_key).decode("ascii"))


def public_key_of(peer: str) -> bytes | None:
    """The raw Ed25519 public key inside a peer id; None if it is no id of a sound Ed25519 key, well spelt."""
    if len(peer) > _MAX_PEER_ID:
        return None
    try:
        raw: bytes = base58.b58decode(peer)
    except ValueError:
        return None
    key = raw[len(_PREFIX) :]
    if not raw.startswith(_PREFIX) or len(key) != _PUBLIC_KEY_BYTES or peer_id_of(key) != peer:
        return None
    return key if is_sound(key) else None


def is_sound(key: bytes) -> bool:
    """Whether a raw public key is written in the one way, and of more than eight points.

    Under a key of small order there are signatures of any message, which anybody can make; and one key written in two
    ways would be two peers.
    """
    y = int.from_bytes(key, "little") & ~_SIGN
    return y < _FIELD and y not in _SMALL_ORDER


def verify(peer: PeerId, signature: bytes, data: bytes) -> bool:
    """Whether the owner of this peer id signed exactly these bytes. Never raises, whatever it is given."""
    key = public_key_of(peer)
    if key is None or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def load_group_key(path: Path) -> str:
    """A libp2p pre-shared key: a file of 64 hexadecimal digits. Raises UsageError with advice; never shows the key.

    A file that others can read is refused, as ssh refuses such a private key: who reads it is in the group.
    """
    make = (
        f"make one with: (umask 077; openssl rand -hex 32 > {path})   and give the same file to every peer of the group"
    )
    try:
        with path.open("rb") as file:
            _require_private(path, os.fstat(file.fileno()))
            text = file.read(MAX_GROUP_KEY_FILE).strip().lower()
    except OSError as error:
        raise UsageError(f"--group-key: {path} cannot be read: {error.strerror}", make) from error
    if not re.fullmatch(rb"[0-9a-f]{64}", text):
        raise UsageError(f"--group-key: {path} does not hold 64 hexadecimal digits", make)
    return text.decode()


def _require_private(path: Path, found: os.stat_result) -> None:
    mode = stat.S_IMODE(found.st_mode)
    mine = found.st_uid == os.getuid()
    if mode & (0o077 if mine else 0o007):  # one of another user's may be for a group that we are in
        raise UsageError(
            f"--group-key: {path} can be read by others (mode {mode:04o}): who reads it is in the group",
            f"make it yours alone: chmod 600 {path}"
            if mine
            else f"take a copy of your own: install -m 600 {path} group.key",
        )


def sealed(seed: bytes) -> bytes:
    """As in the file: any 32 bytes are a valid seed, so a checksum tells whether they are still the same."""
    return seed + zlib.crc32(seed).to_bytes(CHECKSUM_BYTES, "big")


def _create(path: Path, content: bytes) -> None:
    """The home is locked, so on a file system without hard links nobody else makes one meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    create_whole(path, content, lacking=LACKING, step=within("identity"))


def _read(path: Path) -> bytes:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise StoreError(
            f"the identity key {path} can be read by others (mode {mode:04o})",
            f"make it yours alone: chmod 600 {path}",
        )
    with path.open("rb") as file:
        content = file.read(SEED_BYTES + CHECKSUM_BYTES + 1)
    seed = content[:SEED_BYTES]
    if len(seed) != SEED_BYTES or content not in (seed, sealed(seed)):  # the bare seed: as written by hand
        raise UsageError(f"the identity key {path} is damaged; it is left as it is", OTHER_HOME)
    return seed
