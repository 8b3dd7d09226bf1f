"""Real processes on a machine that refuses: rights, read-only and full file systems, descriptors, suspension."""

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from p2pfinetune.system import interpreter
from tests.support.daemons import Process

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, PR_CAPBSET_DROP = 1, 2, 24  # linux/capability.h, linux/prctl.h


def as_anybody():
    """In a child before it runs: without root's right to pass by the rights of files."""
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


def ended(daemon, **popen):
    """Exit code and words of a daemon that ends by itself."""
    daemon.start(preexec_fn=as_anybody, **popen)
    return daemon.process.wait(60), daemon.said()


def inside(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


@pytest.fixture
def rights():
    """Changes modes, and changes them back so that the folder can be removed."""
    changed = []

    def change(path, mode):
        changed.append((path, path.stat().st_mode))
        path.chmod(mode)

    yield change
    for path, mode in reversed(changed):
        path.chmod(mode)


@pytest.mark.parametrize("mode", [0o000, 0o500])
def test_a_home_without_the_right_to_write_is_refused_and_nothing_is_made(process, rights, mode):
    daemon = process()
    daemon.folder.mkdir()
    rights(daemon.folder, mode)

    code, said = ended(daemon)
    rights(daemon.folder, 0o700)

    assert code == 2
    assert str(daemon.folder) in said
    assert "--home" in said
    assert "Traceback" not in said
    assert inside(daemon.folder) == set()


def test_a_home_whose_parent_is_missing_is_refused_and_nothing_is_made(process):
    daemon = process()
    daemon.folder = daemon.folder / "on" / "a" / "stick"

    command = [*interpreter.command("-m", "peerd"), "start", "--home", str(daemon.folder), *daemon.options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert f"there is no folder {daemon.folder.parent}" in done.stderr
    assert not daemon.folder.parents[2].exists()


def test_a_cache_that_cannot_be_written_is_refused(process, rights):
    daemon = process()
    (daemon.folder / "cache").mkdir(parents=True)
    daemon.folder.chmod(0o700)
    rights(daemon.folder / "cache", 0o500)

    code, said = ended(daemon)

    assert code == 2
    assert f"cannot write in the folder {daemon.folder / 'cache'}" in said
    assert inside(daemon.folder) == {"cache"}


@pytest.fixture(scope="module")
def ended_home():
    """A home whose daemon ended in order after two rounds."""
    yield from a_home_after(signal.SIGTERM, rounds=0)


@pytest.fixture(scope="module")
def killed_home():
    """A home whose daemon was killed when its only round was done."""
    yield from a_home_after(signal.SIGKILL, rounds=1)


def a_home_after(number, rounds):
    with tempfile.TemporaryDirectory(prefix="peerd-") as folder:
        daemon = Process(Path(folder), rounds=rounds).start()
        daemon.until(lambda status: status.round >= 2)
        daemon.end(number)
        yield daemon.folder


def of_a_copy(daemon, home):
    """A daemon that goes on in a copy of a home."""
    shutil.copytree(home, daemon.folder, ignore=shutil.ignore_patterns("*.sock"))
    return daemon


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("config.toml", b"", "there is no text to learn from"),
        ("config.toml", b"name = 'a'\n\xff\xfe\n", "line 2"),
        ("identity.key", bytes(36), "the identity key"),
        ("identity.key", None, "is gone"),
        # what a file says is read in this process by tests/peerd and tests/fuzz; that it is told is shown above
        pytest.param("config.toml", bytes(200), "line 1", marks=pytest.mark.slow),
        pytest.param("config.toml", b"name = 'a'\nrank = \n", "line 2", marks=pytest.mark.slow),
        pytest.param("config.toml", b"name = 'a'\nrank = 'eight'\n", "rank", marks=pytest.mark.slow),
        pytest.param("config.toml", b"name = 'a'\nto_come = 1\n", "to_come", marks=pytest.mark.slow),
        pytest.param("identity.key", b"", "the identity key", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_file_that_only_its_owner_can_mend_ends_the_start_with_advice(
    process, ended_home, file, content, says
):
    daemon = of_a_copy(process(), ended_home)
    if file == "config.toml":
        daemon.options = []
    path = daemon.folder / file
    path.unlink() if content is None else path.write_bytes(content)
    before = inside(daemon.folder)

    code, words = ended(daemon)

    assert code == 2
    assert says in words
    assert "Traceback" not in words
    assert inside(daemon.folder) == before
    assert content is None or path.read_bytes() == content


OF_THE_MOMENT = ("peerd.lock", "peerd.log", "scratch/1-1.checkpoint", "state.db-wal")


@pytest.mark.parametrize(
    "content", [b"", bytes(300), os.urandom(300), None], ids=["emptied", "zeroed", "noise", "gone"]
)
@pytest.mark.parametrize(
    "files",
    [OF_THE_MOMENT, *(pytest.param((file,), marks=pytest.mark.slow) for file in OF_THE_MOMENT)],
    ids=["all of them", *OF_THE_MOMENT],
)
def test_files_of_the_moment_may_be_damaged_without_anybody_noticing(process, killed_home, files, content):
    daemon = of_a_copy(process(rounds=1), killed_home)
    for file in files:
        path = daemon.folder / file
        path.unlink(missing_ok=True) if content is None else path.write_bytes(content)

    daemon.start()
    assert daemon.until(lambda status: status.state == "resting").round == 2
    assert daemon.end()[0] == 0
    assert "Traceback" not in daemon.said()


def namespace(command):
    """A wrapper that runs `command` and then what follows it, with mounts of its own."""
    probe = subprocess.run(
        ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m none /mnt"], capture_output=True, check=False
    )
    if not shutil.which("unshare") or probe.returncode:
        pytest.skip("this machine makes no mount namespaces: a real small file system cannot be tried")
    return ["unshare", "-rm", "sh", "-c", f'{command} && exec "$@"', "sh"]


def on_a_small_disk(daemon):
    """Start it with its home on a file system of 16 MiB; returns the home as it can be seen from outside."""
    daemon.folder.mkdir()
    daemon.start(wrap=namespace(f"mount -t tmpfs -o size=16m,mode=700 none {daemon.folder}"))
    home = Path(f"/proc/{daemon.process.pid}/root{daemon.folder}")
    daemon.paths = type(daemon.paths).of(home)
    return home


def fill(file):
    """Until nothing more can be written."""
    with file.open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))


def test_a_full_file_system_stops_no_daemon_and_loses_nothing(process):
    daemon = process(rounds=0, steps_per_round=1, patience=100000)
    home = on_a_small_disk(daemon)
    daemon.until(lambda status: status.round >= 3)

    fill(home / "filler")
    status = daemon.until(lambda status: not status.health.ok and len(status.health.reasons) >= 2)
    stuck = daemon.status().round
    (home / "filler").unlink()
    daemon.until(lambda status: status.round >= stuck + 3 and status.health.ok)
    rounds = [record.round for record in daemon.rounds()]
    code, seconds = daemon.end()

    assert any("MiB are free" in reason for reason in status.health.reasons)
    assert any("No space left" in reason or "disk is full" in reason for reason in status.health.reasons)
    assert rounds == list(range(rounds[0], rounds[0] + len(rounds)))  # the last so many
    assert (code, seconds < 15) == (0, True)
    assert "Traceback" not in daemon.said()
    assert "Logging error" not in daemon.said()


def test_a_daemon_on_a_full_file_system_ends_in_time(process):
    daemon = process(rounds=0, steps_per_round=1, patience=100000)
    home = on_a_small_disk(daemon)
    daemon.until(lambda status: status.round >= 2)
    fill(home / "filler")
    daemon.until(lambda status: not status.health.ok)

    code, seconds = daemon.end()

    assert (code, seconds < 15) == (0, True)
    assert "Traceback" not in daemon.said()


def test_a_read_only_home_is_refused_at_the_start(process):
    daemon = process()
    daemon.folder.mkdir()

    code = daemon.start(wrap=namespace(f"mount -t tmpfs -o ro,mode=700 none {daemon.folder}")).process.wait(60)

    assert code == 2
    assert f"cannot write in the folder {daemon.folder}" in daemon.said()
    assert "Traceback" not in daemon.said()


def test_descriptors_that_run_out_are_said_and_the_rounds_go_on_when_there_are_some_again(process):
    limit = 48
    daemon = process(rounds=0, steps_per_round=1, patience=100000)
    daemon.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    daemon.until(lambda status: status.round >= 2)
    with contextlib.ExitStack() as callers:
        for _ in range(2 * limit):
            caller = callers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            caller.settimeout(0.05)
            with contextlib.suppress(OSError):
                caller.connect(str(daemon.paths.socket))
        deadline = time.monotonic() + 100
        while "file descriptors are open" not in daemon.said() and time.monotonic() < deadline:
            assert daemon.process.poll() is None, daemon.said()
            time.sleep(0.1)
    stuck = daemon.until(lambda status: True).round

    daemon.until(lambda status: status.round >= stuck + 3 and status.health.ok)
    rounds = [record.round for record in daemon.rounds()]
    assert rounds == list(range(rounds[0], rounds[0] + len(rounds)))  # the last so many
    assert daemon.end()[0] == 0
    assert f"of {limit} file descriptors are open" in daemon.said()


def test_a_suspended_daemon_goes_on_where_it_was_and_blames_nobody(process):
    daemon = process(rounds=0, steps_per_round=1, patience=100000)
    daemon.start()
    before = daemon.until(lambda status: status.round >= 2)
    children = daemon.children()
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    daemon.process.send_signal(signal.SIGCONT)

    after = daemon.until(lambda status: status.round >= before.round + 3)

    assert after.worker.restarts == 0
    assert daemon.children() == children
    assert after.banned == []
