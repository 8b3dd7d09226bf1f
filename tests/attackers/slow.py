"""Attackers that hold on to things."""

from __future__ import annotations

import itertools
from collections import Counter

import trio

from peerd.wire.framing import frame, pack
from peerd.wire.messages import BlobRequest
from tests.attackers.line import Target, crowd, is_ours, line, member

BYTE_SECONDS = 1.0
BEGINNINGS = (b"", b"\x13", b"\x13/multistream/1.0.0\n\x07/noise\n")  # silent; in the first word; before Noise


async def slow_loris(target: Target, seconds: float, count: int = 200) -> Counter[str]:
    """Connections on the bare port that say nothing, or a byte a second."""
    kinds = itertools.cycle(BEGINNINGS)

    async def hold() -> None:
        beginning = next(kinds)
        async with await target.tcp() as tcp:
            target.done["connections"] += 1
            await tcp.send_all(beginning)
            while True:
                with trio.move_on_after(BYTE_SECONDS):
                    if not await tcp.receive_some(4096):
                        return  # cut
                if beginning:
                    await tcp.send_all(b"\x00")

    return await crowd(target, seconds, hold, count)


async def slow_streams(
    target: Target, seconds: float, count: int = 64, protocols: tuple[str, ...] = ("blob", "/ipfs/ping/1.0.0")
) -> Counter[str]:
    """Requests that come a byte a second and end never, on all the streams a connection gives."""

    async def hold() -> None:
        async with line(target) as connection, trio.open_nursery() as nursery:
            for protocol in itertools.islice(itertools.cycle(protocols), 40):
                nursery.start_soon(trickle, connection, target.protocol(protocol))
            await connection.muxer.event_closed.wait()

    async def trickle(connection, protocol) -> None:
        try:
            stream = await connection.stream(protocol)
            target.done["streams"] += 1
            for byte in b"\x00\x00\x01\x00" + bytes(252):
                await stream.write(bytes([byte]))
                await trio.sleep(BYTE_SECONDS)
        except Exception as error:  # of a library that was not made for this
            if is_ours(error):
                raise
            target.done["streams refused"] += 1

    return await crowd(target, seconds, hold, max(1, count // 16))


async def slow_reader(target: Target, seconds: float, blob: str = "0" * 64, count: int = 16) -> Counter[str]:
    """Asks for a blob and reads a byte of it a second."""

    async def hold() -> None:
        async with line(target) as connection:
            await member(target, connection)
            stream = await connection.stream(target.protocol("blob"))
            await stream.write(frame(pack(BlobRequest(blob=blob)), max_bytes=512))
            while await connection.muxer.read_stream(stream.stream_id, 1):
                target.done["bytes"] += 1
                await trio.sleep(BYTE_SECONDS)

    return await crowd(target, seconds, hold, count)
