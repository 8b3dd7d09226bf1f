"""Kinds of trainers: one file each. What all of them owe is in `training.trainer`.

Which one trains is each peer's own affair (docs/adr/0027): peers share weights, and need not agree how these came
about.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from p2pfinetune.errors import OptionError
from p2pfinetune.options import AdapterSpec
from p2pfinetune.registry import Registry
from p2pfinetune.training.trainers._base import StepRule, TrainerKind

TRAINERS: Registry[TrainerKind] = Registry("p2pfinetune.training.trainers", TrainerKind, "trainer")  # type: ignore[type-abstract]


class ChoosesTrainer(Protocol):
    """Options with the two that say what trains."""

    @property
    def trainer(self) -> str: ...
    @property
    def trainer_options(self) -> Mapping[str, Any]: ...


def chosen_kind(options: ChoosesTrainer) -> TrainerKind:
    """What trains, by these options. OptionError for a name or option that there is not."""
    return TRAINERS.make(options.trainer, options.trainer_options)


def must_train_levels(kind: TrainerKind, spec: AdapterSpec) -> None:
    """OptionError if two parts of such an adapter are trained in turn, and this kind makes no gradients."""
    if spec.has_levels and not isinstance(kind, StepRule):
        raise OptionError(
            f"with sharing {spec.sharing} two parts of the adapter are trained in turn, by gradients",
            "choose --trainer adamw or sgd, or another --sharing",
        )


__all__ = ["TRAINERS", "StepRule", "TrainerKind", "chosen_kind", "must_train_levels"]
