"""In which numbers the worker trains: asks machine and clock when `p2pfinetune.model.precision` wants to know.

Decided with each opening. What a checkpoint was trained in outlives the process that chose it, so that going on after
a crash, of the worker or of the daemon, gives the bits of a run without one; see docs/adr/0015.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from p2pfinetune.model.memory import MILDEST
from p2pfinetune.model.precision import Choice, PrecisionChoice, quicker, settled
from peerd.worker import ram_limit
from peerd.worker.fits import planned
from peerd.worker.messages import Open
from peerd.worker.planned import Planned

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import Corpus
    from p2pfinetune.model.base import Base
    from p2pfinetune.options import LearnerOptions


def loaded(job: Open, tell: Callable[[Planned], None]) -> tuple[Base, PrecisionChoice | None]:
    """The base, and how it is to be run; None: `measured` finds out, once there is text to train on.

    What is done so that it fits is told before anything is loaded. ModelError if it does not.
    """
    from p2pfinetune.model.base import choose_device, folder_of, load_base
    from p2pfinetune.model.fingerprints import weight_files
    from p2pfinetune.model.processor import missing
    from p2pfinetune.round.saved import precision_of

    config = job.config
    place, asked = choose_device(config.device), msgspec.convert(config.precision, Choice)
    before = precision_of(Path(job.checkpoint)) if job.checkpoint is not None else None
    chosen = settled(asked, place.type, missing(place), before)
    precision = chosen.precision if chosen is not None else "fp32"
    folder = folder_of(config.model)
    found = planned(job, place, precision, folder)
    tell(found)
    plan, cache = found.plan, Path(job.cache)
    if plan != MILDEST:
        ram_limit.map_large_blocks()
    with ram_limit.lifted(sum(file.stat().st_size for file in weight_files(folder)) if plan.quantize != "none" else 0):
        base = load_base(config.model, device=str(place), precision=precision, cache=cache, quantize=plan.quantize)
    return replace(base, checkpointing=plan.checkpointing, positions=plan.positions), chosen


def measured(base: Base, corpus: Corpus, options: LearnerOptions) -> tuple[Base, PrecisionChoice]:
    """The base in what is quicker here; on a CPU, if its weights are the same in both."""
    from p2pfinetune.training.step_times import step_times
    from p2pfinetune.training.trainers import chosen_kind

    # time of this process alone: the machine may be busy with other things, and the worker is nice to them
    clock, kind = time.process_time, chosen_kind(options)
    chosen = quicker(step_times(base, corpus.train, options.training, options.spec, clock, kind))
    return replace(base, precision=chosen.precision), chosen
