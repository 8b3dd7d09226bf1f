"""Guards around py-libp2p 0.8.1: each answers a fault that was reproduced against that very version.

Stock, one malformed gossip frame or one peer that stops reading ends the node. What is patched here can go when
upstream contains exceptions of stream handlers (`Swarm`), of `Pubsub` tasks, and enforces yamux receive windows.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError
from libp2p.network import swarm
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.pubsub.pubsub import Pubsub
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from p2pfinetune.names import PeerId

STREAM_BUFFER_BYTES = 4 * 1024 * 1024  # the receive window we grant a stream
NOISE_MESSAGE_BYTES = 65_519  # what fits one Noise message: one yamux frame each instead of 65519 + 17 bytes
MAX_STREAMS_PER_PEER = 32  # inbound, at one time
MAX_PENDING_PER_ADDRESS = 16  # inbound connections of one IP address that are not authenticated yet

log = logging.getLogger(__name__)
_pending: Counter[str] = Counter()


class _Window(bytearray):
    """A receive buffer that refuses to grow past the granted window; 0.8.1 only logs a warning."""

    def extend(self, data: Any) -> None:
        if len(self) + len(data) > STREAM_BUFFER_BYTES + 2 * NOISE_MESSAGE_BYTES:
            raise MuxedStreamError("the peer ignores the receive window")
        super().extend(data)


class _Windows(dict[int, bytearray]):
    def __setitem__(self, stream: int, buffer: bytearray) -> None:
        super().__setitem__(stream, buffer if isinstance(buffer, _Window) else _Window(buffer))


class _GuardedYamux(yamux.Yamux):  # type: ignore[misc]  # libp2p is untyped here
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stream_buffers = _Windows()


GUARDED_YAMUX: type[Any] = _GuardedYamux


def install() -> None:
    """Patch the process; doing it again changes nothing. Call before the first host is made."""
    yamux.MAX_MESSAGE_SIZE = NOISE_MESSAGE_BYTES
    yamux.MAX_WINDOW_SIZE = STREAM_BUFFER_BYTES
    swarm._HAPPY_EYEBALLS_DELAY = 0.0  # noqa: SLF001  # one address is dialled at a time: nothing to wait for
    swarm.Swarm._do_handle_inbound_connection = _handle_inbound  # noqa: SLF001  # this very version
    logging.getLogger("libp2p").setLevel(logging.CRITICAL)  # it logs a line for whatever a stranger sends


async def _handle_inbound(self: Any, raw: Any, listened: Any, _failure: Any) -> None:
    """As the original, but waits for the end of this connection instead of the swarm's.

    In 0.8.1 every accepted connection keeps one of the inbound slots for ever, so that after some hundred nobody can
    connect any more.
    """
    remote = raw.get_remote_address()
    address = str(remote[0]) if remote else "?"
    if _pending[address] >= MAX_PENDING_PER_ADDRESS:
        await raw.close()
        return
    connection, upgraded = RawConnection(raw, initiator=False), []

    async def upgrade() -> None:
        upgraded.append(await self.upgrade_inbound_raw_conn(connection, listened))

    _pending[address] += 1
    try:
        failure = await attempt(upgrade)
    finally:
        _forget_pending(address)
    if failure is None:
        await upgraded[0].event_closed.wait()
    else:
        await attempt(connection.close)


def _forget_pending(address: str) -> None:
    _pending[address] -= 1
    if not _pending[address]:
        del _pending[address]


def guard_streams(host: Any, count: Callable[[str], None]) -> None:
    """No exception of a stream handler leaves it (0.8.1: the whole swarm is cancelled); a quota for each peer."""
    inner: Callable[[Any], Awaitable[None]] = host._swarm_stream_handler  # noqa: SLF001  # what it wraps
    open_streams: Counter[PeerId] = Counter()

    async def handler(stream: Any) -> None:
        peer = stream.muxed_conn.peer_id
        if open_streams[peer] >= MAX_STREAMS_PER_PEER:
            count("streams-refused")
            await attempt(stream.reset)
            return
        open_streams[peer] += 1
        try:
            failure = await attempt(inner, stream)
            if failure is not None:
                count("streams-failed")
                await attempt(stream.reset)
            if isinstance(failure, DecodeError):  # a malformed gossip frame: not a peer to keep
                count("malformed-frames")
                await attempt(host.disconnect, peer)
        finally:
            open_streams[peer] -= 1
            if not open_streams[peer]:
                del open_streams[peer]

    host.get_network().set_stream_handler(handler)


class GuardedPubsub(Pubsub):  # type: ignore[misc]  # libp2p is untyped here
    """Pubsub whose tasks cannot end the service, whatever is inside a message; tells bytes by peer."""

    def __init__(self, host: Any, router: Any, traffic: Callable[[Any, int, int], None], **options: Any) -> None:
        super().__init__(host, router, **options)
        self._traffic = traffic
        self._under_way: set[bytes] = set()

    async def run(self) -> None:
        """As the original, every task guarded."""
        original = self.manager.run_task

        def run_task(function: Callable[..., Awaitable[None]], *arguments: Any, **options: Any) -> None:
            async def guarded(*given: Any) -> None:
                await attempt(function, *given)

            original(guarded, *arguments, **options)

        self.manager.run_task = run_task
        await super().run()

    async def push_msg(self, msg_forwarder: Any, msg: Any) -> None:
        """As the original; a message that is being looked at already is not looked at again."""
        if msg_forwarder != self.my_id:
            self._traffic(msg_forwarder, msg.ByteSize(), 0)
        name = self.get_message_id(msg)
        if name in self._under_way:
            return
        self._under_way.add(name)
        try:
            await super().push_msg(msg_forwarder, msg)
        finally:
            self._under_way.discard(name)

    async def write_msg(self, stream: Any, rpc_msg: Any) -> bool:
        """As the original, counted."""
        written: bool = await super().write_msg(stream, rpc_msg)
        if written and rpc_msg.publish:
            self._traffic(stream.muxed_conn.peer_id, 0, rpc_msg.ByteSize())
        return written


async def attempt(function: Callable[..., Awaitable[Any]], *arguments: Any) -> Exception | None:
    """Run what a peer may make fail; the failure, whatever it is, is a value and ends nothing else."""
    try:
        await function(*arguments)
    except Exception as error:  # the library's border, and it has no common base for what a stranger can provoke
        log.debug("%s failed: %r", getattr(function, "__name__", function), error)
        return error
    return None
