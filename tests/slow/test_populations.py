"""The settings on the real files: sizes, shares, and what the texts look like."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest

from p2pfinetune.data.near_duplicates import sequences
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.paper.settings import Mix, Setting

pytestmark = pytest.mark.slow

SCALE = 1 / 70
CASES = list(itertools.product(get_args(Setting), get_args(Mix)))
FOLDERS = ("ag_news", "wikineural", "novels", "java", "wikitext2")
TYPICAL = {
    "fr": r"\b(?:le|la|les|des|est)\b",
    "de": r"\b(?:der|die|das|und|ist)\b",
    "it": r"\b(?:il|della|che|di|nel)\b",
    "wiki": r"\b(?:the|of|was|and|in)\b",
    "java": r"[;{},(*>]$|^\s*\*|\w\(",
}


@pytest.fixture(scope="module")
def base(nano_folder):
    import torch

    from p2pfinetune.model.base import load_base

    torch.set_num_threads(1)
    return load_base(str(nano_folder), device="cpu")


@pytest.fixture(scope="module")
def dealt(data, base):
    from p2pfinetune.paper.populations import populate

    absent = [name for name in FOLDERS if not (data / name).is_dir()]
    if absent:
        pytest.skip(f"there is no {absent[0]} in {data}")
    found = {case: populate(*case, base=base, data=data, scale=SCALE, seed=0) for case in CASES}
    return found.__getitem__


def decoded(split, base):
    return [base.tokenizer.decode(split.document(i), skip_special_tokens=True) for i in range(split.documents)]


def kind(text, categories):
    """Told by its commonest words, or by how lines of code end."""
    if "java" in categories and re.search(TYPICAL["java"], text, re.MULTILINE):
        return "java"
    return max(categories, key=lambda name: len(re.findall(TYPICAL[name], text)))


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_every_peer_has_the_size_asked_for(case, dealt):
    population = dealt(case)

    for peer in population.peers:
        assert population.tokens(peer) == {"train": 12_000, "trust": 1143, "guard": 1143, "test": 4096}
    assert len(population.reference.tokens) == len(population.categories) * 4286


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_test_text_shares_next_to_no_phrases_with_any_other_text(case, dealt, base):
    population = dealt(case)
    places = {(peer, split): population.texts[peer].split(split) for peer in population.peers for split in SPLITS}
    phrases = {
        place: [set(sequences(text).tolist()) for text in decoded(split, base)] for place, split in places.items()
    }
    elsewhere = set().union(*(found for (_, split), texts in phrases.items() if split != "test" for found in texts))
    elsewhere |= set().union(*(sequences(text).tolist() for text in decoded(population.reference, base)))

    shared = [len(found & elsewhere) / len(found) for (_, split), texts in phrases.items() if split == "test" for found in texts]  # fmt: skip

    assert sum(shared) / len(shared) < (0.1 if case[0] == "code-wiki" else 0.03)  # code has few ways to say a thing


@pytest.mark.parametrize("case", [case for case in CASES if case[0] != "ag-news"], ids=" ".join)
def test_what_the_text_looks_like_agrees_with_the_declared_shares(case, dealt, base):
    population = dealt(case)

    for peer in population.peers:
        split = population.texts[peer].train
        found = dict.fromkeys(population.categories, 0)
        for i, text in enumerate(decoded(split, base)):
            found[kind(text, population.categories)] += len(split.document(i))
        shares = [tokens / len(split.tokens) for tokens in found.values()]
        assert shares == pytest.approx(list(population.shares[peer]), abs=0.05), peer


def test_the_largest_scale_that_is_named_fits(data, base):
    from p2pfinetune.errors import TextError
    from p2pfinetune.paper.populations import populate

    with pytest.raises(TextError, match="too little text") as raised:
        populate("code-wiki", "mixed", base=base, data=data, scale=1.0, seed=0)
    largest = float(re.search(r"fits is (\S+)", raised.value.hint)[1])

    assert largest > SCALE
    assert populate("code-wiki", "mixed", base=base, data=data, scale=largest, seed=1).peers


def test_ag_news_at_the_size_of_the_paper_gives_all_there_is(data, base):
    from p2pfinetune.paper.populations import populate

    population = populate("ag-news", "specific", base=base, data=data, scale=1.0, seed=0)

    assert len({tuple(population.tokens(peer).items()) for peer in population.peers}) == 1
    assert population.tokens(population.peers[0])["train"] > 150_000
