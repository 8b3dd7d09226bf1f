"""Blobs as the wire knows them, by their digest: the store keeps them, a transport serves and fetches them.

The protocol stands below both, so that neither room imports the other.
"""

from __future__ import annotations

from typing import Protocol

from p2pfinetune.names import Digest


class BlobShelf(Protocol):
    """What a transport needs of the blob store. Called from its own thread: quick, thread-safe file work.

    Digests come from strangers, so a name that is none is like a blob that nobody has: absent, empty, False. Only disk
    trouble is raised, as StoreError.
    """

    def size(self, digest: Digest) -> int | None:
        """Bytes of a complete blob, None if it is absent."""
        ...

    def read(self, digest: Digest, offset: int, length: int) -> bytes:
        """Up to `length` bytes of a complete blob."""
        ...

    def partial_size(self, digest: Digest) -> int:
        """Bytes held of an interrupted transfer; zero if there is none."""
        ...

    def append_partial(self, digest: Digest, offset: int, data: bytes) -> bool:
        """Add bytes at the end of an interrupted transfer; False if `offset` is not its present size."""
        ...

    def complete_partial(self, digest: Digest) -> bool:
        """Verify the digest and make the blob durable; False (and the partial is dropped) if it does not match."""
        ...

    def drop_partial(self, digest: Digest) -> None:
        """Forget an interrupted transfer."""
        ...
