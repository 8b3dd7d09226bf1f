"""Rounds on conversations: answers are learnt, measured, trusted by and guarded; nothing is said of questions."""

import numpy as np
import pytest

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.data.tokens import TokenDocument
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate

QUESTION, ANSWER, VOCABULARY = 9, 14, 320
FRIEND = PeerId("friend")


def talks(seed: int, documents: int) -> TokenSplit:
    """Questions of random tokens, and answers in which every token has two successors."""
    successors = np.random.default_rng(0).integers(1, VOCABULARY, (VOCABULARY, 2))
    dice = np.random.default_rng(seed)
    found = []
    for _ in range(documents):
        said = dice.integers(1, VOCABULARY, QUESTION).tolist()
        while len(said) < QUESTION + ANSWER:
            said.append(int(successors[said[-1], dice.integers(2)]))
        counted = np.arange(len(said)) >= QUESTION
        found.append(TokenDocument(np.array(said, np.uint16), counted))
    return TokenSplit.of(found)


def corpus(seed: int) -> Corpus:
    splits = [talks(10 * seed + i, documents) for i, documents in enumerate((24, 8, 8, 8))]
    return Corpus(*splits, report=None, fingerprint=str(seed))  # type: ignore[arg-type]


@pytest.mark.parametrize("trust", ["prediction-similarity", "mixture"])
def test_a_round_is_about_answers_alone(tiny_base: Base, trust: str) -> None:
    options = LearnerOptions(
        spec=AdapterSpec(rank=4),
        training=TrainingOptions(batch_size=4, context=48, lr=1e-2),
        trust=trust,
        tolerance=0.5,
        max_share=1.0,
        twin=True,
    )
    teacher, learner = (Learner(tiny_base, corpus(seed), options, me=PeerId(f"{seed}"), group="") for seed in (1, 2))
    taught = teacher.train(16)
    learner.train(1)
    update = learner.admit(teacher.encode("fp32"), "fp32")
    assert isinstance(update, LoraUpdate)

    ended = learner.collaborate({FRIEND: update})

    assert taught.tokens == 16 * 4 * 2 * ANSWER  # two conversations of 23 tokens fill a block of 49
    found = learner.evaluate("test", "own")
    assert (found.tokens, found.documents) == (8 * ANSWER, 8)
    assert set(found.per_window_tokens.tolist()) == {ANSWER}
    assert ended.figures.on_trust.tokens == 8 * ANSWER
    assert ended.accepted
    assert ended.row.weights[FRIEND] > 0.3
    assert ended.figures.guard_personal < ended.figures.guard_own < learner.evaluate("guard", "base").loss
