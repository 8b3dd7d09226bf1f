"""Train several peers of one base in one pass: what `Trainer.run` does for each, within float tolerance.

Trainers whose kind is a rule from a gradient to a step say so (`Trainer.batched`), and go through `steps` together as
each does by itself, so that no kind is known here by name. Those that cannot go together run one by one; see
`groups_of` and `reason_against`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial

from p2pfinetune.batched.stack import AdapterStack, draws_noise, kind_of
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.steps import Steps
from p2pfinetune.training.trainer import StepReport, Trainer

OnStep = Callable[[int, StepReport], None]


def train_together(
    trainers: Sequence[Trainer], steps: int, on_step: OnStep | None = None, *, stack: AdapterStack | None = None
) -> list[list[StepReport]]:
    """What `[t.run(steps) for t in trainers]` does and returns; `on_step` gets the trainer's place and its report.

    A `stack` that is kept from call to call saves building one.
    """
    reports: list[list[StepReport]] = [[] for _ in trainers]

    def note(places: Sequence[int], i: int, report: StepReport) -> None:
        reports[places[i]].append(report)
        if on_step is not None:
            on_step(places[i], report)

    for places in groups_of(trainers):
        group = [trainers[place] for place in places]
        if reason_against(group):
            for place, trainer in zip(places, group, strict=True):
                trainer.run(steps, partial(note, [place], 0))
        else:
            fits = stack is not None and stack.kind == kind_of(group[0].adapted)
            batched = _batched(group)
            shared = stack if stack is not None and fits else batched[0].stack
            Steps(batched, shared).take(steps, partial(note, places))
    return reports


def groups_of(trainers: Sequence[Trainer]) -> list[list[int]]:
    """Places of trainers that can share a pass: base, kind of adapter, rule and shape of a batch are equal.

    One that does not say that it can be batched is a group of its own.
    """
    kinds = {id(trainer.adapted): trainer.adapted for trainer in trainers}
    known = {key: kind_of(adapted) for key, adapted in kinds.items()}
    groups: dict[Hashable, list[int]] = {}
    for place, trainer in enumerate(trainers):
        key: Hashable = place
        if (one := trainer.batched) is not None:
            options = one.options
            batch = options.batch_size, options.accumulation, options.router_balance
            key = known[id(one.adapted)], one.rule, one.context, tuple(one.trained), *batch
        groups.setdefault(key, []).append(place)
    return list(groups.values())


def reason_against(trainers: Sequence[Trainer]) -> str:
    """Why the trainers of one group run one by one all the same; empty if they go together."""
    if len(trainers) < 2:
        return "one trainer has no company"
    if len({id(trainer) for trainer in trainers}) < len(trainers):
        return "a trainer comes twice, and its second run follows from its first"
    if draws_noise(trainers[0].adapted.model):
        return "dropout draws its noise for one peer at a time"
    return ""


def _batched(trainers: Sequence[Trainer]) -> list[GradientTrainer]:
    return [one for trainer in trainers if (one := trainer.batched) is not None]
