"""Cutting long texts at places that the text itself chooses."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.data.blocks import HORIZON, LONG, LONGEST, cut

WORDS = ["alpha", "beta", "gamma", "delta", "of", "the", "a", "running", "trust", "peer", "model", "text", "between"]


def prose(seed: int, paragraphs: int) -> str:
    dice = random.Random(seed)

    def sentence() -> str:
        return " ".join(dice.choices(WORDS, k=dice.randint(4, 14))).capitalize() + f" {dice.randint(0, 10**6)}."

    return "\n\n".join(" ".join(sentence() for _ in range(dice.randint(1, 6))) for _ in range(paragraphs))


def squeezed(text: str) -> str:
    return "".join(text.split())


def test_a_short_text_stays_whole():
    assert cut("x" * LONG) == ["x" * LONG]
    assert cut("\n \n") == []


@pytest.mark.parametrize("seed", range(5))
def test_blocks_hold_everything_in_order(seed):
    text = prose(seed, 120)

    assert squeezed("".join(cut(text))) == squeezed(text)


@pytest.mark.parametrize("seed", range(5))
def test_blocks_are_a_few_kilobytes_long(seed):
    blocks = cut(prose(seed, 400))

    assert all(HORIZON - 10 <= len(block) <= LONGEST for block in blocks)
    assert 1500 < sum(map(len, blocks)) / len(blocks) < 3500


def test_borders_are_ends_of_paragraphs_where_there_are_any():
    text = prose(1, 300)
    whole = set(text.split("\n\n"))

    assert all(block.split("\n\n")[0] in whole and block.split("\n\n")[-1] in whole for block in cut(text))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), place=st.floats(0, 1), insert=st.integers(0, 40))
def test_an_edit_leaves_all_but_the_neighbouring_blocks_alone(seed, place, insert):
    text = prose(seed, 80)
    at = int(place * len(text))
    edited = text[:at] + "new words " * insert + text[at + 3 :]
    before, after = set(cut(text)), set(cut(edited))

    assert len(before - after) <= 3


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), added=st.integers(0, 30))
def test_adding_at_the_end_changes_only_the_last_blocks(seed, added):
    text = prose(seed, 80)
    longer = text + "\n\n" + prose(seed + 1, added)
    before = cut(text)

    assert cut(longer)[: len(before) - 2] == before[:-2]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000))
def test_a_block_is_not_cut_again(seed):
    for block in cut(prose(seed, 100)):
        assert cut(block) == [block]


def test_code_keeps_its_indentation():
    code = "\n".join(f"def f{i}():\n    x = {i * 7919}\n    return x + {i}\n" for i in range(400))
    lines = set(code.split("\n"))

    assert len(cut(code)) > 3
    assert all(line in lines for block in cut(code) for line in block.split("\n"))


@pytest.mark.parametrize(
    "text", ["word " * 20_000, "x" * 100_000, "same line\n" * 9_000, "。".join("汉字" * 9 for _ in range(3000))]
)
def test_text_without_good_borders_is_cut_all_the_same(text):
    blocks = cut(text)

    assert squeezed("".join(blocks)) == squeezed(text)
    assert max(map(len, blocks)) <= LONGEST
