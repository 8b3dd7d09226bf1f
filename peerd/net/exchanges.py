"""One bounded question and one bounded answer between two peers: what `Transport.ask` carries, whatever the back end.

A kind of question is an `Exchange`: the name of its protocol and the bounds that both sides keep. Everything that a
stranger decides is bounded before it costs anything. A length is judged before a byte behind it is read or room for it
made; each side gives up after the exchange's patience; of the answering side so many questions are answered at one
time, half of them at most for one place and one for each peer, since peer ids cost nothing.

What goes wrong is a value for who asks (`Failed`) and a count for who answers (the words below); neither side raises.
An answerer that has no turn or no answer ends the stream without a byte, which the other side reads as `busy`: so
nothing is written to somebody who may not read it, and protocols that began before this file keep their bytes.

On the wire, as in every protocol of peerd:

    asks:     length (4 bytes, big-endian), so many bytes
    answers:  length, so many bytes; or nothing

The bytes of both are for the two sides of the exchange to read and are of a stranger until they have.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from p2pfinetune.names import PeerId, Refusal

EARLY_BYTES = 16 * 1024
"""Questions up to so much are read before their turn comes, so that who speaks slowly holds none; larger ones after,
so that a crowd cannot have them all kept in memory."""

OVERSIZE = "questions-oversize"  # a length over the bound; nothing behind it was read
BROKEN = "questions-broken"  # the stream broke, ended or stood still inside the question or the answer
UNSERVED = "questions-unserved"  # no turn came: too many asked
OF_STRANGERS = "questions-of-strangers"  # of somebody who is no neighbour, where those alone are answered
FAILED = "answers-failed"  # the answerer raised, took too long, or said more than it may: a mistake of ours


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of question. Peers of one network agree on all of it, or one of the two gives up first."""

    protocol: str
    """Its id, a version at the end. One that only peers of a network can answer has the network's digest in it."""
    max_request_bytes: int
    max_answer_bytes: int
    patience_seconds: float
    """For who asks: until the whole answer is there. For who answers: for the question, for thinking and for saying
    it, each."""
    at_once: int = 8
    """Questions that are answered at one time, half of them for one place."""
    for_anybody: bool = False
    """Whether somebody who is no neighbour is answered, too."""


class Asked(msgspec.Struct, frozen=True):
    """A question, and who asks."""

    peer: PeerId
    place: str
    """Where it comes from, as connections are counted; see `peerd.wire.places`."""
    request: bytes | Refusal
    """Not looked at yet; the refusal `oversize` stands for one that was too long to be read."""


Answerer = Callable[[Asked], Coroutine[Any, Any, bytes | None]]
"""The answer, no longer than the exchange's bound; None for none. It must bear whatever bytes it is asked."""
