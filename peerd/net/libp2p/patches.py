"""Patches laid over py-libp2p 0.8.1: each answers a fault that was reproduced against that very version.

Stock, one malformed gossip frame or one peer that stops reading ends the node. What is patched here can go when
upstream contains exceptions of stream handlers (`Swarm`), of `Pubsub` tasks, and enforces yamux receive windows.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import ParseError
from libp2p.identity.identify_push.identify_push import ID_PUSH
from libp2p.io.exceptions import MessageTooLarge
from libp2p.network import swarm
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.connection.swarm_connection import SwarmConn
from libp2p.protocol_muxer import multiselect_communicator
from libp2p.pubsub import pubsub
from libp2p.stream_muxer import muxer_multistream
from libp2p.stream_muxer.yamux import yamux
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from p2pfinetune.names import PeerId
from peerd.net import limits
from peerd.net.libp2p import alive, muxer
from peerd.net.libp2p.guard import Guard, attempt, contained

_run_swarm: Callable[[Any], Awaitable[None]] = swarm.Swarm.run


def install() -> None:
    """Patch the process; doing it again changes nothing. Call before the first host is made."""
    yamux.MAX_MESSAGE_SIZE = muxer.NOISE_MESSAGE_BYTES
    yamux.MAX_WINDOW_SIZE = limits.STREAM_BUFFER_BYTES
    muxer_multistream.Yamux = alive.WatchedYamux  # stock, it makes its own, whatever `muxer_opt` names
    swarm._HAPPY_EYEBALLS_DELAY = 0.0  # noqa: SLF001  # one address is dialled at a time: nothing to wait for
    swarm.Swarm._do_handle_inbound_connection = _handle_inbound  # noqa: SLF001  # this very version
    swarm.Swarm.run = _run_guarded  # stock, one task that raises ends the swarm with every connection
    multiselect_communicator.read_delim = _read_negotiation  # stock, it reads whatever length it is told
    pubsub.maybe_consume_signed_record = _ignore_record  # 64 KB of addresses a peer, which nobody here looks up
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs a line for whatever a stranger sends
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)  # and this one a traceback when an address has gone


async def _read_negotiation(reader: Any) -> bytes:
    """A line of multistream-select. Raises ParseError; stock, what is no UTF-8 raises what nobody expects."""
    try:
        line: bytes = await read_varint_prefixed_bytes_limited(reader, limits.MAX_NEGOTIATION_BYTES)
    except MessageTooLarge as error:
        raise ParseError(str(error)) from error
    if not line.endswith(b"\n"):
        raise ParseError("a line without its end")
    try:
        line.decode()
    except UnicodeDecodeError as error:
        raise ParseError("a line that is no UTF-8") from error
    return line[:-1]


def _ignore_record(_message: Any, _host: Any, _peer: Any) -> bool:
    return True


async def _handle_inbound(self: Any, raw: Any, listened: Any, _failure: Any) -> None:
    """As the original, but by place, and waiting for the end of this connection instead of the swarm's.

    In 0.8.1 every accepted connection keeps one of the inbound slots for ever, so that after some hundred nobody can
    connect any more.
    """
    guard = guard_of(self)
    doors: limits.Doors[Any] = vars(self).setdefault("peerd_doors", limits.Doors())
    connection, upgraded = RawConnection(raw, initiator=False), []

    async def come_in() -> None:
        remote = raw.get_remote_address()
        welcome, given_up = doors.knock(raw, str(remote[0]) if remote else "?")
        if not welcome:
            guard.count("connections-refused")
            await attempt(raw.close)
            return
        if given_up is not None:
            guard.count("connections-given-up")
            await attempt(given_up.close)
        upgraded.append(await self.upgrade_inbound_raw_conn(connection, listened))
        doors.enter(raw)

    try:
        if await guard.run("inbound", None, come_in) is not None:
            await attempt(connection.close)
        elif upgraded:
            await upgraded[0].event_closed.wait()
    finally:
        doors.leave(raw)


async def _run_guarded(self: Any) -> None:
    """As the original, every task behind the guard, and what a connection leaves behind when its task fails tidied."""
    original, guard = self.manager.run_task, guard_of(self)

    def run_task(function: Callable[..., Awaitable[None]], *arguments: Any, **options: Any) -> None:
        owner = getattr(function, "__self__", None)

        async def guarded(*given: Any) -> None:
            if isinstance(owner, yamux.Yamux):
                if await guard.run("muxer", None, function, *given) is not None:
                    await attempt(owner._cleanup_on_error)  # noqa: SLF001  # or those who wait for it wait for ever
            elif isinstance(owner, SwarmConn):
                if await guard.run("connection", None, function, *given) is not None:
                    await _tidy_up(self, owner)
            else:
                await guard.run("swarm", None, function, *given)

        original(guarded, *arguments, **options)

    self.manager.run_task = run_task
    await _run_swarm(self)


async def _tidy_up(network: Any, connection: Any) -> None:
    """Closed, forgotten and told of, wherever its own task was when it failed."""
    await attempt(connection.close)
    with contained():
        network.remove_conn(connection)
    await attempt(connection.muxed_conn.close)
    await attempt(network.notify_disconnected, connection)


def guard_of(network: Any) -> Guard:
    """That of a swarm; a host of no limits of ours has one that counts nothing."""
    found: Guard = vars(network).setdefault("peerd_guard", Guard(_count_nothing))
    return found


def _count_nothing(_what: str) -> None:
    """A host of no limits of ours."""


def guard_connections(host: Any, *, max_inbound: int, guard: Guard) -> None:
    """Its own doors, and nothing kept of who has left: 0.8.1 remembers a thousand peers with all they ever said."""
    network = host.get_network()
    network.peerd_doors, network.peerd_guard, guard.close = limits.Doors(max_inbound), guard, host.disconnect
    network._inbound_limiter = trio.CapacityLimiter(max_inbound + limits.MAX_PENDING + 1)  # noqa: SLF001  # doors decide
    host._schedule_identify = _identify_nobody  # noqa: SLF001  # up to 1 MB of an answer that nothing here asks for
    host.remove_stream_handler(ID_PUSH)


def _identify_nobody(_peer: Any, *, reason: str) -> None:
    """Addresses come signed in announcements, and protocols are asked for by name."""


async def _until_closed(stream: Any) -> None:
    """A stream that we have closed stays in yamux's table until the other side closes it, too: it counts so long.

    Then it is reset. So long, because what we wrote last may still be on its way over a slow line.
    """
    with trio.move_on_after(limits.CLOSE_SECONDS), contained():  # the end is a StreamEOF
        while await stream.read(limits.MAX_NEGOTIATION_BYTES):
            pass
    await stream.reset()


def guard_streams(host: Any, guard: Guard) -> None:
    """No exception of a stream handler leaves it (0.8.1: the whole swarm is cancelled); a quota for each peer."""
    inner: Callable[[Any], Awaitable[None]] = host._swarm_stream_handler  # noqa: SLF001  # what it wraps
    open_streams: Counter[PeerId] = Counter()

    async def serve(stream: Any) -> None:
        try:
            await inner(stream)
        except DecodeError:  # gossip; not a peer to keep
            guard.count("malformed-frames")
            raise

    async def handler(stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        if open_streams[peer] >= limits.MAX_STREAMS_PER_PEER:
            guard.count("streams-refused")
            await attempt(stream.reset)
            return
        open_streams[peer] += 1
        try:
            if await guard.run("stream", peer, serve, stream) is not None:
                await attempt(stream.reset)
            else:
                await attempt(_until_closed, stream)
        finally:
            open_streams[peer] -= 1
            if not open_streams[peer]:
                del open_streams[peer]

    host.get_network().set_stream_handler(handler)
