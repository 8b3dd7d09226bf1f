"""Blocks of training text."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.errors import TooLittleText
from p2pfinetune.training.batches import Blocks, derived_seed


def split(*lengths: int) -> TokenSplit:
    """Every token is different, so that its place can be told."""
    first = np.cumsum([0, *lengths])
    return TokenSplit.of([np.arange(a, b, dtype=np.uint16) for a, b in pairwise(first)])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.integers(1, 12), st.integers(0, 9), st.integers(0, 3))
def test_an_epoch_is_the_shuffled_documents_cut_into_blocks(lengths, context, seed, epoch) -> None:
    text = split(*lengths)
    if sum(lengths) < 2:
        with pytest.raises(TooLittleText):
            Blocks(text, context, seed)
        return
    blocks = Blocks(text, context, seed)

    cut = [blocks.block(epoch * blocks.per_epoch + i)[0] for i in range(blocks.per_epoch)]

    order = np.random.default_rng(derived_seed("order", seed, epoch)).permutation(len(lengths))
    whole = np.concatenate([text.document(int(i)) for i in order])
    for i, block in enumerate(cut):
        assert block.tolist() == whole[i * blocks.context : (i + 1) * blocks.context + 1].tolist()
    assert blocks.per_epoch * blocks.context >= sum(lengths) - 1 - blocks.context


def test_blocks_do_not_depend_on_what_was_asked_before() -> None:
    text = split(40, 50, 60)
    forwards = Blocks(text, 16, 3)
    in_order = [forwards.block(i)[0].tolist() for i in range(30)]
    jumping = Blocks(text, 16, 3)

    assert [jumping.block(i)[0].tolist() for i in reversed(range(30))] == in_order[::-1]


def test_epochs_and_seeds_shuffle_differently() -> None:
    text = split(*[20] * 12)
    one, other = Blocks(text, 16, 0), Blocks(text, 16, 1)

    assert one.block(0)[0].tolist() != one.block(one.per_epoch)[0].tolist()
    assert one.block(0)[0].tolist() != other.block(0)[0].tolist()


def test_a_batch_is_blocks_one_after_another() -> None:
    blocks = Blocks(split(40, 50), 8, 0)

    batch = blocks.batch(9, 4)

    assert batch.inputs_bt.tolist() == [blocks.block(i)[0][:-1].tolist() for i in range(9, 13)]
    assert batch.targets_bt.tolist() == [blocks.block(i)[0][1:].tolist() for i in range(9, 13)]
    assert batch.tokens == 32


def test_a_text_shorter_than_the_context_makes_shorter_blocks() -> None:
    assert Blocks(split(10), 64, 0).batch(0, 2).inputs_bt.shape == (2, 9)


def test_derived_seeds_differ_with_every_part() -> None:
    seeds = {
        derived_seed("order", 0, 0),
        derived_seed("order", 0, 1),
        derived_seed("order", 1, 0),
        derived_seed("dropout", 0, 0),
    }

    assert len(seeds) == 4
    assert all(0 <= seed < 2**63 for seed in seeds)
