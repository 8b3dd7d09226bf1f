"""Gradients at the middle of two updates, in the worker: mine for another peer, and another's weighed against mine.

Nothing here trusts an answer: it is bytes until it has the right length and every number in it is finite.
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
    if isinstance(job, CompareMiddle) and len(job.answer) != SKETCH * WIRE.itemsize:
        return MiddleRefused(id=job.id, reason="malformed")
    if isinstance(mine, Refusal) or isinstance(theirs, Refusal):
        return MiddleRefused(id=job.id, reason="worker")  # ours: both were inspected before
    (slope,) = middle.slopes([(mine, theirs)])
    found = sketch(slope, draw_of(*job.middle))
    if isinstance(job, SketchMiddle):
        return Sketched(id=job.id, sketch=found.astype(WIRE).tobytes())
    product = _agreement(middle, found, np.frombuffer(job.answer, WIRE).astype(np.float32))
    if not math.isfinite(product):
        return MiddleRefused(id=job.id, reason="not-finite")
    return MiddleWeighed(id=job.id, product=product)


def _agreement(middle: Middle, mine: Numbers, theirs: Numbers) -> float:
    return middle.agreement(mine, theirs) if bool(np.isfinite(theirs).all()) else math.nan
