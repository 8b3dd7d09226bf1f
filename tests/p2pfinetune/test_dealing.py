"""Near copies go together, what was dealt stays, and what was held out is never trained on."""

from __future__ import annotations

import random
import string
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfinetune.data import dealing, groups
from p2pfinetune.data.blocks import cut
from p2pfinetune.data.dealer import Dealer
from p2pfinetune.data.documents import Document
from p2pfinetune.data.near_duplicates import MOST_SHARED, sequences
from p2pfinetune.data.splits import SPLITS, split_of

WORDS = ["".join(random.Random(i).choices(string.ascii_lowercase, k=5)) for i in range(3000)]
HAN = [chr(0x4E00 + i) for i in range(3000)]
THAI = [chr(0x0E01 + i) for i in range(46)]
NOTHING = dict.fromkeys(SPLITS, 0)


def text(seed, words=120, vocabulary=WORDS, space=" "):
    return space.join(random.Random(seed).choices(vocabulary, k=words))


def edited(original, seed, words=5):
    """With some words changed, in places that the seed draws."""
    dice, found = random.Random(seed), original.split()
    for place in dice.sample(range(len(found)), min(words, len(found))):
        found[place] = f"w{seed}x{place}"
    return " ".join(found)


def dealt(texts, dealer=None, minimum=NOTHING):
    """The split of each text, in their order."""
    dealer = dealer or Dealer("me")
    documents = [Document.of(one, "somewhere") for one in texts]
    rows = dealer.deal(documents, {document.id: len(document.text) for document in documents}, minimum)
    dealer.keep(rows)
    return [rows[document.id].split for document in documents]


def shares(texts, places):
    """What part of each text stands in each split other than its own, counted one by one."""
    found = [set(sequences(one).tolist()) for one in texts]
    there = {split: set().union(*(s for s, p in zip(found, places, strict=True) if p == split)) for split in SPLITS}
    return {
        (i, split): len(found[i] & there[split]) / len(found[i])
        for i, place in enumerate(places)
        for split in SPLITS
        if place is not None and split != place
    }


def rows_by_split(texts, places):
    return {split: [t for t, p in zip(texts, places, strict=True) if p == split] for split in SPLITS}


COPIES = {
    "versions of an essay": lambda i: [edited(text(i), seed) for seed in range(4)],
    "a copy in other case and lines": lambda i: [text(i), text(i).upper().replace(" ", "\n")],
    "a reply that quotes": lambda i: [text(i), text(i + 500, 60) + "\n> " + text(i).replace(" ", "\n> ")],
    "an excerpt": lambda i: [text(i), " ".join(text(i).split()[30:80])],
    "a notebook and its export": lambda i: [f"# In [1]:\n{text(i)}\n# Out: 3\n", "<p>" + text(i) + "</p>"],
    "Chinese": lambda i: [text(i, 200, HAN, ""), "前言" + text(i, 200, HAN, "")[20:] + "后记"],
    "Thai": lambda i: [text(i, 300, THAI, ""), text(i, 300, THAI, "")[40:]],
}


@pytest.mark.parametrize("kind", COPIES)
def test_near_copies_stand_in_one_split(kind):
    families = [COPIES[kind](i) for i in range(40)]
    places = dealt([one for family in families for one in family])
    size = len(families[0])
    by_family = [set(places[size * i : size * (i + 1)]) for i in range(40)]

    assert all(len(splits) == 1 for splits in by_family)
    assert len(set().union(*by_family)) > 2  # and not all in one


def test_texts_of_their_own_go_where_their_hash_says():
    texts = [text(i) for i in range(60)] + [text(i, 80, HAN, "") for i in range(60)]

    assert dealt(texts) == [split_of(Document.of(one, "").id, "me") for one in texts]


def test_the_order_of_reading_changes_nothing():
    texts = [edited(text(i), seed) for i in range(20) for seed in range(3)]
    shuffled = random.Random(1).sample(texts, len(texts))

    assert dict(zip(texts, dealt(texts), strict=True)) == dict(zip(shuffled, dealt(shuffled), strict=True))


@pytest.mark.parametrize("kind", ["Thai", "Chinese"])
def test_texts_without_spaces_that_say_different_things_in_the_same_words_are_no_copies(kind):
    letters, lengths = (THAI, (3, 4, 5)) if kind == "Thai" else (HAN, (1, 2))
    words = [text(i, random.Random(i).choice(lengths), letters, "") for i in range(80)]
    texts = [text(i, 150, words, "") for i in range(60)]

    assert dealt(texts) == [split_of(Document.of(one, "").id, "me") for one in texts]


@pytest.mark.parametrize("longer", [0, 1])
def test_a_disclaimer_under_every_mail_makes_them_no_copies_of_one_another(longer):
    disclaimer = text(9999, 40)
    mails = [text(i, 60 + longer * i) + "\n" + disclaimer for i in range(100)]
    places = Counter(dealt(mails))

    assert all(places[split] >= 2 for split in SPLITS)
    assert places[None] == 0


def test_thirty_versions_of_one_text_are_no_boilerplate():
    version, versions = text(0, 300), []
    for seed in range(30):
        version = edited(version, seed, words=8)
        versions.append(version)
    places = dealt([*versions, *(text(i) for i in range(1, 60))])

    assert len(set(places[:30])) == 1


def test_texts_that_are_saved_again_and_again_are_held_out_like_others():
    families = [[edited(text(i), seed, words=1) for seed in range(15)] for i in range(30)]
    places = dealt([one for family in families for one in family])
    by_family = [set(places[15 * i : 15 * (i + 1)]) for i in range(30)]

    assert all(len(splits) == 1 for splits in by_family)
    assert len(set().union(*by_family)) > 2


def test_a_text_that_says_hardly_anything_but_what_many_say_is_not_held_out():
    form = text(9999, 60)
    filled = [f"{form} {text(i, 4)}" for i in range(15)]
    letters = [text(i, 200) + " " + form for i in range(100, 120)]

    assert set(dealt([*filled, *letters])[:15]) == {"train"}


def test_a_group_that_is_most_of_the_text_is_trained_on_and_others_are_held_out():
    versions = [edited(text(0, 400), seed) for seed in range(20)]
    minimum = {"train": 2000, "trust": 500, "guard": 500, "test": 500}
    for salt in range(5):
        places = dealt([*versions, *(text(i) for i in range(1, 9))], Dealer(str(salt)), minimum)

        assert set(places[:20]) == {"train"}
        assert set(places) == set(SPLITS)


def test_who_joins_a_group_later_goes_where_the_group_is():
    dealer = Dealer("me")
    first = dict(enumerate(dealt([text(i) for i in range(40)], dealer)))
    later = dealt([text(i) for i in range(40)] + [edited(text(i), 7) for i in range(40)], dealer)

    assert later == [first[i] for i in range(40)] * 2


def test_the_blocks_of_two_versions_of_one_file_stand_in_the_same_splits():
    lines = [text(i, 25).capitalize() + "." for i in range(400)]
    changed = [*lines[:100], text(900, 25), *lines[105:250], *lines[260:], text(901, 200)]
    old, new = cut("\n".join(lines)), cut("\n".join(changed))
    places = dealt(list(dict.fromkeys([*old, *new])))

    assert len(old) > 15
    assert set(places) >= {"train", "test"}
    assert max(shares(list(dict.fromkeys([*old, *new])), places).values()) <= MOST_SHARED


def test_an_edited_text_stays_where_it_was_though_the_old_one_is_gone():
    dealer = Dealer("me")
    before = dealt([text(i) for i in range(40)], dealer)
    after = dealt([edited(text(i), 7) for i in range(40)], dealer)

    assert after == before


def test_who_links_two_splits_is_left_out_for_good_and_harms_nobody():
    dealer = Dealer("me")
    texts = [text(i) for i in range(40)]
    places = dealt(texts, dealer)
    one, other = (next(t for t, p in zip(texts, places, strict=True) if p == split) for split in ("train", "test"))

    assert dealt([*texts, f"{one} {other}"], dealer)[-1] is None
    assert dealt([f"{one} {other}"], dealer) == [None]


def test_a_text_patched_together_from_many_that_are_trained_on_is_not_held_out():
    texts = [text(i) for i in range(60)]
    trained = [one for one, place in zip(texts, dealt(texts), strict=True) if place == "train"]
    patched = [" ".join(" ".join(t.split()[:12]) for t in random.Random(i).sample(trained, 10)) for i in range(30)]
    places = dealt([*texts, *patched])

    assert max(shares([*texts, *patched], places).values()) <= MOST_SHARED


def test_of_very_much_text_evenly_drawn_sequences_are_compared(monkeypatch):
    texts = [edited(text(i), seed) for i in range(60) for seed in range(2)]
    monkeypatch.setattr(dealing, "MOST_SEQUENCES", 120 * 116 // 3)
    dealer = Dealer("me")
    places = dealt(texts, dealer)

    assert dealer.looked.drawn == 2
    assert places[::2] == places[1::2]


def test_an_unchanged_text_is_not_looked_at_again(monkeypatch):
    dealer = Dealer("me")
    texts = [text(i) for i in range(20)]
    dealt(texts, dealer)
    looked = []
    monkeypatch.setattr(dealing, "sequences", lambda one: looked.append(one) or sequences(one))
    dealt(texts, dealer)
    dealt([*texts, text(21)], dealer)

    assert looked == [text(21)]


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["add", "copy", "edit", "delete", "undo", "join", "excerpt"]),
        st.integers(0, 99),
        st.integers(0, 99),
    ),
    min_size=3,
    max_size=25,
)


def acted(texts, gone, action, one, other):
    """The texts after one thing that people do."""
    mine, its = texts[one % len(texts)], texts[other % len(texts)]
    match action:
        case "add":
            return [*texts, text(1000 + one)]
        case "copy":
            return [*texts, edited(mine, other)]
        case "edit":
            return [t for t in texts if t != mine] + [edited(mine, other, words=20)]
        case "delete":
            return [t for t in texts if t != mine] or texts
        case "undo":
            return [*texts, *gone[one % max(1, len(gone)) :][:1]]
        case "join":
            return [*texts, f"{mine} {its}"[:2000]]
        case _:
            return [*texts, " ".join(mine.split()[: 20 + other])]


@settings(max_examples=25)
@given(actions=ACTIONS, salt=st.integers(0, 99))
def test_whatever_is_added_edited_or_deleted_what_is_held_out_stands_in_no_other_split(actions, salt):
    dealer, texts, gone = Dealer(str(salt)), [text(i, 60) for i in range(12)], []
    known = {}
    for begin in range(0, len(actions), 3):
        for action in actions[begin : begin + 3]:
            before, texts = texts, list(dict.fromkeys(acted(texts, gone, *action)))
            gone += [one for one in before if one not in texts]
        places = dealt(texts, dealer)
        for one, place in zip(texts, places, strict=True):
            assert known.setdefault(one, place) == place
        assert max(shares(texts, places).values(), default=0) <= MOST_SHARED
    trained = set().union(*(sequences(one).tolist() for one, place in known.items() if place == "train"))
    for one in (one for one, place in known.items() if place not in {"train", None}):
        found = sequences(one).tolist()
        assert len(trained.intersection(found)) <= 0.6 * len(found)  # of texts that are gone sketches are left


def test_common_sequences_are_counted_by_groups():
    shared = groups.Shared.of([sequences(f"{text(i)} {text(9999, 20)}") for i in range(groups.COMMON + 1)])

    assert groups.common(shared).sum() == 16
    assert not groups.common(groups.Shared.of([sequences(text(1)), sequences(text(1))])).any()
