"""How fast a model trains on this machine: `python -m p2pfinetune.training.speed_here NAME`, a figure as JSON.

A few small steps on random tokens, in fp32, by the wall clock, since what else the machine does slows a daemon too. The
first step warms caches and is not counted.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
import numpy as np

from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.errors import ModelError
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import load_base
from p2pfinetune.options import DEFAULT_TRAINER, AdapterSpec, TrainingOptions
from p2pfinetune.training.trainers import TRAINERS

SECONDS = 8.0  # after which no further step is begun
MOST_STEPS = 30
SEQUENCES = 2  # of a step: a large model has to get through one in seconds


class SpeedHere(msgspec.Struct, frozen=True):
    """One line of standard output: the figure, or why there is none."""

    tokens_per_second: float = 0.0
    error: str = ""
    hint: str = ""


def tokens_per_second(name: str) -> float:
    """Of training with the usual options, but for SEQUENCES. ModelError if the model cannot be used."""
    base = load_base(name)
    usual = TrainingOptions()
    context = min(usual.context, base.max_context or usual.context)
    options = msgspec.structs.replace(usual, context=context, batch_size=SEQUENCES, accumulation=1)
    trainer = TRAINERS.make(DEFAULT_TRAINER).trainer(attach(base, AdapterSpec()), _split(base.model, context), options)
    trainer.run(1)
    began, steps = time.perf_counter(), 0
    while steps < MOST_STEPS and time.perf_counter() - began < SECONDS:
        trainer.run(1)
        steps += 1
    return steps * SEQUENCES * context / (time.perf_counter() - began)


def main(name: str) -> int:
    """Measure and say; the exit code."""
    try:
        said = SpeedHere(tokens_per_second(name))
    except ModelError as error:
        said = SpeedHere(error=str(error), hint=error.hint)
    sys.stdout.write(msgspec.json.encode(said).decode() + "\n")
    return 2 if said.error else 0


def _split(model: Any, context: int) -> TokenSplit:
    """Random tokens: what they are changes no time."""
    vocabulary = int(model.config.get_text_config().vocab_size)
    dice = np.random.default_rng(0)
    return TokenSplit.of([dice.integers(0, vocabulary, context + 1).astype(np.uint32) for _ in range(64)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
