"""The signs of MeZO's directions: known answers of the generator, and that nothing but the numbers given decides them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from p2pfinetune.mezo.signs import BLOCK, Signs, number_of, philox

SCHEMA = {"a.lora_A": (2, 70), "a.lora_B": (5, 2), "b.lora_A": (2, 3), "b.lora_B": (130, 2)}
ALL, LOW = 0xFFFFFFFF, 16

pytestmark = pytest.mark.numeric  # a second time where what only newer processors have is masked


@pytest.mark.parametrize(
    ("counter", "key", "known"),
    [
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((ALL, ALL, ALL, ALL), (ALL, ALL), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_the_generator_gives_the_answers_that_it_was_published_with(counter, key, known):
    words = philox(tuple(np.array([word], np.uint64) for word in counter), key)

    assert " ".join(f"{int(word[0]):08x}" for word in words) == known


def test_the_signs_of_a_direction_are_these_on_every_processor():
    drawn = Signs(SCHEMA).bits(0x0123456789ABCDEF, 7, 3)

    assert hashlib.sha256(drawn.tobytes()).hexdigest()[:LOW] == "b853a51f6f7b30a8"


def test_an_entry_is_its_bit_of_its_block_of_its_factor():
    drawn = Signs(SCHEMA).bits(5 << 32 | 9, 7, 3)
    entry, factor = 129, number_of("b.lora_B")  # whose column 0 has 130 entries

    words = philox(tuple(np.array([word], np.uint64) for word in (entry // BLOCK, factor, 7, 3)), (9, 5))
    bit = int(words[entry % BLOCK // 32][0]) >> entry % 32 & 1

    assert drawn[140 + 10 + 6 + entry] == bit


def test_seed_step_and_sample_each_give_other_signs_as_often_plus_as_minus():
    signs = Signs({"a.lora_A": (8, 4096), "a.lora_B": (4096, 8)})
    drawn = [
        signs.bits(*numbers).astype(int) for numbers in ((1, 0, 0), (2, 0, 0), (1 << 32, 0, 0), (1, 1, 0), (1, 0, 1))
    ]

    for place, one in enumerate(drawn):
        assert abs(one.mean() - 0.5) < 0.01
        assert all(abs((one == other).mean() - 0.5) < 0.01 for other in drawn[place + 1 :])


def test_a_device_with_fewer_components_has_the_first_signs_of_each_factor():
    wide = Signs({"a.lora_A": (4, 9), "a.lora_B": (11, 4)}).bits(1, 2, 3)
    narrow = Signs({"a.lora_A": (2, 9), "a.lora_B": (11, 2)}).bits(1, 2, 3)

    assert np.array_equal(narrow, np.concatenate([wide[:18], wide[36:58]]))


@pytest.mark.parametrize("kept", ["A", "B", "b.lora_A"])
def test_who_knows_a_part_of_the_factors_gives_them_the_same_signs(kept):
    part = {name: shape for name, shape in SCHEMA.items() if name.endswith(kept)}
    sizes = np.cumsum([rows * columns for rows, columns in SCHEMA.values()])[:-1]

    whole = dict(zip(SCHEMA, np.split(Signs(SCHEMA).bits(1, 2, 3), sizes), strict=True))

    assert np.array_equal(Signs(part).bits(1, 2, 3), np.concatenate([whole[name] for name in part]))
