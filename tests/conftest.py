"""What all tests share: their order, one thread each, dice that fall alike in every run, which of them multiply matrices."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import settings

# Matrices of tests are tiny, and there is a worker for each core: a second thread of torch would wait for a core most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports torch; daemons and their workers set their own

# The same examples each time, however slow the machine; `pytest --hypothesis-profile default` looks for others.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")

ROOT = Path(__file__).parents[1]
NUMERIC = [
    ROOT / place for place in re.findall(r"^NUMERIC := (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()
]
"""Where `make test-masked` looks, since a look at all tests costs each of its processes some seconds."""
MODELS = {"tiny_base", "tiny_folder", "tiny_model", "base_of"}
"""Fixtures that hold a model."""


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The folder of SmolLM2-135M-Instruct, a real small model with a chat template; tests that take it are `slow`."""
    from scripts import smollm2

    if (folder := smollm2.folder()) is None:
        pytest.skip("SmolLM2-135M-Instruct IS NOT HERE, so nothing was tried on a real model; run: make smollm2")
    return folder


@pytest.hookimpl(tryfirst=True)  # before `-m` looks at markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real processes first: two workers that share the files would else wait for the last slow one."""
    items.sort(key=lambda item: "e2e" not in item.keywords)
    for item in items:
        if is_numeric(item):
            item.add_marker("numeric")
            if not any(item.path.is_relative_to(place) for place in NUMERIC):
                raise pytest.UsageError(
                    f"{item.nodeid} multiplies matrices: name its folder in NUMERIC of the Makefile"
                )


def is_numeric(item: pytest.Item) -> bool:
    """Whether results may depend on the processor: it has a model, or torch, in this process."""
    if "e2e" in item.keywords or not isinstance(item, pytest.Function):
        return False
    return "torch" in vars(item.module) or bool(MODELS & set(item.fixturenames))
