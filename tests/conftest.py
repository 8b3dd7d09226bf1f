"""What all tests share: their order, one thread each, dice that fall alike in every run, which of them multiply matrices."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# Matrices of tests are tiny, and there is a worker for each core: a second thread of torch would wait for a core most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch; daemons and their workers set their own

# The same examples each time, however slow the machine; `pytest --hypothesis-profile default` looks for others.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

MODELS = {"tiny_base", "tiny_folder", "tiny_model", "base_of"}
"""Fixtures that hold a model."""


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes first: two workers that share the files would else wait for the last slow one."""
    items.sort(key=lambda item: "e2e" not in item.keywords)
    for item in items:
        if is_numeric(item):
            item.add_marker("numeric")


def is_numeric(item: pytest.Item) -> bool:
    """Whether results may depend on the processor: it has a model, or torch, in this process."""
    if "e2e" in item.keywords or not isinstance(item, pytest.Function):
        return False
    return "torch" in vars(item.module) or bool(MODELS & set(item.fixturenames))
