"""In which of two parts two networks differ, so that people can act upon it."""

from types import SimpleNamespace
from typing import Any

import pytest

from p2pfinetune.model.traits import network_traits, other_sharings
from p2pfinetune.names import SHARINGS
from p2pfinetune.options import AdapterSpec

BASE: Any = SimpleNamespace(tensors_digest="a" * 64, tokenizer_digest="b" * 64, config_digest="c" * 64)


def traits(base: Any = BASE, targets: tuple[str, ...] = ("q", "v"), **spec: Any) -> dict[str, str]:
    return dict(network_traits(base, AdapterSpec(**spec), targets))


def test_the_same_choices_have_the_same_traits_in_whatever_order_modules_are_named() -> None:
    assert traits() == traits(targets=("v", "q"))


@pytest.mark.parametrize("other", [{"rank": 4}, {"alpha": 8}, {"sharing": "a"}, {"targets": ("q",)}])
def test_another_way_to_adapt_the_same_model_differs_in_that_alone(other: dict[str, Any]) -> None:
    assert traits()["model"] == traits(**other)["model"]
    assert traits()["adapter"] != traits(**other)["adapter"]


def test_what_the_adapter_would_be_with_another_sharing_is_what_those_say_who_have_it() -> None:
    found = other_sharings(AdapterSpec(sharing="a"), ("v", "q"))

    assert set(found) == {traits(sharing=other)["adapter"] for other in SHARINGS if other != "a"}


@pytest.mark.parametrize("part", ["tensors_digest", "tokenizer_digest", "config_digest"])
def test_another_model_tokenizer_or_configuration_differs_in_the_model(part: str) -> None:
    other = SimpleNamespace(**{**vars(BASE), part: "d" * 64})

    assert traits()["model"] != traits(base=other)["model"]
    assert traits()["adapter"] == traits(base=other)["adapter"]
