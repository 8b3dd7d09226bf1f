from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peerd.control.render import bar, printable, written


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "bytes", "–"),
        (0, "bytes", "0 B"),
        (999, "bytes", "999 B"),
        (1000, "bytes", "1.0 kB"),
        (999_960, "bytes", "1.0 MB"),
        (123_456_789, "bytes", "123 MB"),
        (5.9, "seconds", "5 s"),
        (3600, "seconds", "1 h"),
        (7384, "seconds", "2 h 3 min"),
        (90_000, "seconds", "1 d 1 h"),
        (0.0, "percent", "0 %"),
        (0.001, "percent", "<1 %"),
        (0.364, "percent", "36 %"),
        (3.14159, "loss", "3.142"),
        (4.2, "perplexity", "4.20"),
        (31.26, "perplexity", "31.3"),
        (12_345.6, "perplexity", "12,346"),
        (1234, "number", "1,234"),
        (7.25, "milliseconds", "7 ms"),
        (1834.2, "rate", "1,834/s"),
        (True, "text", "yes"),
        (math.inf, "perplexity", "diverged"),
        (50.0, "loss", "diverged"),
        (math.inf, "number", "inf"),
        ("12D3KooWBobBobBob22", "id", "12D3KooW…bBob22"),
    ],
)
def test_values_are_written_as_people_read_them(value: object, unit: str, text: str) -> None:
    assert written(value, unit) == text


@given(st.text())
def test_nothing_hidden_is_ever_printed(text: str) -> None:
    clean = printable(text)

    assert all(character.isprintable() or character.isspace() for character in clean)
    assert not any(hidden in clean for hidden in "\x1b\x9b\n\r\t\u202e\u2066\u200b\u2028")


def test_ordinary_names_stay_as_they_are() -> None:
    assert printable("Zoë 李雷 👩 O'Neil <b>") == "Zoë 李雷 👩 O'Neil <b>"


@given(st.floats(-1, 2), st.integers(1, 60))
def test_a_bar_stays_in_its_width(part: float, width: int) -> None:
    assert len(bar(part, width)) <= width
