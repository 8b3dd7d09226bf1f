"""What my model took from others, and what it did not take and since when: from the records alone."""

import msgspec

from p2pfinetune.names import PeerId, Round
from peerd.control import merges
from peerd.control.render import when
from peerd.status import RoundRecord

ME, BEN, EVE = PeerId("12D3KooWme"), PeerId("12D3KooWben"), PeerId("12D3KooWeve")
NAMES = {BEN: "ben", EVE: "eve"}
HALF, ALONE = {ME: 0.5, BEN: 0.5}, {ME: 1.0}


def ended(number, row, reason=""):
    losses = dict.fromkeys(["loss_train", "loss_trust", "guard_base", "guard_own", "guard_personal", "guard_twin"])
    rest = {"finished_unix": 100.0 * number, "steps": 1, "bytes_in": 0, "bytes_out": 0}
    return RoundRecord(round=Round(number), row=row, accepted=not reason, reason=reason, **losses, **rest)


def refused(*numbers):
    return [ended(number, HALF, "worse-than-own") for number in numbers]


def test_a_row_that_was_never_taken_is_no_part_of_the_model():
    now = merges.merges_now([ended(1, ALONE), *refused(2, 3, 4, 5, 6, 7, 8)], ME)

    assert (now.round, now.row) == (None, {})
    assert (now.refused, now.since_round, now.since_unix, now.reason) == (7, 2, 200.0, "worse-than-own")
    assert now.refused_row == HALF
    assert merges.taken_in_words(now) == "No merge was taken yet: my model is what I trained alone."


def test_what_was_taken_is_the_last_merge_that_the_guard_took_with_the_weights_it_was_taken_with():
    part_of_the_way = {ME: 0.875, BEN: 0.125}
    now = merges.merges_now([ended(1, HALF), ended(2, part_of_the_way), *refused(3, 5)], ME)

    assert (now.round, now.unix, now.row) == (2, 200.0, part_of_the_way)
    assert (now.refused, now.since_round) == (2, 3)


def test_rounds_with_nobody_and_with_nobody_trusted_neither_take_nor_refuse():
    done = [ended(1, HALF), ended(2, ALONE), ended(3, {ME: 1.0, BEN: 0.0}), *refused(4), ended(5, ALONE)]
    now = merges.merges_now(done, ME)

    assert (now.round, now.refused, now.since_round) == (1, 1, 4)
    assert merges.line(done, now, ME) == "nobody to merge with in round 5"
    assert merges.line(done[:3], merges.merges_now(done[:3], ME), ME).startswith("nobody was trusted in round 3")


def test_after_a_merge_that_is_taken_nothing_is_refused_any_more():
    now = merges.merges_now([*refused(1, 2), ended(3, HALF)], ME)

    assert (now.round, now.refused, now.reason, now.refused_row) == (3, 0, "", {})
    assert merges.refused_in_words(now, NAMES, ME) == ""


def test_it_is_said_of_whom_nothing_was_taken_why_and_since_when():
    one = merges.refused_in_words(merges.merges_now(refused(4), ME), NAMES, ME)
    many = merges.refused_in_words(merges.merges_now(refused(2, 3, 4), ME), NAMES, ME)

    assert one == (
        f"The last merge (50 % ben) was not taken, since round 4 ({when(400.0)}): it measured worse than my own "
        "adapter on the guard split. Nothing of it is in my model."
    )
    assert f"and those before it, 3 merges, were not taken, since round 2 ({when(200.0)})" in many
    assert merges.why("a word\x1b of tomorrow") == "a word of tomorrow"


def test_records_come_back_from_disk_as_they_were_so_a_restart_says_the_same():
    done = [ended(1, HALF), *refused(2, 3)]
    kept = [msgspec.json.decode(msgspec.json.encode(record), type=RoundRecord) for record in done]

    assert merges.merges_now(kept, ME) == merges.merges_now(done, ME)
