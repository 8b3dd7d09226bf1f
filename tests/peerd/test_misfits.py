"""What is said of those who were met and could not be joined: fixed words, bounded, and the next command."""

import pytest

from peerd.daemon.misfits import FRESH_SECONDS, SAID, advice, notices, said_of
from peerd.net.meetings import Meetings
from peerd.net.transport import Met
from peerd.wire.messages import Kind, Why
from peerd.wire.traits import Traits, differences

MINE = Traits(group="writers", model="a" * 64, adapter="b" * 64)


def test_a_crowd_of_strangers_makes_one_sentence_of_each_kind_and_chooses_none_of_its_words():
    clock = [0.0]
    met = Meetings(lambda: clock[0])
    for clock[0] in range(10_000):
        met.note(("group", "version"))
        met.note(())
    clock[0] += 90.0

    said = notices(met.now())

    assert len(said) == 2
    assert said[0] == (
        "Somebody was met that cannot be joined (10,000 times, last 1 min 30 s ago): it is in another group. "
        "Both need the same --group, and as training belongs to its group, whoever changes begins in a new home: "
        "peerd start --home ANOTHER-FOLDER --data FOLDER --group NAME; peerd id prints the whole line for others"
    )
    assert met.counts() == {"met-group": 10_000, "met-version": 10_000}


def test_who_was_met_long_ago_is_not_spoken_of_any_more_and_an_unknown_kind_never():
    assert notices({"group": Met(1, FRESH_SECONDS + 1.0)}) == []
    assert notices({"group": Met(1, 0.0)}, told={"group"}) == []
    assert notices({"a word\x1b of a stranger": Met(1, 0.0)}) == []
    assert said_of(("nonsense",)) == SAID["network"][0]


@pytest.mark.parametrize("kind", [*SAID, "network"])
def test_each_kind_has_words_of_its_own_and_a_next_command(kind):
    assert "peerd" in advice((kind,)) or "--" in advice((kind,))
    assert len({words for words, _ in SAID.values()}) == len(SAID)
    assert all(one in SAID for one in ("version", "group", "model", "adapter", "network"))


def test_a_tag_is_eight_bits_that_are_the_same_for_whoever_asks_and_another_under_another_id():
    told = MINE.told_by("ada")

    assert told == Traits(group="writers", model="a" * 64, adapter="b" * 64).told_by("ada")
    assert {len(told.group), len(told.model), len(told.adapter)} == {2}
    assert told != MINE.told_by("ben")
    assert "writers" not in repr(told)


def test_how_a_model_is_adapted_is_compared_where_the_model_is_the_same():
    mine = Why(version=2, group="00", model="00", adapter="00")

    assert differences(mine, Why(version=2, group="00", model="00", adapter="01")) == ("adapter",)
    assert differences(mine, Why(version=2, group="00", model="01", adapter="01")) == ("model",)
    assert differences(mine, Why(version=3, group="01", model="01", adapter="01")) == ("version", "group", "model")
    assert differences(mine, mine) == ("network",)


def test_another_sharing_is_told_from_another_rank_by_what_i_would_say_with_it():
    mine, theirs = Traits(adapter="a" * 64, other_sharings=("b" * 64, "c" * 64)), Traits(adapter="b" * 64)

    assert mine.differences(theirs.told_by("ada"), "ada") == ("sharing",)
    assert mine.differences(Traits(adapter="d" * 64).told_by("ada"), "ada") == ("adapter",)
    assert mine.differences(Traits(model="e" * 64, adapter="b" * 64).told_by("ada"), "ada") == ("model",)
    assert "other_sharings" not in repr(mine.told_by("ada"))  # nothing more is told than before


def test_all_that_a_bootstrap_node_may_say_has_words():
    (meta,) = Kind.__metadata__

    assert set(meta.pattern.removeprefix("\\A(").removesuffix(")\\Z").split("|")) <= set(SAID)
