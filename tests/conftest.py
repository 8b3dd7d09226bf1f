"""What all tests share: their order, and dice that fall alike in every run."""

from __future__ import annotations

from hypothesis import settings

# The same examples each time, however slow the machine; `pytest --hypothesis-profile default` looks for others.
settings.register_profile("deterministic", derandomize=True, deadline=None)
settings.load_profile("deterministic")


def pytest_collection_modifyitems(items: list) -> None:
    """Real processes first: two workers that share the files would else wait for the last slow one."""
    items.sort(key=lambda item: "e2e" not in item.keywords)
