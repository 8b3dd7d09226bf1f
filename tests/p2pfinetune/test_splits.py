"""Where documents go."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfinetune.data.splits import NOTHING, SHARES, SPLITS, deal, split_of, tokens_by_split
from p2pfinetune.names import Digest

MINIMUM = {"train": 800, "trust": 200, "guard": 200, "test": 200}


def digests(count, start=0):
    return [Digest(hashlib.sha256(str(i).encode()).hexdigest()) for i in range(start, start + count)]


def moved(sizes, salt):
    """Documents that are not where their hash says."""
    return [document for document, split in deal(sizes, salt, MINIMUM).items() if split != split_of(document, salt)]


def test_the_shares_sum_to_one():
    assert sum(SHARES.values()) == pytest.approx(1)


def test_each_split_gets_its_share():
    found = [split_of(document, "salt") for document in digests(5000)]

    for split in SPLITS:
        assert found.count(split) / 5000 == pytest.approx(SHARES[split], abs=0.02)


def test_another_salt_deals_anew():
    documents = digests(200)

    assert [split_of(d, "a") for d in documents] != [split_of(d, "b") for d in documents]


@given(removed=st.sets(st.integers(0, 19)), added=st.integers(0, 10), salt=st.text(max_size=8))
def test_adding_and_removing_documents_never_moves_another(removed, added, salt):
    before = dict.fromkeys(digests(20), 10)
    kept = [document for i, document in enumerate(before) if i not in removed]
    after = dict.fromkeys([*kept, *digests(added, start=1000)], 10)
    first, second = deal(before, salt, NOTHING), deal(after, salt, NOTHING)

    assert all(first[document] == second[document] for document in kept)


@given(count=st.integers(12, 60), salt=st.text(max_size=8))
def test_a_small_collection_still_fills_every_split(count, salt):
    sizes = {document: 200 + 5 * i for i, document in enumerate(digests(count))}

    tokens = tokens_by_split(sizes, deal(sizes, salt, MINIMUM))

    assert all(tokens[split] >= MINIMUM[split] for split in SPLITS)


@given(count=st.integers(12, 40), added=st.integers(1, 40), salt=st.text(max_size=8))
def test_what_is_there_counts_and_stays(count, added, salt):
    first = dict.fromkeys(digests(count), 200)
    there = tokens_by_split(first, deal(first, salt, MINIMUM))
    more = dict.fromkeys(digests(added, start=1000), 200)

    assert deal(more, salt, MINIMUM, there) == {document: split_of(document, salt) for document in more}


@given(count=st.integers(20, 40), salt=st.text(max_size=8))
def test_who_is_bound_to_train_is_never_held_out_and_who_rather_goes_there_is_held_out_last(count, salt):
    sizes = dict.fromkeys(digests(count), 200)
    bound, rather = set(digests(4)), set(digests(12, start=4))
    placed = deal(sizes, salt, MINIMUM, to_train=bound, rather_train=rather)

    assert {placed[document] for document in bound} == {"train"}
    assert all(tokens >= 200 for tokens in tokens_by_split(sizes, placed).values())
    held_out = {document for document, split in placed.items() if split != "train"}
    assert not held_out & rather or held_out >= set(sizes) - bound - rather


def test_only_as_many_documents_move_as_must():
    sizes = dict.fromkeys(digests(12), 200)
    by_hash = tokens_by_split(sizes, deal(sizes, "x", NOTHING))
    lacking = sum(max(0, MINIMUM[split] - by_hash[split]) for split in SPLITS if split != "train")

    assert len(moved(sizes, "x")) == -(-lacking // 200)


@given(count=st.integers(1, 30), salt=st.text(max_size=8))
def test_a_split_is_never_starved_to_feed_another(count, salt):
    sizes = dict.fromkeys(digests(count), 200)
    before = tokens_by_split(sizes, deal(sizes, salt, NOTHING))
    after = tokens_by_split(sizes, deal(sizes, salt, MINIMUM))

    assert all(after[split] >= min(before[split], MINIMUM[split]) for split in SPLITS)
    assert sum(after.values()) == 200 * count


@given(count=st.integers(30, 60), salt=st.text(max_size=8))
def test_where_train_has_enough_everything_that_moves_comes_from_it(count, salt):
    sizes = dict.fromkeys(digests(count), 200)

    assert all(split_of(document, salt) == "train" for document in moved(sizes, salt))
