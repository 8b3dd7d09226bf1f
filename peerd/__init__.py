"""The daemon. `from peerd import Client` asks a running one; importing this package loads nothing heavy."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peerd.control.client import AsyncClient, Client

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> Any:
    if name in {"AsyncClient", "Client"}:
        return getattr(importlib.import_module("peerd.control.client"), name)
    raise AttributeError(f"module 'peerd' has no attribute {name!r}")
