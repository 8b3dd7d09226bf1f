"""Asking a rendezvous node over libp2p: dialled for one question (`peerd.net.rendezvous`) and left again."""

from __future__ import annotations

from typing import Any

import trio

from peerd.net import limits
from peerd.net.libp2p import asking
from peerd.net.libp2p.dialling import dial
from peerd.net.rendezvous import NO_ID, RENDEZVOUS, answer, question
from peerd.net.transport import Failed
from peerd.wire.addresses import Address
from peerd.wire.messages import Register, Sample


async def ask(host: Any, node: Address, message: Register) -> Sample | Failed:
    """Register with a node and hear of others. The connection is left to the caller to close."""
    if node.peer is None:
        return NO_ID
    try:
        with trio.fail_after(limits.CONNECT_SECONDS):
            outcome = await dial(host, node.peer, [node], asked=[node])
            if isinstance(outcome, Failed):
                return outcome
            return answer(await asking.ask(host, node.peer, RENDEZVOUS, question(message)), node)
    except trio.TooSlowError:
        return Failed("timeout", f"does not answer within {limits.CONNECT_SECONDS:g} s", address=str(node))
