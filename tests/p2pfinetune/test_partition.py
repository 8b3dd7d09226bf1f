"""Dealing documents to peers."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.data.documents import Document, read_documents
from p2pfinetune.data.near_duplicates import MOST_SHARED, sequences
from p2pfinetune.data.partition import deal, deal_with_test, hold_out, mix, write_folder
from p2pfinetune.errors import TextError


def documents(category, count, *, per_source=3, words=40):
    made = []
    for i in range(count):
        dice = random.Random(f"{category}{i}")
        text = " ".join(f"{category}{dice.randint(0, 10**6)}" for _ in range(words))
        made.append(Document.of(text, f"{category}-{i // per_source}"))
    return made


def size(held):
    return sum(len(document.text) for document in held)


@settings(max_examples=20, deadline=None)
@given(shares=st.integers(1, 5), seed=st.integers(0, 100))
def test_shares_are_disjoint_and_of_the_size_asked_for(shares, seed):
    dealt = deal(documents("a", 120), shares=shares, share_bytes=3000, seed=seed)
    ids = [document.id for share in dealt for document in share]

    assert len(ids) == len(set(ids))
    assert len(dealt) == shares
    assert all(3000 <= size(share) <= 3000 + 500 for share in dealt)


def test_text_to_measure_on_is_dealt_beside_the_shares_and_nobody_has_it():
    dealt = deal_with_test(documents("a", 300), shares=3, share_bytes=3000, test_bytes=6000, seed=1)
    ids = [document.id for held in dealt for part in (held.given, held.test) for document in part]

    assert len(ids) == len(set(ids))
    assert all(3000 <= size(held.given) <= 3500 and 6000 <= size(held.test) <= 6500 for held in dealt)


def test_where_text_is_scarce_all_are_measured_on_as_much_less_and_nobody_fails():
    dealt = deal_with_test(documents("a", 60), shares=2, share_bytes=5000, test_bytes=6000, seed=1)
    tests = [size(held.test) for held in dealt]

    assert all(size(held.given) >= 5000 for held in dealt)
    assert 1000 < min(tests) <= max(tests) < 6000
    assert max(tests) - min(tests) < 500
    with pytest.raises(TextError, match="too little text"):
        deal_with_test(documents("a", 10), shares=2, share_bytes=5000, test_bytes=6000, seed=1)


def test_of_a_folder_at_most_a_part_is_held_out():
    mine = documents("a", 100)

    few, many = hold_out(mine, test_bytes=2000, most=0.3, seed=2), hold_out(mine, test_bytes=10**6, most=0.3, seed=2)

    assert 1500 < size(few.test) <= 2000
    assert 0.28 * size(mine) < size(many.test) <= 0.3 * size(mine)
    assert {d.id for d in many.given} | {d.id for d in many.test} == {d.id for d in mine}
    assert not {d.id for d in many.given} & {d.id for d in many.test}


def test_a_source_goes_to_one_peer():
    dealt = deal(documents("a", 120), shares=4, share_bytes=3000, seed=1)
    sources = [{document.source for document in share} for share in dealt]

    assert sum(map(len, sources)) == len(set.union(*sources))


def test_documents_dealt_one_by_one_spread_a_source_over_peers_and_stay_disjoint():
    dealt = deal(documents("a", 120), shares=2, share_bytes=8000, seed=1, whole_sources=False)
    first, second = ({document.source for document in share} for share in dealt)
    ids = [document.id for share in dealt for document in share]

    assert first & second
    assert len(ids) == len(set(ids))


def test_no_near_duplicate_stands_in_two_shares():
    originals = documents("a", 40)
    copies = [Document.of(d.text.replace(" ", "  ") + " edited", d.source + " copy") for d in originals]
    dealt = deal([*originals, *copies], shares=3, share_bytes=3000, seed=0)
    held = [set(sequences(document.text).tolist()) for share in dealt for document in share]

    assert all(len(a & b) <= MOST_SHARED * min(len(a), len(b)) for i, a in enumerate(held) for b in held[:i])


def test_the_same_seed_deals_the_same_and_another_does_not():
    def ids(seed):
        return [[d.id for d in share] for share in deal(documents("a", 120), shares=3, share_bytes=3000, seed=seed)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)


@pytest.mark.parametrize("part", [1.0, 0.75, 0.5])
def test_mixtures_come_out_as_asked(part):
    categories = {name: documents(name, 200, per_source=1) for name in ("de", "fr")}
    mixtures = [{"de": part, "fr": 1 - part}, {"de": 1 - part, "fr": part}]
    for share, mixture in zip(mix(categories, mixtures, share_bytes=12_000, seed=0), mixtures, strict=True):
        assert share.proportions() == pytest.approx(mixture, abs=0.03)
        assert size(share.documents) == pytest.approx(12_000, rel=0.1)


def test_too_little_text_says_of_what_and_how_much():
    with pytest.raises(TextError, match="of fr to deal") as caught:
        mix({"fr": documents("fr", 4)}, [{"fr": 1.0}] * 3, share_bytes=3000, seed=0)
    assert "9,000" in str(caught.value)


def test_a_share_reads_back_as_the_same_documents(tmp_path):
    (share,) = deal(documents("a", 30), shares=1, share_bytes=3000, seed=0)
    write_folder(tmp_path / "peer", share)
    found, report = read_documents([tmp_path / "peer"])

    assert [d.id for d in found] == [d.id for d in share]
    assert (report.bad_rows, report.repeated) == (0, 0)
