from __future__ import annotations

import resource
from pathlib import Path

import pytest

from peerd.errors import UsageError
from peerd.machine.shortages import GOOD_DESCRIPTORS, MIN_DESCRIPTORS, grant_descriptors, low_disk

NO_LIMIT = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("limits", "granted"),
    [
        ((256, NO_LIMIT), (GOOD_DESCRIPTORS, NO_LIMIT)),
        ((256, 1024), (1024, 1024)),
        ((GOOD_DESCRIPTORS, NO_LIMIT), None),
        ((65_536, 65_536), None),
        ((NO_LIMIT, NO_LIMIT), None),
        ((MIN_DESCRIPTORS, MIN_DESCRIPTORS), None),
    ],
)
def test_the_limit_on_open_files_is_raised_as_far_as_is_good_and_allowed(
    limits: tuple[int, int], granted: tuple[int, int] | None
) -> None:
    asked: list[tuple[int, int]] = []
    grant_descriptors(limits, lambda _, wanted: asked.append(wanted))

    assert asked == ([granted] if granted else [])


def test_too_few_descriptors_are_refused_with_the_command_that_raises_the_limit() -> None:
    with pytest.raises(UsageError, match="may open 24 files") as told:
        grant_descriptors((24, 24), lambda *_: None)

    assert "ulimit -n" in told.value.hint


def test_a_system_that_refuses_more_is_lived_with() -> None:
    def refuse(*_: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    grant_descriptors((256, 1024), refuse)


def test_a_folder_that_is_gone_is_no_trouble_of_its_disk(tmp_path: Path) -> None:
    assert low_disk(tmp_path / "cache" / "gone") == low_disk(tmp_path)
