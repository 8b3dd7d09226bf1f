"""How fast blobs may go out or come in, all together, if the user set a limit."""

from __future__ import annotations

import trio

from peerd.net import limits
from peerd.pacing import TokenBucket


class Pace:
    """Whoever moves bytes reports them and rests as long as told. Without a limit nobody rests."""

    def __init__(self, bytes_a_second: int) -> None:
        self._bucket = TokenBucket(bytes_a_second, bytes_a_second) if bytes_a_second else None
        self.chunk = limits.PACED_CHUNK_BYTES if bytes_a_second else limits.CHUNK_BYTES
        """To move at one time."""

    async def rest(self, moved: int) -> None:
        """After so many bytes."""
        if self._bucket is not None and (pause := self._bucket.pause(trio.current_time(), moved)):
            await trio.sleep(pause)
