"""What all tests share: their order, dice that fall alike in every run, and which of them multiply matrices."""

from __future__ import annotations

import pytest
from hypothesis import settings

# The same examples each time, however slow the machine; `pytest --hypothesis-profile default` looks for others.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

MODELS = {"tiny_base", "tiny_folder", "tiny_model", "base_of"}
"""Fixtures that hold a model."""


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at markers
def pytest_collection_modifyitems(items: list) -> None:
    """Real processes first: two workers that share the files would else wait for the last slow one."""
    items.sort(key=lambda item: "e2e" not in item.keywords)
    for item in items:
        if is_numeric(item):
            item.add_marker("numeric")


def is_numeric(item) -> bool:
    """Whether results may depend on the processor: it has a model, or torch, in this process."""
    return "e2e" not in item.keywords and ("torch" in vars(item.module) or bool(MODELS & set(item.fixturenames)))
