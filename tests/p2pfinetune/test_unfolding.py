"""Text out of tokens, over a tokenizer whose tokens are bytes: the hardest there is."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from p2pfinetune.model.unfolding import Unfolding
from p2pfinetune.speech import Chance


class Bytes:
    """Each token a byte; 256 is a control token, which is no text."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        spelt = b"".join(bytes([one]) if one < 256 else b"" if skip_special_tokens else b"<|end|>" for one in ids)
        return spelt.decode("utf-8", "replace")


class Words(Bytes):
    """As sentencepiece decodes: the space in front of the first word is dropped."""

    def decode(self, ids: list[int], *, skip_special_tokens: bool = False) -> str:
        return super().decode(ids, skip_special_tokens=skip_special_tokens).removeprefix(" ")


def pieces(text: bytes, *stop: str, prompt: bytes = b"so: ", tokenizer: Any = None) -> list[str]:
    """As they are given out, token by token."""
    unfolding, given = Unfolding(tokenizer or Bytes(), list(prompt), stop), []
    for token in text:
        given.append(unfolding.add(token))
        if unfolding.stopped:
            break
    return [piece.text for piece in (*given, unfolding.rest()) if piece is not None]


def test_what_takes_several_tokens_comes_as_whole_characters() -> None:
    assert pieces("a\u00e9\u20ac\U0001f600!".encode()) == ["a", "\u00e9", "\u20ac", "\U0001f600", "!"]


def test_bytes_that_are_no_character_hold_back_nothing_for_long() -> None:
    assert "".join(pieces(b"\xff\xff\xff\xff\xffok")) == b"\xff\xff\xff\xff\xffok".decode("utf-8", "replace")
    assert "".join(pieces("ends in \u20ac".encode()[:-1])) == "ends in \ufffd"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        (("cd",), "ab"),
        (("zz",), "abcdef"),
        (("ef", "bc"), "a"),
        (("fg",), "abcdef"),
        (("abcdefg",), "abcdef"),
        (("a",), ""),
        (("",), "abcdef"),
    ],
)
def test_the_text_ends_before_the_first_stop_string_and_loses_nothing_else(
    stop: tuple[str, ...], expected: str
) -> None:
    assert "".join(pieces(b"abcdef", *stop)) == expected


def test_nothing_of_a_stop_string_is_given_out_before_it_is_known_to_be_none() -> None:
    assert pieces(b"x\nUse a\nUser:", "\nUser:") == ["x", "\nUse ", "a"]


def test_the_first_word_keeps_the_space_that_the_tokenizer_would_drop() -> None:
    assert "".join(pieces(b" word", prompt=b"a", tokenizer=Words())) == " word"


def test_each_token_is_told_once_and_with_the_text_that_ends_it() -> None:
    unfolding, told = Unfolding(Bytes(), list(b"so: "), ("END",)), []
    for number, token in enumerate("\u20acEN\u20ac!".encode()):
        told.append(unfolding.add(token, Chance(f"{number}", -0.1)))
    given = [(piece.text, [chance.text for chance in piece.chances]) for piece in told if piece is not None]

    assert given == [("\u20ac", ["0", "1", "2"]), ("EN\u20ac", ["3", "4", "5", "6", "7"]), ("!", ["8"])]


def test_tokens_of_a_stop_string_are_not_told() -> None:
    unfolding = Unfolding(Bytes(), list(b"so: "), ("END",))
    told = [unfolding.add(token, Chance(chr(token), -0.1)) for token in b"aEND"]

    assert [chance.text for piece in told if piece is not None for chance in piece.chances] == ["a"]


def test_a_control_token_is_spelt_and_is_no_text() -> None:
    unfolding = Unfolding(Bytes(), list(b"so: "))

    assert (unfolding.spelt(256), unfolding.spelt(ord("x"))) == ("<|end|>", "x")
    assert unfolding.add(256) is None
    assert [piece.text for piece in itertools.chain([unfolding.add(ord("x"))]) if piece] == ["x"]
