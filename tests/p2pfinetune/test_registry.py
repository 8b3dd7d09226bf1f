"""One file is one plug-in; what a person mistypes is answered with what there is."""

from __future__ import annotations

import pytest

from p2pfinetune.errors import OptionError
from p2pfinetune.trust import SCHEMES


def test_file_names_are_public_names() -> None:
    expected = {
        "cobo",
        "first-order",
        "layer-similarity",
        "local",
        "mixture",
        "oracle",
        "prediction-similarity",
        "product-norm",
        "smoothed-validation",
        "uniform",
        "validation",
        "weight-similarity",
    }

    assert set(SCHEMES.names()) == expected


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    with pytest.raises(OptionError, match="no trust scheme 'fedavg'") as caught:
        SCHEMES.make("fedavg")

    assert "uniform" in caught.value.hint


def test_an_unknown_option_is_answered_with_the_options_there_are() -> None:
    with pytest.raises(OptionError, match="no option 'temprature'") as caught:
        SCHEMES.make("uniform", {"temprature": 1})

    assert "top_k" in caught.value.hint


@pytest.mark.parametrize(("value", "expected"), [("much", "float"), ([1], "float"), (None, "float")])
def test_a_word_for_a_number_is_answered_with_the_option_and_what_it_takes(value: object, expected: str) -> None:
    with pytest.raises(OptionError, match=f"'validation': temperature = .*Expected `{expected}`"):
        SCHEMES.make("validation", {"temperature": value})
    with pytest.raises(OptionError, match="Invalid enum value"):
        SCHEMES.make("weight-similarity", {"of": "hopes"})


def test_every_plug_in_explains_itself() -> None:
    assert all(len(SCHEMES.help(name)) > 40 for name in SCHEMES.names())


def test_fields_are_options_with_defaults() -> None:
    assert SCHEMES.options("uniform")["top_k"] == 0
