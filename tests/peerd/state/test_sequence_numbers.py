"""No announcement's number is given twice, whatever of the last commits a crash, a lost log or a lost file takes back."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peerd.daemon.resume import open_state
from peerd.errors import StoreError
from peerd.machine.paths import Paths
from peerd.store.generations import NAME, Generations
from peerd.store.limits import SEQUENCE_BLOCK

NOW = 1_000_000.0
LIVES = st.lists(
    st.tuples(
        st.sampled_from([1, 2, SEQUENCE_BLOCK, SEQUENCE_BLOCK + 1]),
        st.sampled_from(["nothing", "the database's last commits", "the database", "the record"]),
        st.sampled_from([0.0, -3600.0, 3600.0]),
    ),
    min_size=2,
    max_size=4,
)


def given_in(paths, unix, count):
    """Numbers of one life that ends in order, so that the database is one file."""
    _store, _, journal = open_state(paths, unix)
    try:
        return [asyncio.run(journal.next_order()) for _ in range(count)]
    finally:
        journal.close()


@pytest.fixture
def paths(tmp_path):
    found = Paths.of(tmp_path / "home")
    found.prepare()
    return found


@settings(max_examples=25, deadline=None)
@given(LIVES)
def test_no_number_is_given_twice_whatever_one_of_the_two_files_loses(lives):
    orders = []
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # no power is cut here: nothing to wait for
    with tempfile.TemporaryDirectory(prefix="peerd-", dir=memory) as folder:
        paths, before = Paths.of(Path(folder) / "home"), Path(folder) / "before"
        paths.prepare()
        given_in(paths, NOW, 0)
        for count, lost, clock in lives:
            shutil.copy(paths.database, before)
            orders += given_in(paths, NOW + clock, count)
            match lost:
                case "the database's last commits":
                    shutil.copy(before, paths.database)
                case "the database":
                    paths.database.unlink()
                    given_in(paths, NOW + clock, 0)
                case "the record":
                    (paths.blobs / NAME).unlink()

    assert orders == sorted(set(orders))


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 3), st.integers(0, 4), st.sampled_from([0.0, 1e-5, 3600.0])), min_size=2, max_size=5
    )
)
def test_no_number_is_given_twice_whichever_old_copy_of_the_home_is_restored(lives):
    """As long as the clock goes on: from the copy alone, nobody can know what was said after it was made."""
    orders, now = [], NOW
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="peerd-", dir=memory) as folder:
        paths, copies = Paths.of(Path(folder) / "home"), []
        paths.prepare()
        for count, which, pause in lives:
            now += 1e-5 + pause
            orders += given_in(paths, now, count)
            copies.append(Path(folder) / f"copy-{len(copies)}")
            shutil.copytree(paths.home, copies[-1])
            shutil.rmtree(paths.home)
            shutil.copytree(copies[which % len(copies)], paths.home)

    assert orders == sorted(set(orders))


def test_the_record_is_written_once_for_a_block_of_numbers(paths, monkeypatch):
    written, save = [], Generations.save
    monkeypatch.setattr(Generations, "save", lambda self, kept: written.append(kept.order) or save(self, kept))

    orders = given_in(paths, NOW, 2 * SEQUENCE_BLOCK)

    assert written == [orders[SEQUENCE_BLOCK - 1], orders[-1]]


def test_no_number_is_given_until_the_record_of_its_block_is_written(paths, monkeypatch):
    def refuse(*_):
        raise StoreError("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Generations, "save", refuse)
        for _ in range(2):
            with pytest.raises(StoreError):
                given_in(paths, NOW, 1)

    (order,) = given_in(paths, NOW, 1)
    assert Generations(paths.blobs).kept.order >= order
