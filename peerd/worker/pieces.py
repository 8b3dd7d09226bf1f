"""A job that puts a first adapter together, and how any job that ends a round is answered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId, Refusal
from peerd.worker.messages import Merged

if TYPE_CHECKING:
    from p2pfinetune.round.learner import Learner
    from p2pfinetune.round.result import Collaboration
    from p2pfinetune.round.update import LoraUpdate


def assembled(learner: Learner, updates: Mapping[PeerId, LoraUpdate], gates: Mapping[PeerId, str]) -> Collaboration:
    """Of those whose gates, files of what each answered, pass every check; the others are told as refused."""
    said = {peer: learner.pieces.admit(Path(path).read_bytes()) for peer, path in gates.items()}
    done = learner.assemble(updates, {peer: one for peer, one in said.items() if not isinstance(one, Refusal)})
    refused = {peer: f"gates-{one.reason}" for peer, one in said.items() if isinstance(one, Refusal)}
    return replace(done, refused=refused)


def answer(job: int, done: Collaboration, checkpoint: Path, best: Path | None) -> Merged:
    """With the files in which it is."""
    return Merged(
        id=job,
        checkpoint=str(checkpoint),
        best=str(best) if best is not None else None,
        best_guard=done.best_guard,
        row=dict(done.row.weights),
        accepted=done.accepted,
        reason=done.reason,
        figures=done.figures,
        served=done.served,
        refused=dict(done.refused),
        copies=list(done.copies),
    )
