"""How long a training step takes in fp32 and in bf16, on this text and model and by the clock that a caller brings.

The two take turns, so that whatever else the machine does meets both. Nothing that is learnt here is kept.

A measured step is small, a few hundred positions, on real blocks of the text: what is wanted is the ratio of two times,
for a choice that is made once and kept (`model.precision`). The first pair warms caches and kernels and counts only if
there is time for no other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base
from p2pfinetune.model.precision import PRECISIONS
from p2pfinetune.options import DEFAULT_TRAINER, AdapterSpec, TrainingOptions
from p2pfinetune.training.trainer import Trainer
from p2pfinetune.training.trainers import TRAINERS, TrainerKind

POSITIONS = 512  # of a measured step: enough to pay for casting the weights, little enough for large models
PAIRS = 5
BUDGET_SECONDS = 10.0  # by the clock that is given, after which no further pair is begun


def step_times(
    base: Base,
    split: TokenSplit,
    options: TrainingOptions,
    spec: AdapterSpec,
    clock: Callable[[], float],
    kind: TrainerKind | None = None,
) -> list[tuple[float, float]]:
    """Seconds of a step in fp32 and of one in bf16, by turns; of slow models the very first pair, of others not."""
    context = min(options.context, base.max_context or options.context, POSITIONS)
    rows = max(1, min(options.batch_size, POSITIONS // context))
    small = msgspec.structs.replace(options, context=context, batch_size=rows, accumulation=1)
    kind = kind or TRAINERS.make(DEFAULT_TRAINER)
    full, half = (
        kind.trainer(attach(replace(base, precision=precision), spec), split, small) for precision in PRECISIONS
    )

    def seconds(trainer: Trainer) -> float:
        start = clock()
        trainer.run(1)
        return clock() - start

    began = clock()
    warm = (seconds(full), seconds(half))
    pairs: list[tuple[float, float]] = []
    while len(pairs) < PAIRS and clock() - began < BUDGET_SECONDS:
        pairs.append((seconds(full), seconds(half)))
    return pairs or [warm]  # if a step takes this long, what is done once is a small part of it
