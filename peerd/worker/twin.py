"""Whether a twin trains here: asks the clock and the checkpoint, where `p2pfinetune.round.twin_choice` wants to know.

Decided with each opening and kept by the checkpoint, as the precision is; see docs/adr/0024.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from p2pfinetune.round.twin_choice import Choice, TwinChoice, settled, worth_it
from peerd.config import Config

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import Corpus
    from p2pfinetune.model.base import Base
    from p2pfinetune.options import LearnerOptions


def twin(config: Config, checkpoint: str | None, base: Base, corpus: Corpus, options: LearnerOptions) -> TwinChoice:
    """Whether one trains, and why. OptionError if it is asked for too late."""
    from p2pfinetune.round.saved import begun_as
    from p2pfinetune.round.twin_times import twin_times

    begun = begun_as(Path(checkpoint)) if checkpoint is not None else None
    if (found := settled(msgspec.convert(config.twin, Choice), begun)) is not None:
        return found
    # of a CPU, the time of this process alone: the machine may be busy with other things
    clock = time.process_time if base.device.type == "cpu" else time.perf_counter
    return worth_it(twin_times(base, corpus, options, config.steps_per_round, clock))
