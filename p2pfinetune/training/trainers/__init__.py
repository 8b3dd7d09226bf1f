"""Kinds of trainers: one file each. What all of them owe is in `training.trainer`.

Which one trains is each peer's own affair (docs/adr/0027): peers share weights, and need not agree how these came
about.
"""

from p2pfinetune.options import LearnerOptions, TrainerOptions
from p2pfinetune.registry import Registry
from p2pfinetune.training.trainers._base import StepRule, TrainerKind

TRAINERS: Registry[TrainerKind] = Registry("p2pfinetune.training.trainers", TrainerKind, "trainer")  # type: ignore[type-abstract]


def chosen_kind(options: TrainerOptions | LearnerOptions) -> TrainerKind:
    """What trains, by these options. OptionError for a name or option that there is not."""
    return TRAINERS.make(options.trainer, options.trainer_options)


__all__ = ["TRAINERS", "StepRule", "TrainerKind", "chosen_kind"]
