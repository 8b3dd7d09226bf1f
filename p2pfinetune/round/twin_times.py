"""How much longer a round takes with a twin, on this text and model and by the clock that a caller brings.

A round here is its training steps and what is measured of one neighbour: on the trust split the two, half of each, and
what the round ends with; on the guard split the own adapter and the merge, and with a twin that one too. Every further
neighbour makes the part of the twin smaller. Nothing that is learnt here is kept.

Steps and tokens are measured in small and multiplied up, with the counts of a real round: on a slow machine a whole
round would take minutes, for a question that is asked once, at the first start.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import torch

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base
from p2pfinetune.options import LearnerOptions
from p2pfinetune.scoring.evaluate import glance, measure_of
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers import chosen_kind

POSITIONS = {"cpu": 256}  # of a measured step: there, time goes with positions; elsewhere a step is taken as it is
PAIRS = 3
BUDGET_SECONDS = 5.0  # by the clock that is given, after which no further pair is begun
GUARDED, TRUSTED = 2, 4  # adapters that are measured on the two splits in a round with one neighbour


def twin_times(
    base: Base, corpus: Corpus, options: LearnerOptions, steps: int, clock: Callable[[], float]
) -> list[tuple[float, float]]:
    """Seconds of a round of so many steps without a twin and with one; nothing if both do not fit into memory.

    Pairs, since what else the machine does meets both of a pair; `twin_choice` looks at the ratio. `clock` gives
    seconds.
    """
    try:
        return _times(base, corpus, options, steps, clock)
    except torch.OutOfMemoryError:
        return []


def _times(
    base: Base, corpus: Corpus, options: LearnerOptions, steps: int, clock: Callable[[], float]
) -> list[tuple[float, float]]:
    training = options.training
    context = min(training.context, base.max_context or training.context)
    most = POSITIONS.get(base.device.type, training.batch_size * context)
    small = msgspec.structs.replace(
        training,
        context=min(context, most),
        batch_size=max(1, min(training.batch_size, most // context)),
        accumulation=1,
    )
    part = training.batch_size * training.accumulation * context / (small.batch_size * small.context)
    adapted = attach(base, options.spec)
    stack = AdapterStack(adapted)
    kind = chosen_kind(options)
    alone, *both = (kind.trainer(adapted, corpus.train, small) for _ in range(3))
    alone.share(stack)

    def seconds(act: Callable[[], object]) -> float:
        start = clock()
        act()
        return clock() - start

    def tokens(split: TokenSplit, limit: int) -> int:
        return min(limit or split.counted_tokens, split.counted_tokens)

    def seconds_a_token() -> float:
        vocabulary = int(adapted.model.config.get_text_config().vocab_size)
        few = measure_of(corpus.guard, context=context, vocabulary=vocabulary, max_tokens=most)
        took = seconds(lambda: evaluate_together(adapted, [adapted.initial], few, base.device, stack=stack))
        return took / few.tokens

    def pair() -> tuple[float, float]:
        one, two = seconds(lambda: alone.run(1)), seconds(lambda: train_together(both, 1, stack=stack))
        measured = GUARDED * guard + TRUSTED * trust
        return steps * part * one + measured, steps * part * two + measured + guard

    began = clock()
    each = seconds_a_token()
    guard = each * tokens(corpus.guard, options.guard_tokens)
    trust = each * glance(tokens(corpus.trust, options.trust_tokens))
    warm = pair()
    pairs: list[tuple[float, float]] = []
    while len(pairs) < PAIRS and clock() - began < BUDGET_SECONDS:
        pairs.append(pair())
    return pairs or [warm]  # if a step takes this long, what is done once is a small part of it
