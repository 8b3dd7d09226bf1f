"""Notices that the other end of a connection is gone though nobody said so: a pulled cable, a dead host, a lost route.

TCP alone takes a quarter of an hour for that, and for ever if nothing is to be sent. Stock yamux 0.8.1 pings every
30 seconds and does not mind when no answer comes. Here a connection over which nothing at all was heard between so
many pings in a row is closed; whoever wants it dials again.
"""

from __future__ import annotations

import contextlib
import struct

import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.stream_muxer.yamux.yamux import FLAG_SYN, TYPE_PING, YAMUX_HEADER_FORMAT

from peerd.net.libp2p.muxer import GuardedYamux

PING_SECONDS = 10.0
MAX_MISSED = 3  # pings in a row; less would take a busy machine or a late minute of Wi-Fi for death
_BROKEN = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError)


class WatchedYamux(GuardedYamux):
    """Yamux that closes a connection whose other end is silent."""

    _heard = True

    async def _read_paced(self, size: int | None = None) -> bytes:
        data = await super()._read_paced(size)
        self._heard = True
        return data

    async def _measure_rtt_loop(self) -> None:
        """In place of the original, which runs beside the reader; the answer is still measured by that one.

        Silence is counted in pings, not in seconds: a process that was itself suspended hears before it judges.
        """
        missed = 0
        while missed < MAX_MISSED and not self.event_shutting_down.is_set():
            self._heard = False
            with trio.move_on_after(PING_SECONDS):
                try:
                    await self._ping()
                except _BROKEN:
                    return  # the reader has seen it too, and cleans up
                await self.event_shutting_down.wait()
            missed = 0 if self._heard else missed + 1
        if missed >= MAX_MISSED:
            with contextlib.suppress(*_BROKEN):
                await self.secured_conn.close()  # the reader fails and cleans up, as after any broken connection

    async def _ping(self) -> None:
        self._ping_id += 1
        self._ping_sent_time = trio.current_time()
        await self._write_frame(struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_PING, FLAG_SYN, 0, self._ping_id))
