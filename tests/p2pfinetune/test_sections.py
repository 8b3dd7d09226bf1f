"""Sections of options: several make one flat struct, one is taken out of another, and a wrong value is told by name."""

from __future__ import annotations

import pickle
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta, field

from p2pfinetune.errors import OptionError
from p2pfinetune.options.sections import Section, check, described, of

Small = Annotated[int, Meta(ge=1, le=9)]


class Bakery(Section):
    loaves: Annotated[Small, Meta(description="A day.")] = 3
    flour: dict[str, int] = field(default_factory=dict)


class Mill(Section):
    stones: Annotated[int, Meta(ge=1, description="Of granite.")] = 2
    wind: float = 0.5


class Village(Bakery, Mill):
    wind: Annotated[float, Meta(lt=1.0, description="On a hill.")] = 0.9
    name: str = ""


def test_a_struct_of_several_sections_has_all_their_fields_flat_and_strict() -> None:
    village = msgspec.toml.decode(b'loaves = 4\nname = "Sils"', type=Village)

    assert village == Village(loaves=4, flour={}, stones=2, wind=0.9, name="Sils")
    assert Village.__struct_fields__ == ("loaves", "flour", "stones", "wind", "name")
    assert pickle.loads(pickle.dumps(village)) == village  # our own bytes; engines send options so
    with pytest.raises(msgspec.ValidationError, match="unknown field `bread`"):
        msgspec.convert({"bread": 1}, Village)
    with pytest.raises(msgspec.ValidationError, match=r"<= 9 - at `\$\.loaves`"):
        msgspec.convert({"loaves": 10}, Village)
    with pytest.raises(AttributeError):
        village.loaves = 1  # type: ignore[misc]  # what is tried


def test_help_and_ranges_come_from_the_types_and_the_last_word_is_the_subclass_s() -> None:
    assert described(Village) == {"loaves": "A day.", "stones": "Of granite.", "wind": "On a hill."}


def test_one_section_is_taken_out_of_another_by_the_names_of_its_fields() -> None:
    assert of(Mill, Village(stones=7), wind=0.1) == Mill(stones=7, wind=0.1)
    assert of(Village, Mill(stones=7)) == Village(stones=7, wind=0.5)


@pytest.mark.parametrize(("wrong", "told"), [({"loaves": 0}, "loaves = 0: "), ({"wind": float("nan")}, "wind = nan: ")])
def test_a_value_out_of_range_is_told_by_name(wrong: dict[str, Any], told: str) -> None:
    check(Village())
    with pytest.raises(OptionError, match=told):
        check(Village(**wrong))


def test_a_field_of_two_sections_is_a_mistake() -> None:
    with pytest.raises(TypeError, match=r"stones is a field of two sections of .*Port"):

        class Port(Village, Mill): ...
