"""Whatever a peer calls itself: one short line of letters, never empty, that passes for nothing else."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2pfinetune.names import PeerId
from peerd.cli.which_peer import chosen
from peerd.control import peer_names
from peerd.control.panels import draw_all
from peerd.control.peer_names import (
    MAX_COLUMNS,
    MAX_MARKS,
    MAX_READ,
    ME,
    NO_NAME,
    cell,
    clean,
    fault,
    mine,
    shown,
    skeleton,
    title,
    told_apart,
)
from peerd.control.render import columns, line
from peerd.errors import UsageError
from peerd.wire.messages import MAX_NAME

ANNA = PeerId("12D3KooWAnnaAnnaAnnaAnnaAnnaAnnaAnnaAnnaAnnaAnnaAn11")
EVE = PeerId("12D3KooWEveEveEveEveEveEveEveEveEveEveEveEveEveEve33")
TRICKY = (
    "()[]{}\uff08\uff09\u207d\u207e\u2768\u2769\ufd3e\u249c\u3220"  # brackets, and what NFKC makes of others
    "\u3164\u115f\uffa0\u2800\u00a0\u3000\u200b\u2060\ufeff\u00ad\u034f\ufe0f\U000e0041\U000e0100\U0001d159"  # blanks
    "\u0300\u0301\u0308\u20dd\u0489\u05bc\u093c\u094d"  # marks
    "\u05d0\u05d1\u0627\u0628\u0661\u202e\u2066\u2067\u2068\u2069\u200f\u061c"  # from right to left
    "\u2026\u22ef\u1160\uac00\u1100\u1161\u0661\x1b\x9b\n\r\t\u2028\ud800\ue000\uffff\U0001f469 a1lI0Oo"
)
names = st.one_of(
    st.text(max_size=64),
    st.text(alphabet=TRICKY, max_size=64),
    st.lists(st.sampled_from(TRICKY), max_size=64).map("".join),
)


@given(names)
@example("anna (me)")
@example("\u3164")
@example("a" + "\u0301" * 63)
@example("\ufdfa" * 64)
def test_a_name_is_one_short_line_without_anything_that_hides_or_reorders(name: str) -> None:
    seen = shown(name)
    inside = seen.removeprefix("\u2068").removesuffix("\u2069")

    assert columns(seen) <= MAX_COLUMNS
    assert len(inside) <= MAX_COLUMNS * (1 + MAX_MARKS)
    assert all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Ps", "Pe"} for c in inside)
    assert {c for c in inside if unicodedata.category(c) == "Zs"} <= {" "}
    assert inside == inside.strip()
    assert "  " not in inside
    if any(unicodedata.bidirectional(c) in {"R", "AL", "AN"} for c in seen):
        assert (seen[0], seen[-1]) == ("\u2068", "\u2069")


@given(names)
@example("a" + "\u0302\u0303\u0304\u0305\u0306\u0307" * 9)
def test_marks_do_not_pile_up(name: str) -> None:
    pile = ""
    for character in clean(name):
        pile = pile + character if unicodedata.category(character) in {"Mn", "Me"} else ""

        assert len(pile) <= MAX_MARKS
        assert len(set(pile)) == len(pile)


@given(names)
def test_a_name_is_never_empty_where_it_is_shown(name: str) -> None:
    for seen in (title(name, EVE), cell(name), mine(name)):
        assert any(unicodedata.category(c)[0] in "LNPS" for c in seen)


@given(names)
def test_nobody_passes_for_me_or_for_words_of_ours(name: str) -> None:
    assert ME not in shown(name)
    assert not any(bracket in shown(name) for bracket in "()")
    assert cell(name) == NO_NAME or NO_NAME not in cell(name)
    assert title(name, EVE) != mine("anna")


@given(names)
def test_cleaning_again_changes_nothing(name: str) -> None:
    assert clean(clean(name)) == clean(name)
    assert line(shown(name)) == shown(name)
    assert fault(clean(name)) == ""


@given(st.lists(names, min_size=2, max_size=6))
def test_peers_are_told_apart_whatever_they_call_themselves(chosen_names: list[str]) -> None:
    peers = {PeerId(f"12D3KooW{n:044d}"): name for n, name in enumerate(chosen_names)}

    assert len(set(told_apart(peers).values())) == len(peers)


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("anna (me)", "anna me"),
        ("  anna  ", "anna"),
        ("\u3164", NO_NAME),
        ("\u2800\u2800", NO_NAME),
        ("", NO_NAME),
        ("Zoë 李雷 👩 O'Neil", "Zoë 李雷 👩 O'Neil"),
        ("Zoe\u0308", "Zoë"),
        ("Nguyễn Thị Hồng", "Nguyễn Thị Hồng"),
        ("हिन्दी", "हिन्दी"),
        ("אנה", "\u2068אנה\u2069"),
        ("anna\u202egnp", "annagnp"),
        ("a" + "\u0301\u0302\u0303\u0304\u0305" * 12, "á\u0302\u0303\u0304"),
        ("(no name)", "no name"),
        ("n" * 64, "n" * 39 + "…"),
        ("李" * 64, "李" * 19 + "…"),
    ],
)
def test_names_as_they_are_shown(name: str, seen: str) -> None:
    assert cell(name) == seen


@pytest.mark.parametrize(
    "twin", ["Anna", "anna ", "аnna", "ann\u0430", "an\u200bna", "a.n.n.a", "ànna", "ａｎｎａ", "ANNA"]
)
def test_names_that_a_person_would_take_for_one_another_are_alike(twin: str) -> None:
    assert skeleton(twin) == skeleton("anna")
    assert told_apart({ANNA: "anna", EVE: twin})[ANNA] == "anna (…naAn11)"


def test_names_that_differ_are_not_alike() -> None:
    assert len({skeleton(name) for name in ("anna", "ann", "hanna", "ben", "李", "雷", "👩", "🧑")}) == 8


@pytest.mark.parametrize(
    "name", ["anna (me)", "\u3164", " anna", "anna\u0301\u0302\u0303\u0304\u0305", "[x]", "a\u00a0b"]
)
def test_my_own_name_has_to_be_one_that_others_see_as_it_is(name: str) -> None:
    assert fault(name)


@pytest.mark.parametrize("name", ["\ufdfa" * MAX_NAME, "n\u0301" * (MAX_NAME // 2), "李" * MAX_NAME, "n" * MAX_NAME])
def test_what_is_done_for_a_name_does_not_grow_with_what_its_letters_stand_for(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    measured: list[int] = []
    shown.cache_clear()

    def counting(text: str) -> int:
        measured.append(len(text))
        return columns(text)

    monkeypatch.setattr(peer_names, "columns", counting)

    assert len(clean(name)) <= MAX_READ
    assert columns(shown(name).strip("\u2068\u2069")) <= MAX_COLUMNS
    assert sum(measured) <= MAX_READ  # it grew with the square: ten strangers held the daemon up for seven seconds


@pytest.mark.parametrize("name", ["", "anna", "Zoë", "Zoe\u0308", "אנה", "李雷", "n" * 64])
def test_a_plain_name_is_no_fault(name: str) -> None:
    assert fault(name) == ""


def test_a_ban_is_never_lifted_by_a_name_that_a_friend_bears_too() -> None:
    banned, friends = [("anna", EVE)], [("Anna", ANNA)]
    with pytest.raises(UsageError, match="can mean 2 peers") as caught:
        chosen("anna", banned, "banned", friends)

    assert f"anna  {EVE}  banned" in caught.value.hint
    assert f"Anna  {ANNA}  not banned" in caught.value.hint
    assert chosen(EVE, banned, "banned", friends) == EVE
    assert chosen("eEve33", banned, "banned", friends) == EVE
    assert chosen("anna", banned, "banned") == EVE


def test_an_id_that_somebody_calls_itself_by_decides_nothing() -> None:
    with pytest.raises(UsageError, match="can mean 2 peers"):
        chosen("naAn11", [("naAn11", EVE)], "banned", [("anna", ANNA)])
    with pytest.raises(UsageError, match="is not banned"):
        chosen("anna", [("eve", EVE)], "banned", [("anna", ANNA)])


@pytest.mark.parametrize("asked", ["\u3164", " ", "(me)", "(no name)"])
def test_nothing_means_nobody(asked: str) -> None:
    with pytest.raises(UsageError, match="is not banned"):
        chosen(asked, [("", EVE), ("\u3164", ANNA)], "banned")


def test_the_page_is_told_names_as_the_terminal_is(view: Any) -> None:
    view.bob_name = "alice (me)"
    drawn = {panel.name: panel.drawing for panel in draw_all(view.status(), view.rounds(9))}

    assert [bar.label for bar in drawn["trust-now"].bars] == ["alice (me)", "alice me", "eve"]
    assert [row[0] for row in drawn["peers"].rows] == ["alice me", "eve"]
