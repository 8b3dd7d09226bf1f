"""The rendezvous protocol over libp2p: its name, its limits, and the asking side.

asks:     length, Register{network, addresses, want, why}
answers:  length, Sample{status, peers, expires_seconds, others}
"""

from __future__ import annotations

from typing import Any

import trio
from libp2p.host.exceptions import StreamFailure

from p2pfinetune.names import Refusal
from peerd.net import limits
from peerd.net.libp2p.dialling import dial, says_no
from peerd.net.libp2p.frames import opened, read_message, write_message
from peerd.net.libp2p.guard import NETWORK_ERRORS
from peerd.net.transport import Failed
from peerd.wire.addresses import Address
from peerd.wire.messages import Register, Sample

PROTOCOL = "/peerd/rendezvous/2"  # 2: others of other networks
MAX_REQUEST_BYTES = 4096
MAX_SAMPLE_BYTES = 192 * 1024  # 64 records of 8 addresses of 256 bytes and a little


async def ask(host: Any, node: Address, message: Register) -> Sample | Failed:
    """Register with a node and hear of others. The connection is left to the caller to close."""
    if node.peer is None:
        return Failed("refused", "the address does not say /p2p/ and the node's id")
    try:
        with trio.fail_after(limits.CONNECT_SECONDS):
            outcome = await dial(host, node.peer, [node], asked=[node])
            if isinstance(outcome, Failed):
                return outcome
            async with opened(host, node.peer, PROTOCOL) as stream:
                await write_message(stream, message, max_bytes=MAX_REQUEST_BYTES)
                answer = await read_message(stream, Sample, max_bytes=MAX_SAMPLE_BYTES)
    except StreamFailure as error:
        if says_no(error):
            return Failed("refused", "is no bootstrap node, or one of another version of peerd", address=str(node))
        return Failed("unreachable", "connects, and breaks off when it is asked", address=str(node))
    except trio.TooSlowError:
        return Failed("timeout", f"does not answer within {limits.CONNECT_SECONDS:g} s", address=str(node))
    except NETWORK_ERRORS as error:
        return Failed("unreachable", f"breaks off ({type(error).__name__})", address=str(node))
    return Failed("refused", f"answers nonsense: {answer.reason}") if isinstance(answer, Refusal) else answer
