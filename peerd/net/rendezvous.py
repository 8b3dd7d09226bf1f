"""The question that a rendezvous node answers, whatever back end carries it: its name, its bounds, and what is in it.

asks:     Register{network, addresses, want, why}: remember me there, and whom else do you know?
answers:  Sample{status, peers, expires_seconds, others}

One question does both, so that nobody looks others up without being found. Who asks is no neighbour of the node.
"""

from __future__ import annotations

import msgspec

from p2pfinetune.names import Refusal
from peerd.net import limits
from peerd.net.exchanges import Exchange
from peerd.net.transport import Failed
from peerd.wire.addresses import Address
from peerd.wire.framing import pack, unpack
from peerd.wire.messages import Register, Sample

RENDEZVOUS = Exchange(
    protocol="/peerd/rendezvous/2",  # 2: others of other networks
    max_request_bytes=4096,
    max_answer_bytes=192 * 1024,  # 64 records of 8 addresses of 256 bytes and a little
    patience_seconds=limits.CONNECT_SECONDS,
    at_once=256,  # as many as a node has connections: a peer waits for its own questions alone
    for_anybody=True,
)
NO_ID = Failed("refused", "the address does not say /p2p/ and the node's id")


def question(message: Register) -> bytes:
    return pack(message)


def answer(outcome: bytes | Failed, node: Address) -> Sample | Failed:
    """What came of asking, in words about a rendezvous node."""
    if isinstance(outcome, bytes):
        found = unpack(outcome, Sample, max_bytes=RENDEZVOUS.max_answer_bytes)
        return Failed("refused", f"answers nonsense: {found.reason}") if isinstance(found, Refusal) else found
    match outcome.reason:
        case "refused":
            told = Failed("refused", "is no bootstrap node, or one of another version of peerd")
        case "oversize":
            return Failed("refused", "answers nonsense: oversize")
        case "timeout":
            told = outcome
        case _:
            told = Failed("unreachable", outcome.detail)
    return msgspec.structs.replace(told, address=str(node))
