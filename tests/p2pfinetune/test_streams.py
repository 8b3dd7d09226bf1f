"""Standard streams that are closed, gone or full, of processes of their own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfinetune.system import streams

BARE = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""With PYTHONIOENCODING a terminal that is not UTF-8, whichever locales the machine has."""
SETTLED = "import os, sys; from p2pfinetune.system import streams; streams.settle(); "


def run(code: str, redirected: str = "") -> subprocess.CompletedProcess[str]:
    """In a shell, which can close a stream or send it anywhere. What the code tells, it tells by its exit code."""
    command = ["bash", "-c", f'"$0" -c "$1" {redirected}', sys.executable, SETTLED + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_what_is_closed_is_the_null_device_for_us_and_our_children(closed: str) -> None:
    check = (
        "null = os.stat(os.devnull); print('out'); print('err', file=sys.stderr); sys.stdin.read() if {n} == 0 else 0;"
        "sys.exit(7 if os.path.samestat(os.fstat({n}), null) and os.get_inheritable({n}) else 1)"
    )
    number = {"<": 0, ">": 1, "2": 2}[closed[0]]

    assert run(check.format(n=number), closed).returncode == 7


def test_a_file_opened_later_never_gets_the_number_of_a_standard_stream() -> None:
    assert run("sys.exit(os.open('/', os.O_RDONLY))", "<&- >&- 2>&-").returncode > 2


@pytest.mark.parametrize("to", ["> /dev/full", "2> /dev/full", "> /dev/full 2>&1"])
def test_a_full_disk_changes_no_exit_code_and_prints_no_traceback(to: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    done = run("print('x' * 100_000); print('y', file=sys.stderr); sys.exit(3)", to)

    assert done.returncode == 3
    assert "rror" not in done.stdout + done.stderr


def test_a_reader_that_left_changes_no_exit_code_and_prints_no_traceback() -> None:
    done = run("[print('x' * 1000, flush=True) for _ in range(1000)]; sys.exit(3)", "| true; exit ${PIPESTATUS[0]}")

    assert (done.returncode, done.stderr) == (3, "")


def test_why_a_write_was_lost_is_remembered_once_it_was_flushed() -> None:
    told = f"print(1); sys.stdout.flush(); sys.exit(streams.lost(sys.stdout).errno == {errno.ENOSPC})"

    assert run(told, "> /dev/full").returncode == 1
    assert run("print(1); sys.stdout.flush(); sys.exit(streams.lost(sys.stdout) is None)").returncode == 1


def test_a_stream_that_is_there_is_as_it_was() -> None:
    before = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "latin-1:replace"}
    code = SETTLED + "streams.settle(); print('\u00e9 \u2014', sys.stdout.write_through, sys.stdout.fileno())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ, **before})

    assert done.stdout.decode("latin-1") == "\u00e9 ? True 1\n"


def test_streams_that_nobody_settled_have_lost_nothing() -> None:
    assert streams.lost(sys.stdout) is None
    assert streams.lost(None) is None


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "cp1252", "koi8-r"])
def test_a_terminal_that_is_not_utf8_gets_plain_signs_for_what_it_has_none_for(encoding: str) -> None:
    code = f"print({'a – b… 80 % → é ─┃█ 名'!a}); print({'–'!a}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", SETTLED + code],
        env={**BARE, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=True,
        timeout=60,
    )

    told = done.stdout.decode(encoding)
    assert told.startswith("a ")
    assert "80 %" in told
    assert told.endswith("?\n")
    assert done.stderr
    if encoding == "ascii":
        assert told == "a - b... 80 % -> e -|# ?\n"


def test_a_name_of_a_file_that_is_no_text_is_told_on_a_utf8_terminal_too() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SETTLED + r"print(os.fsdecode(b'caf\xe9'))"],
        env={**BARE, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
        timeout=60,
    )

    assert done.stdout == b"caf?\n"
