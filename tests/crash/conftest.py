"""Lives of the light daemon, and what must hold of a home whatever happened to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from peerd.daemon.resume import own_announcement
from peerd.machine.paths import Paths
from peerd.store.port import Checkpoint
from peerd.store.sqlite import SqliteStore
from peerd.wire.envelope import opened


class Light:
    """The place that daemons are forked from."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.folder, self.made = folder, 0
        self.options: dict[str, Any] = {}
        (folder / "text").mkdir(exist_ok=True)
        script = str(Path(__file__).parent / "light.py")
        self.process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )

    def home(self, **options: Any) -> LightHome:
        self.made += 1
        return LightHome(self, self.folder / str(self.made), {**self.options, **options})

    def ordered(self, order: dict[str, Any]) -> int:
        """The exit code of one life."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate(timeout=100)


class LightHome:
    """One daemon's folder, over its lives."""

    def __init__(self, light: Light, folder: Path, options: dict[str, Any]) -> None:
        self.light, self.folder, self.options, self.paths = light, folder, options, Paths.of(folder)

    def live(self, fault: str = "", **more: Any) -> int:
        """One life; its exit code."""
        order = {"home": str(self.folder), "fault": fault, **self.options, **more}
        return self.light.ordered(order)

    def said(self) -> str:
        return self.folder.with_suffix(".out").read_text()

    def reached(self) -> Counter[str]:
        """How often each point was, in lives with `*=trace`."""
        words = [line.split() for line in self.said().splitlines()]
        return Counter(word[1] for word in words if len(word) == 2 and word[0] == "reached")

    def spoken(self) -> list[tuple[int, int]]:
        """(epoch, sequence) of every announcement that any life spread, in order; one said again counts once."""
        told = self.folder.with_suffix(".spoken")
        lines = told.read_text().splitlines() if told.exists() else []
        return [(epoch, sequence) for epoch, sequence, *_ in map(json.loads, dict.fromkeys(lines))]

    def end_state(self) -> tuple[list[tuple[str, ...]], Checkpoint]:
        """What two runs of the same rounds must have in common."""
        store = SqliteStore(self.paths.database, epoch=1)
        try:
            records = [
                (
                    r.round,
                    r.loss_train,
                    r.loss_trust,
                    r.guard_own,
                    r.guard_personal,
                    r.row.values(),
                    r.accepted,
                    r.steps,
                )
                for r in store.rounds()
            ]
            kept = store.checkpoint()
            assert kept is not None
            checkpoint = replace(kept, peer=None)  # whose identity is its own in each home
            return [tuple(map(str, record)) for record in records], checkpoint
        finally:
            store.close()

    def left(self) -> set[str]:
        """Names of the files in the home, but not of blobs."""
        return {
            str(file.relative_to(self.folder))
            for file in self.folder.rglob("*")
            if file.is_file() and file.parent != self.paths.blobs
        }

    def blobs(self) -> set[str]:
        """Those set aside for being damaged do not count: a few are kept."""
        return {file.name for file in self.paths.blobs.iterdir() if file.suffix != ".damaged"}

    def broken(self, twin: LightHome, files: Collection[str] = ()) -> list[str]:
        """What must never be, whatever the timing: a number used twice, rounds missing, things lost or left behind."""
        found = []
        spoken, (records, kept) = self.spoken(), self.end_state()
        if spoken != sorted(set(spoken)):
            found.append(f"sequence numbers {spoken}")
        if [record[0] for record in records] != [record[0] for record in twin.end_state()[0]]:
            found.append(f"rounds {records}")
        if lost := {str(kept.blob), str(kept.best_blob), self.own_blob()} - self.blobs():
            found.append(f"lost blobs {lost}")
        blobs = self.blobs() - set(files)
        if len(blobs) > len(twin.blobs()) or any("." in name for name in blobs):
            found.append(f"orphans among blobs {blobs}")
        if more := self.left() - twin.left() - set(files):
            found.append(f"files left behind {more}")
        return found

    def worse_than(self, twin: LightHome) -> list[str]:
        """The same, and everything in which its end is not that of its twin to the bit."""
        found, state, twins = self.broken(twin), self.end_state(), twin.end_state()
        if state != twins:
            found.append(f"ended with {state}\n   instead of {twins}")
        if more := self.blobs() - twin.blobs():
            found.append(f"orphan blobs {more}")
        return found

    def own_blob(self) -> str:
        """Of the last announcement."""
        store = SqliteStore(self.paths.database, epoch=1)
        try:
            kept = store.announcement()
            assert kept is not None
            own = own_announcement(opened(kept))
            assert own is not None
            return own.blob
        finally:
            store.close()

    def remove(self) -> None:
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def make_light() -> Iterator[Callable[..., Light]]:
    """What makes one, with arguments of `light.py`."""
    # in memory where that can be: a killed process loses nothing that it wrote, and hundreds of lives wait for no disk
    memory, made = Path("/dev/shm"), list[Light]()

    def make(*arguments: str) -> Light:
        folder = Path(tempfile.mkdtemp(prefix="peerd-", dir=memory if os.access(memory, os.W_OK) else None))
        made.append(Light(folder, *arguments))
        return made[-1]

    yield make
    for light in made:
        light.end()
        shutil.rmtree(light.folder)


@pytest.fixture(scope="module")
def light(make_light: Callable[..., Light]) -> Light:
    return make_light()


@pytest.fixture(scope="module")
def twin(light: Light) -> LightHome:
    """Never killed, and says which points it reached."""
    home = light.home()
    assert home.live("*=trace@1+") == 0, home.said()
    return home
