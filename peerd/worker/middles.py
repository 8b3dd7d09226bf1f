"""Gradients at the middle of two updates, in the worker: mine for another peer, and another's weighed against mine.

Nothing here trusts an answer: it is bytes until it has the right length and every number in it is finite, which is
seen before my own gradient is worked out for it.
"""

from __future__ import annotations

import math

import numpy as np

from p2pfinetune.names import Refusal
from p2pfinetune.round.pairs import SKETCH, Middle, Numbers, draw_of, sketch
from p2pfinetune.round.update import LoraUpdate
from peerd.errors import UsageError
from peerd.worker.messages import CompareMiddle, MiddleRefused, MiddleWeighed, Sketched, SketchMiddle

WIRE = np.dtype("<f4")


def performed(
    job: SketchMiddle | CompareMiddle, middle: Middle, mine: LoraUpdate | Refusal, theirs: LoraUpdate | Refusal
) -> Sketched | MiddleWeighed | MiddleRefused:
    """Either job. UsageError if my trust scheme is none that compares gradients: nothing is told then."""
    if middle.pairing is None:
        raise UsageError("this trust scheme compares no gradients", "start with --trust cobo")
    theirs_m = read(job.answer) if isinstance(job, CompareMiddle) else None
    if isinstance(theirs_m, Refusal):
        return MiddleRefused(id=job.id, reason=theirs_m.reason)
    if isinstance(mine, Refusal) or isinstance(theirs, Refusal):
        return MiddleRefused(id=job.id, reason="worker")  # ours: both were inspected before
    (slope,) = middle.slopes([(mine, theirs)])
    found = sketch(slope, draw_of(*job.middle))
    if theirs_m is None:
        return Sketched(id=job.id, sketch=found.astype(WIRE).tobytes())
    product = middle.agreement(found, theirs_m)
    if not math.isfinite(product):
        return MiddleRefused(id=job.id, reason="worker")  # my own slope: theirs are finite, and so is what they give
    return MiddleWeighed(id=job.id, product=product)


def read(answer: bytes) -> Numbers | Refusal:
    """(m,) numbers of another's sketch, before a step is made for it: `malformed`, `not-finite`."""
    if len(answer) != SKETCH * WIRE.itemsize:
        return Refusal("malformed", f"{len(answer)} bytes")
    theirs_m = np.frombuffer(answer, WIRE).astype(np.float32)
    return theirs_m if bool(np.isfinite(theirs_m).all()) else Refusal("not-finite")
