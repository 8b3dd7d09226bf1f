"""Lives of the light daemon, and what must hold of a home whatever happened to them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from msgspec.structs import replace

from peerd.daemon.resume import own_announcement
from peerd.machine.paths import Paths
from peerd.store.sqlite import SqliteStore


class Light:
    """The place that daemons are forked from."""

    def __init__(self, folder, *arguments):
        self.folder, self.made, self.options = folder, 0, {}
        (folder / "text").mkdir(exist_ok=True)
        script = str(Path(__file__).parent / "light.py")
        self.process = subprocess.Popen(
            [sys.executable, script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )

    def home(self, **options):
        self.made += 1
        return LightHome(self, self.folder / str(self.made), {**self.options, **options})

    def end(self):
        self.process.stdin.close()
        self.process.wait(100)
        self.process.stdout.close()


class LightHome:
    """One daemon's folder, over its lives."""

    def __init__(self, light, folder, options):
        self.light, self.folder, self.options, self.paths = light, folder, options, Paths.of(folder)

    def live(self, fault="", **more):
        """One life; its exit code."""
        order = {"home": str(self.folder), "fault": fault, **self.options, **more}
        self.light.process.stdin.write(json.dumps(order) + "\n")
        self.light.process.stdin.flush()
        return int(self.light.process.stdout.readline())

    def said(self):
        return self.folder.with_suffix(".out").read_text()

    def reached(self):
        """How often each point was, in lives with `*=trace`."""
        words = [line.split() for line in self.said().splitlines()]
        return Counter(word[1] for word in words if len(word) == 2 and word[0] == "reached")

    def spoken(self):
        """(epoch, sequence) of every announcement that any life spread, in order; one said again counts once."""
        told = self.folder.with_suffix(".spoken")
        lines = told.read_text().splitlines() if told.exists() else []
        return [tuple(json.loads(line)[:2]) for line in dict.fromkeys(lines)]

    def end_state(self):
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
            checkpoint = replace(store.checkpoint(), peer=None)  # whose identity is its own in each home
            return [tuple(map(str, record)) for record in records], checkpoint
        finally:
            store.close()

    def left(self):
        """Names of the files in the home, but not of blobs."""
        return {
            str(file.relative_to(self.folder))
            for file in self.folder.rglob("*")
            if file.is_file() and file.parent != self.paths.blobs
        }

    def blobs(self):
        """Those set aside for being damaged do not count: a few are kept."""
        return {file.name for file in self.paths.blobs.iterdir() if file.suffix != ".damaged"}

    def broken(self, twin, files=()):
        """What must never be, whatever the timing: a number used twice, rounds missing, things lost or left behind."""
        found = []
        spoken, (records, kept) = self.spoken(), self.end_state()
        if spoken != sorted(set(spoken)):
            found.append(f"sequence numbers {spoken}")
        if [record[0] for record in records] != [record[0] for record in twin.end_state()[0]]:
            found.append(f"rounds {records}")
        if lost := {kept.blob, kept.best_blob, self.own_blob()} - self.blobs():
            found.append(f"lost blobs {lost}")
        blobs = self.blobs() - set(files)
        if len(blobs) > len(twin.blobs()) or any("." in name for name in blobs):
            found.append(f"orphans among blobs {blobs}")
        if more := self.left() - twin.left() - set(files):
            found.append(f"files left behind {more}")
        return found

    def worse_than(self, twin):
        """The same, and everything in which its end is not that of its twin to the bit."""
        found, state, twins = self.broken(twin), self.end_state(), twin.end_state()
        if state != twins:
            found.append(f"ended with {state}\n   instead of {twins}")
        if more := self.blobs() - twin.blobs():
            found.append(f"orphan blobs {more}")
        return found

    def own_blob(self):
        """Of the last announcement."""
        store = SqliteStore(self.paths.database, epoch=1)
        try:
            return own_announcement(store.announcement()).blob
        finally:
            store.close()

    def remove(self):
        shutil.rmtree(self.folder)


@pytest.fixture(scope="module")
def make_light():
    """What makes one, with arguments of `light.py`."""
    # in memory where that can be: a killed process loses nothing that it wrote, and hundreds of lives wait for no disk
    memory, made = Path("/dev/shm"), []

    def make(*arguments):
        folder = Path(tempfile.mkdtemp(prefix="peerd-", dir=memory if os.access(memory, os.W_OK) else None))
        made.append(Light(folder, *arguments))
        return made[-1]

    yield make
    for light in made:
        light.end()
        shutil.rmtree(light.folder)


@pytest.fixture(scope="module")
def light(make_light):
    return make_light()


@pytest.fixture(scope="module")
def twin(light):
    """Never killed, and says which points it reached."""
    home = light.home()
    assert home.live("*=trace@1+") == 0, home.said()
    return home
