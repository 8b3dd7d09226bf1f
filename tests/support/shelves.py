"""What a transport serves blobs from, in memory."""

from __future__ import annotations

import hashlib

from p2pfinetune.names import Digest


class DictShelf:
    """A shelf in memory."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.partials: dict[str, bytes] = {}

    def put(self, data: bytes) -> Digest:
        digest = Digest(hashlib.sha256(data).hexdigest())
        self.blobs[digest] = data
        return digest

    def size(self, digest: Digest) -> int | None:
        return len(self.blobs[digest]) if digest in self.blobs else None

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        return self.blobs[digest][offset : offset + length]

    def partial_size(self, digest: Digest) -> int:
        return len(self.partials.get(digest, b""))

    def append_partial(self, digest: Digest, offset: int, data: bytes) -> bool:
        assert offset == self.partial_size(digest)
        self.partials[digest] = self.partials.get(digest, b"") + data
        return True

    def complete_partial(self, digest: Digest) -> bool:
        data = self.partials.pop(digest, b"")
        if hashlib.sha256(data).hexdigest() != digest:
            return False
        self.blobs[digest] = data
        return True

    def drop_partial(self, digest: Digest) -> None:
        self.partials.pop(digest, None)


class EmptyShelf(DictShelf):
    """Of a peer that has nothing and takes nothing."""

    def append_partial(self, digest: Digest, offset: int, data: bytes) -> bool:
        return False
