"""A type that two threads decode for the first time, one of them while the other works it out."""

from __future__ import annotations

import asyncio
import importlib
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import peerd.daemon.assembly
import peerd.daemon.perform  # what a daemon has imported
from p2pfinetune.system import interpreter
from peerd.config import Config
from peerd.control.verbs import DATA
from peerd.errors import PeerdError
from peerd.machine import known_types
from peerd.machine.paths import Paths
from peerd.status import RoundRecord
from peerd.wire import messages

TWO_THREADS = """
from __future__ import annotations
import sys, threading
import msgspec
from peerd.machine import known_types

midway, go_on = threading.Event(), threading.Event()

def slow():
    midway.set()
    go_on.wait(1.0)
    return int

class Inner(msgspec.Struct):
    a: slow()

class Outer(msgspec.Struct):
    inner: Inner

if sys.argv[1] == "known":
    go_on.set()
    known_types.OURS = ("__main__",)
    known_types.work_out()
    midway.clear()
first = threading.Thread(target=msgspec.json.decode, args=(b'{"inner": {"a": 1}}',), kwargs={"type": Outer})
first.start()
midway.wait(0.2)
print(msgspec.json.decode(b'{"inner": {"a": 1}}', type=Outer).inner.a)
go_on.set()
first.join()
"""


def two_threads(how: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*interpreter.command("-c", TWO_THREADS), how], capture_output=True, text=True, check=False, timeout=60
    )


def test_a_type_that_is_known_is_decoded_by_two_threads_at_once() -> None:
    assert (two_threads("known").returncode, two_threads("known").stdout) == (0, "1\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the signal of a null pointer differs")
def test_one_that_is_not_known_ends_the_process_which_is_why_known_types_exists() -> None:
    assert two_threads("unknown").returncode == -signal.SIGSEGV


def test_all_that_a_daemon_reads_is_known_before_its_threads_begin() -> None:
    ours = set(known_types.structs(msgspec.Struct))

    assert {RoundRecord, messages.Announcement, *DATA.values()} - {dict[str, str]} <= ours
    unknown = {kind.__name__ for kind in ours if not known_types.is_known(kind)}
    assert unknown <= {"Envelope", "Heard", "Replayed"}  # made by us alone: no bytes are decoded as one
    assert known_types.work_out() == len(ours) - len(unknown)


def test_a_daemon_and_a_client_know_all_types_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CalledError(PeerdError):
        """Stands for the first thing done."""

    def called() -> int:
        raise CalledError("first")

    monkeypatch.setattr(known_types, "work_out", called)
    with pytest.raises(CalledError):
        asyncio.run(peerd.daemon.assembly.run(Paths.of(tmp_path / "home"), Config()))
    assert not (tmp_path / "home").exists()
    monkeypatch.delitem(sys.modules, "peerd.control.client", raising=False)
    with pytest.raises(CalledError):
        importlib.import_module("peerd.control.client")
