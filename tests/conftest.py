"""What all tests share: their order."""

from __future__ import annotations


def pytest_collection_modifyitems(items: list) -> None:
    """Real processes first: two workers that share the files would else wait for the last slow one."""
    items.sort(key=lambda item: "e2e" not in item.keywords)
