"""Tiny trained models of any family, ready to be exported."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from p2pfinetune.export.stored import Exportable
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, read, write
from p2pfinetune.model.base import Base
from p2pfinetune.options import AdapterSpec

SPEC = AdapterSpec(rank=4, alpha=12)


def learnt(base: Base, seed: int = 0) -> tuple[Exportable, AdaptedModel]:
    """An adapter that changes what the model says, as a value and in a live model."""
    live, generator = attach(base, SPEC), torch.Generator().manual_seed(seed)
    adapter = Adapter({n: t + 0.1 * torch.randn(t.shape, generator=generator) for n, t in read(live).tensors.items()})
    write(live, adapter)
    return Exportable(base, adapter, SPEC), live


@pytest.fixture
def trained(base_of: Callable[[str], Base]) -> Callable[[str], Exportable]:
    """A function from a family's name to what there is to export of it."""
    return lambda family: learnt(base_of(family))[0]
