"""A home whose files are others than they were is a copy: restored, moved or cloned. It says so."""

from __future__ import annotations

import shutil

import pytest

from p2pfinetune.names import Round
from peerd.daemon.resume import open_state
from peerd.machine.paths import Paths
from peerd.store.port import Checkpoint

NOW = 1_000_000.0


@pytest.fixture
def paths(tmp_path):
    found = Paths.of(tmp_path / "home")
    found.prepare()
    return found


def opened(paths):
    """The notices of one life, which keeps something beside the blobs as every round does."""
    _store, _, journal = open_state(paths, NOW)
    try:
        journal._generations.keep_checkpoints((Checkpoint(round=Round(7), trained=False, blob="a" * 64),))
        return list(journal.notices)
    finally:
        journal.close()


def test_a_home_that_was_copied_says_so_once_in_each_run_until_it_has_gone_on(paths, tmp_path, caplog):
    assert opened(paths) == opened(paths) == []
    shutil.copytree(paths.home, tmp_path / "backup")
    shutil.rmtree(paths.home)
    (tmp_path / "backup").rename(paths.home)

    (notice,) = opened(paths)
    assert notice.startswith("This home is a copy (restored from a backup, moved or cloned); it goes on with round 7")
    assert notice in caplog.text
    assert opened(paths) == []


def test_a_database_that_is_new_is_said_as_that_and_as_no_copy(paths):
    opened(paths)
    paths.database.unlink()

    assert opened(paths) == []


def test_a_copy_that_has_not_gone_on_is_still_a_copy_at_the_next_start(paths, tmp_path):
    opened(paths)
    shutil.copytree(paths.home, tmp_path / "backup")
    shutil.rmtree(paths.home)
    (tmp_path / "backup").rename(paths.home)
    for _ in range(2):
        _store, _, journal = open_state(paths, NOW)
        journal.close()

        assert len(journal.notices) == 1
