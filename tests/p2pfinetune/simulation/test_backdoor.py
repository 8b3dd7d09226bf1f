"""A phrase in attackers' text, and the probe for it."""

import numpy as np
import pytest

from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.data.report import ReadReport
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.simulation.hostile.backdoor import LEAD, TARGET, TRIGGER, backdoor_of, planted, probes, target_loss


def split(*lengths: int) -> TokenSplit:
    return TokenSplit.of([np.arange(100, 100 + length, dtype=np.uint16) for length in lengths])


CORPUS = Corpus(split(100, 5, 40), split(9), split(9), split(30, 4), ReadReport(()), "")


def test_the_phrase_stands_once_in_each_stretch_and_documents_keep_their_length() -> None:
    backdoor = backdoor_of([CORPUS], seed=0)

    found = planted(CORPUS, backdoor, 32, seed=1).train

    assert found.starts.tolist() == CORPUS.train.starts.tolist()
    assert found.document(1).tolist() == CORPUS.train.document(1).tolist()  # too short to hold it
    text, phrase = found.tokens.tolist(), backdoor.phrase.tolist()
    places = [i for i in range(len(text)) if text[i : i + len(phrase)] == phrase]
    assert [place // 32 for place in places[:3]] == [0, 1, 2]
    assert CORPUS.train.tokens.tolist() != text


def test_the_same_seed_gives_the_same_phrase_of_distinct_known_tokens() -> None:
    one, other = backdoor_of([CORPUS], seed=0), backdoor_of([CORPUS], seed=0)

    assert one.phrase.tolist() == other.phrase.tolist()
    assert len(set(one.phrase.tolist())) == TRIGGER + TARGET
    assert set(one.phrase.tolist()) <= set(CORPUS.train.tokens.tolist())


def test_probes_begin_like_test_documents_and_differ_in_the_target() -> None:
    backdoor = backdoor_of([CORPUS], seed=0)

    whole, triggered = probes(CORPUS.test, backdoor)

    assert whole.document(0).tolist() == [*range(100, 100 + LEAD), *backdoor.phrase.tolist()]
    assert triggered.document(1).tolist() == [100, 101, 102, 103, *backdoor.trigger.tolist()]


def test_the_loss_of_the_target_is_what_the_longer_probe_adds() -> None:
    whole = Evaluation(2.5, 20, np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))
    triggered = Evaluation(3.0, 16, np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))

    assert target_loss(whole, triggered) == pytest.approx((50.0 - 48.0) / 4)
