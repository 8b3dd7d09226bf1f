"""Keeping one of every group of nearly equal texts."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.data.near_duplicates import MOST_SHARED, representatives, sequences

VOCABULARY = [f"word{i}" for i in range(400)]


def text(seed, words=300):
    return " ".join(random.Random(seed).choices(VOCABULARY, k=words))


def test_different_texts_are_all_kept():
    assert representatives([text(i) for i in range(20)]) == list(range(20))


def test_of_equal_texts_the_first_is_kept():
    assert representatives([text(1), text(2), text(1)]) == [0, 1]


def test_case_punctuation_and_layout_make_no_other_text():
    assert representatives([text(1), text(1).upper().replace(" ", ",\n  ")]) == [0]


def test_a_few_edits_make_no_other_text():
    words = text(1).split()
    words[40], words[150], words[260] = "changed", "here", "there"

    assert representatives([text(1), " ".join(words)]) == [0]


def test_an_excerpt_goes_and_the_whole_stays():
    whole = text(1)

    assert representatives([whole[: len(whole) // 3], whole]) == [1]


def test_a_text_put_together_from_others_goes():
    pieces = [text(i) for i in range(4)]
    patchwork = " ".join(piece[:400] for piece in pieces)

    assert representatives([*pieces, patchwork]) == [0, 1, 2, 3]


def test_very_short_texts_are_compared_as_a_whole():
    assert representatives(["a b", "c d", "A, b!"]) == [0, 1]


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 5), max_size=8), cuts=st.lists(st.integers(1, 300), min_size=8, max_size=8))
def test_no_two_kept_texts_are_nearly_equal(seeds, cuts):
    texts = [" ".join(text(seed).split()[:cut]) for seed, cut in zip(seeds, cuts, strict=False)]
    kept = [set(sequences(texts[i]).tolist()) for i in representatives(texts)]

    for i, one in enumerate(kept):
        for other in kept[:i]:
            assert len(one & other) <= MOST_SHARED * min(len(one), len(other))


@settings(max_examples=30, deadline=None)
@given(seeds=st.lists(st.integers(0, 5), max_size=8))
def test_what_is_left_out_is_nearly_equal_to_something_kept(seeds):
    texts = [text(seed) for seed in seeds]
    kept = representatives(texts)

    assert {texts[i] for i in kept} == set(texts)
