"""The poisoner of a soak run really poisons: what it makes of an update is what its name says."""

import pytest
import torch

from p2pfinetune.codec import CODECS
from p2pfinetune.names import Refusal
from p2pfinetune.round.update import inspect
from tests.soak.poisoner import SPOILS

SCHEMA = {"layer.lora_A": (4, 8), "layer.lora_B": (8, 4)}


@pytest.fixture(name="blob")
def honest_blob():
    dice = torch.Generator().manual_seed(0)
    tensors = {name: torch.randn(shape, generator=dice) * 0.01 for name, shape in SCHEMA.items()}
    return CODECS.make("bf16").encode(tensors)


def opened(blob):
    return inspect(blob, "bf16", SCHEMA, max_norm=1e9)


def test_a_flipped_sign_is_a_valid_update_of_the_opposite_direction(blob):
    honest, lie = opened(blob), opened(SPOILS["sign-flip"](blob))

    for name in SCHEMA:
        assert torch.equal(lie.delta.tensors[name], -honest.delta.tensors[name])


def test_a_scaled_update_is_valid_and_far_too_large(blob):
    honest, lie = opened(blob), opened(SPOILS["scaled"](blob))

    assert lie.delta.norm() == pytest.approx(256 * honest.delta.norm(), rel=1e-3)


@pytest.mark.parametrize(("kind", "reasons"), [("not-finite", {"not-finite"}), ("garbage", {"oversize", "malformed"})])
def test_what_is_no_update_is_refused(blob, kind, reasons):
    refused = opened(SPOILS[kind](blob))

    assert isinstance(refused, Refusal)
    assert refused.reason in reasons


def test_a_replayed_update_is_the_same(blob):
    assert SPOILS["replay"](blob) == blob
