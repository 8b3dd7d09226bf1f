"""Who holds a place at the control socket or the dashboard's port, and who gives way.

A connection is either *waited for* (its request is not whole yet, or its reader does not take the answer) or
*answered*. One that is waited for has `PATIENCE_SECONDS`, however it trickles; and if all places are taken, the one
that has been waited for longest gives way to a newcomer. So silent connections, however many, keep nobody out: they
cost one another their places. One that is answered keeps its place; what can take long to answer (watching, jobs for
the worker) is counted by `peerd.control.seats`, which leave room for questions that are answered at once.
"""

from __future__ import annotations

import asyncio
import itertools

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from peerd.control.event_stream import ABORT
from peerd.control.responses import problem

MAX_CONNECTIONS = 64  # people, dashboards and scripts of one user
PATIENCE_SECONDS = 10.0  # on a line of this machine a request takes milliseconds; clients keep idle lines for 5 s

_turns = itertools.count()


class Place(H11Protocol):
    """HTTP over one connection, which gives way to a newcomer while we wait for its other end."""

    turn: int | None = None
    """When we began to wait, in the order of all; None while the connection is answered."""
    _alarm: asyncio.TimerHandle | None = None
    _is_slow = False

    def is_welcome(self) -> bool:
        """Asked before anything is read."""
        return True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in its parent
        """Take a place, or whose other end was waited for longest."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, ABORT: transport.abort}
        if not self.is_welcome():
            transport.abort()
            return
        self._judge()
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """The place is free."""
        self._wait_no_more()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Perhaps the request is whole now."""
        super().data_received(data)
        self._judge()

    def on_response_complete(self) -> None:
        """The next request may take as long as the first."""
        super().on_response_complete()
        self._judge()

    def pause_writing(self) -> None:
        """The reader does not take what was sent."""
        super().pause_writing()
        self._is_slow = True
        self._judge()

    def resume_writing(self) -> None:
        """The reader has taken most of it."""
        super().resume_writing()
        self._is_slow = False
        self._judge()

    def _judge(self) -> None:
        asked = self.cycle is not None and not self.cycle.response_complete and not self.cycle.more_body
        if asked and not self._is_slow:
            self._wait_no_more()
        elif self.turn is None and not self.transport.is_closing():
            self.turn = next(_turns)
            self._alarm = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)

    def _wait_no_more(self) -> None:
        self.turn = None
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _make_room(self) -> None:
        places = [one for one in self.connections if isinstance(one, Place)]
        others = [one for one in places if one is not self and not one.transport.is_closing()]
        if len(others) < MAX_CONNECTIONS:
            return
        waited_for = [(one.turn, one) for one in others if one.turn is not None]
        if waited_for:
            min(waited_for, key=lambda found: found[0])[1].transport.abort()
        else:
            self.app = full


async def full(scope: Scope, receive: Receive, send: Send) -> None:
    """Said to a client that comes while every place is answered."""
    said = f"{MAX_CONNECTIONS} requests are being answered already"
    await problem("busy", said, "wait, or end what asks so often", status=503)(scope, receive, send)
