"""The question about the middle of two updates, between peers of one network: its name, its bounds, what is in it.

asks:     MiddleRequest{mine, yours}: your gradient at the middle of these two blobs, on your own text?
answers:  MiddleReply{status, sketch}

Every peerd answers, be it that it has not chosen to (`not-chosen`): so that who asks can say so to a person. What a
sketch is, and what of it is believed, is `p2pfinetune.round.pairs`.
"""

from __future__ import annotations

from p2pfinetune.names import Digest, Refusal
from peerd.net.exchanges import Exchange
from peerd.wire.framing import pack, unpack
from peerd.wire.messages import MAX_SKETCH, MiddleReply, MiddleRequest

PATIENCE_SECONDS = 150.0  # the other side finishes a step of training first, and then runs its trust split
MAX_REQUEST = 256  # bytes: two digests and their names


def middle_exchange(network: Digest) -> Exchange:
    """Of neighbours alone: what is told is for those of my network that I am connected with."""
    return Exchange(
        protocol=f"/peerd/{network}/middle/1",
        max_request_bytes=MAX_REQUEST,
        max_answer_bytes=MAX_SKETCH + MAX_REQUEST,
        patience_seconds=PATIENCE_SECONDS,
        at_once=4,  # one is worked out at a time, and the others hear that it is busy
    )


def question(mine: Digest, yours: Digest) -> bytes:
    return pack(MiddleRequest(mine=mine, yours=yours))


def read_question(request: bytes | Refusal) -> MiddleRequest | Refusal:
    """Of a stranger's bytes."""
    return request if isinstance(request, Refusal) else unpack(request, MiddleRequest, max_bytes=MAX_REQUEST)


def reply(status: str, sketch: bytes = b"") -> bytes:
    return pack(MiddleReply(status=status, sketch=sketch))


def read_reply(answer: bytes) -> MiddleReply | Refusal:
    """Of a stranger's bytes."""
    return unpack(answer, MiddleReply, max_bytes=MAX_SKETCH + MAX_REQUEST)
