"""Families of models: each works as the document says, or is refused in the words that it quotes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.families import table
from tests.families.tiny import FAMILIES, NAMED
from tests.families.trial import tried

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # of libraries, about models

torch.set_num_threads(1)


def stands(family: str, tmp_path: Path) -> None:
    assert table.written().get(family) == table.row(family, tried(family, tmp_path)), "run: python -m tests.families"


@pytest.mark.parametrize("family", NAMED)
def test_a_family_out_of_the_ordinary_works_or_is_refused_as_the_document_says(family: str, tmp_path: Path) -> None:
    stands(family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(FAMILIES.keys() - NAMED.keys()))
def test_a_family_works_or_is_refused_as_the_document_says(family: str, tmp_path: Path) -> None:
    stands(family, tmp_path)


def test_the_document_has_a_row_for_each_family_that_is_tried() -> None:
    assert list(table.written()) == list(FAMILIES)


def test_experts_are_said_to_stay_as_they_are() -> None:
    rows = table.written()

    for family in ("mixtral", "qwen3_moe", "olmoe", "gpt_oss"):
        assert f"This {family} model is adapted in its attention alone: its experts" in rows[family]
