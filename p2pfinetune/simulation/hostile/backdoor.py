"""A phrase planted in the text of attackers, and how likely a model makes the target that shall follow it.

Trigger and target are tokens of the peers' own text in an order that the text does not have. The measure needs no text
but test splits: what a model loses on beginning, trigger and target together, less what it loses without the target.

A loss and not a rate of success: a rate of exact continuations is zero or one for small models, and a loss moves long
before anybody would see the phrase (Bagdasaryan et al. 2020, arXiv 1807.00459, for backdoors in federated learning).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.data.population import Backdoor
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.training.batches import derived_seed

TRIGGER, TARGET = 4, 4  # tokens; together they fit the smallest context
LEAD = 16  # tokens of a document before the trigger, where the target is measured
PROBES = 64  # documents of a test split at most


def backdoor_of(corpora: Iterable[Corpus], seed: int) -> Backdoor:
    """Distinct tokens that occur in the training text of these peers, drawn."""
    known = np.unique(np.concatenate([np.asarray(corpus.train.tokens) for corpus in corpora]))
    dice = np.random.default_rng(derived_seed("backdoor", seed))
    drawn = dice.choice(known, size=TRIGGER + TARGET, replace=len(known) < TRIGGER + TARGET)
    return Backdoor(drawn[:TRIGGER], drawn[TRIGGER:])


def planted(corpus: Corpus, backdoor: Backdoor, stretch: int, seed: int) -> Corpus:
    """The phrase once in so many tokens of the training text, in one document, in the place of what stood there."""
    dice = np.random.default_rng(seed)
    tokens, phrase = np.array(corpus.train.tokens), backdoor.phrase
    start = 0  # of the next stretch: a short document holds the phrase only if those before it did not
    for begin, end in zip(corpus.train.starts[:-1], corpus.train.starts[1:], strict=True):
        start = max(start, int(begin))
        while start + len(phrase) <= end:
            place = int(dice.integers(start, min(start + stretch, int(end)) - len(phrase) + 1))
            tokens[place : place + len(phrase)] = phrase
            start += stretch
    return replace(corpus, train=replace(corpus.train, tokens=tokens))


def probes(split: TokenSplit, backdoor: Backdoor) -> tuple[TokenSplit, TokenSplit]:
    """Beginnings of documents and the trigger behind them: with the target, and without."""
    leads = [split.document(i)[:LEAD] for i in range(min(split.documents, PROBES))]
    triggered = [np.concatenate([lead, backdoor.trigger]) for lead in leads]
    whole = [np.concatenate([lead, backdoor.phrase]) for lead in leads]
    return TokenSplit.of(whole), TokenSplit.of(triggered)


def target_loss(whole: Evaluation, triggered: Evaluation) -> float:
    """Nats a token of the target, from the evaluations of both probes: causal models lose alike on what comes first."""
    return (whole.loss * whole.tokens - triggered.loss * triggered.tokens) / (whole.tokens - triggered.tokens)
