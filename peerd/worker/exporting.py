"""One of the models written for other programs, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peerd.errors import UsageError
from peerd.worker.messages import Export, Exported

if TYPE_CHECKING:
    from p2pfinetune.export.writing import Progress
    from p2pfinetune.round.learner import Learner


def exported(job: Export, learner: Learner, tell: Progress) -> Exported:
    """`tell` gets what is done, and of how much. UsageError if the folder cannot be written."""
    folder = Path(job.folder)
    try:
        files = learner.export(folder, job.which, job.format, modelfile=job.modelfile, expert=job.expert, progress=tell)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror or error}", "choose another folder") from error
    which = learner.exported if job.which == "served" else job.which
    size = sum(file.stat().st_size for file in files)
    return Exported(id=job.id, files=[str(file) for file in files], which=which, bytes=size)
