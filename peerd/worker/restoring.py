"""A learner goes on from its checkpoint, or a person is told why it cannot and what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.errors import CheckpointError
from peerd.worker.messages import Open

if TYPE_CHECKING:
    from p2pfinetune.round.learner import Learner


def restore(learner: Learner, job: Open) -> bool:
    """Go on from the checkpoint. Raises CheckpointError with the way out; the files stay where they are."""
    if job.checkpoint is None:
        return False
    try:
        learner.restore(Path(job.checkpoint))
        if job.best is not None and job.best_guard is not None:
            learner.restore_best(Path(job.best), job.best_guard)
    except CheckpointError as error:
        raise CheckpointError(
            f"the saved training state does not fit: {error}",
            "give the --model, --group, --rank, --own-rank, --alpha, --sharing, --specialists, --targets and --trainer "
            "it was made with, or begin anew in a new --home",
        ) from error
    if learner.forgotten:
        print(learner.forgotten, file=sys.stderr)  # noqa: T201  # the worker's log
    return True
