"""A daemon without network, model or clock behind a real socket; see tests/support/view.py."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from peerd.machine.paths import Paths
from tests.support.view import Daemon, FakeView


@pytest.fixture
def home() -> Iterator[Path]:
    """A short home: pytest's own folders are longer than a socket's path may be."""
    with tempfile.TemporaryDirectory(prefix="pd-") as folder:
        yield Path(folder) / "home"


@pytest.fixture
def view() -> FakeView:
    return FakeView(rounds=12)


@pytest.fixture
def daemon(home: Path, view: FakeView) -> Iterator[Daemon]:
    with Daemon(Paths.of(home), view) as running:
        yield running


@pytest.fixture
def make_view() -> type[FakeView]:
    return FakeView


@pytest.fixture
def serve_view() -> type[Daemon]:
    return Daemon


@pytest.fixture
def as_builtins() -> Callable[[object], Any]:
    return msgspec.to_builtins
