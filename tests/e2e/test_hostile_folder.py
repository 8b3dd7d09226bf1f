"""Somebody stands in a folder that others can write to, full of files that Python would take for modules."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peerd.demo.processes import bootstrap_address, spawn, stop

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

TRAP = "from pathlib import Path\nPath(__file__).with_suffix('.sprung').touch()\n"
NAMES = ("json", "torch", "typing", "random", "asyncio", "peerd", "p2pfinetune", "bootstrap", "libp2p", "sitecustomize")
SMALL = ["--total-steps=8", "--steps-per-round=1", "--batch-size=1", "--context=32", "--threads=1", "--rank=2"]


@pytest.fixture
def folder(tmp_path):
    """With a text in it, named as one names it there."""
    found = tmp_path / "shared"
    found.mkdir()
    for name in NAMES:
        (found / f"{name}.py").write_text(TRAP)
    (found / "text").mkdir()
    for number in range(80):
        words = (f"the {number} {word} stood by the river and waited for word {word * 7 % 53}" for word in range(12))
        (found / "text" / f"{number}.txt").write_text(" ".join(words))
    return found


def sprung(folder):
    return sorted(path.name for path in folder.glob("*.sprung"))


def typed(folder, *words):
    """A command, typed in that folder, until it ends; with what a careless profile adds to the search path."""
    program = str(Path(sys.executable).with_name("peerd"))
    return subprocess.run(
        [program, *words, "--json"], cwd=folder, capture_output=True, text=True, check=False, timeout=250
    )


@pytest.mark.slow  # test_start_detached does the same in a folder full of traps
def test_neither_daemon_nor_worker_runs_what_lies_in_the_folder_it_is_started_in(folder, tmp_path, monkeypatch):
    home = str(tmp_path / "home")
    started = typed(folder, "start", "--home", home, "--data", "text", *SMALL, "--detach")
    try:
        assert started.returncode == 0, started.stderr
        pid = json.loads(started.stdout)["data"]["pid"]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        stand_in = {str(Path(f"/proc/{one}/cwd").readlink()) for one in (pid, *children)}
    finally:
        stopped = typed(folder, "stop", "--home", home)

    assert stopped.returncode == 0
    assert (len(children), stand_in) == (1, {"/"})
    assert sprung(folder) == []


@pytest.mark.slow
def test_nor_does_a_daemon_in_the_foreground(folder, tmp_path):
    (folder / "little").mkdir()
    (folder / "little" / "a.txt").write_text("too little")  # which the worker finds, once it has loaded everything
    ended = typed(folder, "start", "--home", str(tmp_path / "home"), "--data", "little", *SMALL)

    assert ended.returncode == 2
    assert "too little text" in ended.stderr
    assert sprung(folder) == []


def test_nor_do_the_processes_of_the_demo(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["bootstrap", "start", "--listen", "/ip4/127.0.0.1/tcp/0", "--home", str(tmp_path / "b"), "--json"]

    async def run():
        child = await spawn("bootstrap", words, tmp_path / "b.log", keep=False)
        try:
            return await bootstrap_address(child), os.readlink(f"/proc/{child.process.pid}/cwd")  # noqa: PTH115  # not in a loop
        finally:
            await stop(child)

    address, stands_in = asyncio.run(run())

    assert address.startswith("/ip4/127.0.0.1/tcp/")
    assert (stands_in, sprung(folder)) == ("/", [])


def test_nor_does_the_bootstrap_node(folder, tmp_path):
    program = str(Path(sys.executable).with_name("peerd-bootstrap"))
    command = [program, "start", "--listen", "/ip4/127.0.0.1/tcp/0", "--home", str(tmp_path / "b"), "--json"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while (line := process.stdout.readline().rstrip()) not in {"}", ""} and not line.endswith("}"):
            continue
        stands_in = str(Path(f"/proc/{process.pid}/cwd").readlink())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)

    assert (process.returncode, stands_in) == (0, "/")
    assert sprung(folder) == []
