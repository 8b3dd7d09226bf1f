"""`kill -9` at any moment: the daemon goes on by itself, with the same numbers as a twin that was never killed.

tests/crash kills a lighter daemon hundreds of times; here dies what people run.
"""

import os
import random
import shutil
import signal
import sqlite3
import time

import pytest

from peerd.daemon.resume import own_announcement
from peerd.store.checksum import sealed
from peerd.store.schema import MIGRATIONS
from peerd.store.sqlite import SqliteStore
from peerd.wire.envelope import opened
from peerd.wire.keys import PeerKey
from tests.support.processes import is_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]  # starting daemons takes seconds of CPU time each

ROUNDS = 3
STEPS = 80  # of a round: a second at least, so that a look in every fifth of one finds it training
HUNT = (
    "database.migrate.commit.before=kill",
    "worker.answer.before=kill@2,blob.rename.after=kill",  # trained and not told; then a blob that nothing names
    "worker.collaborate.before=kill,announcement.speak.before=kill@3",  # at the first score; then written, not spoken
)
"""A life each: its worker dies and is replaced, then the daemon dies."""
LONG_HUNT = (
    *HUNT,
    "worker.step.before=kill@40,rows.checkpoint.begin.before=kill",  # in training; then trained and not recorded
    "worker.best.before=kill,handover.merge.after=kill",  # merged, not told; then recorded and not known
)


@pytest.fixture(scope="module")
def poor(town):
    """Has next to no text."""
    home = town.home("poor")
    for file in list((town.folder / "poor-text").iterdir())[1:]:
        file.unlink()
    return home.start()


@pytest.fixture(scope="module")
def twin(town):
    """Runs through; its only bootstrap node is dead, which must not matter."""
    nobody = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD8C3E8c8sFpJ8TbvNjKniZFpCugjiD6HaGootVHnWU1R"
    home = town.home("twin", rounds=ROUNDS, steps_per_round=STEPS, bootstrap=(nobody,))
    PeerKey.load_or_create(home.paths.identity)
    return home.start()


@pytest.fixture(scope="module")
def same(town, twin):
    """Makes a home of the same identity, text and options."""

    def make(name):
        home = town.home(name, rounds=ROUNDS, steps_per_round=STEPS)
        shutil.copy2(twin.paths.identity, home.paths.identity)
        home.change(data=twin.config.data)
        return home

    return make


@pytest.fixture(scope="module")
def killed(same):
    return same("killed").start()


@pytest.fixture(scope="module")
def end(twin):
    """What the twin came to."""
    return ending(twin)


def numbers(records):
    """Everything that does not depend on the clock or the network."""
    return [(r.round, r.loss_train, r.loss_trust, r.guard_own, r.guard_personal, r.row, r.steps) for r in records]


def ending(home):
    """Rounds and checkpoint of a daemon that runs, once it rests and has stopped."""
    home.until(lambda status: status.state == "resting")
    found = numbers(home.rounds())
    assert home.stop() == 0
    return found, home.checkpoint()


def order_of(home):
    """Of its last announcement; (-1, -1) before the first."""
    store = SqliteStore(home.paths.database, epoch=1)
    try:
        own = own_announcement(opened(store.announcement()))
    finally:
        store.close()
    return own.order if own is not None else (-1, -1)


def test_a_killed_daemon_ends_with_the_state_of_its_twin(killed, request):
    killed.until(lambda status: 2 <= status.round <= ROUNDS and status.worker.state == "training")
    (worker,) = killed.children()
    killed.kill()
    assert killed.paths.socket.exists()  # stale
    assert is_gone(worker)
    killed.start()

    assert ending(killed) == request.getfixturevalue("end")


def test_a_dead_bootstrap_node_is_said_and_does_not_matter(twin, end):
    assert "bootstrap node at /ip4/127.0.0.1/tcp/9" in twin.said()
    assert f"training rests: all {ROUNDS} rounds are done" in twin.said()


@pytest.mark.slow
def test_too_little_text_is_the_users_to_mend(poor):
    assert poor.process.wait(60) == 2
    assert "too little text" in poor.said()
    assert "Traceback" not in poor.said()


@pytest.mark.parametrize("hunt", [pytest.param(HUNT, id="short"), pytest.param(LONG_HUNT, id="long")])
@pytest.mark.slow
def test_hunted_from_point_to_point_worker_and_daemon_end_with_the_state_of_the_twin(same, end, hunt):
    hunted, orders = same(f"hunted-{len(hunt)}"), []
    of_the_first_format(hunted.paths.database)
    for fault in hunt:
        assert hunted.start(fault).process.wait(300) == -signal.SIGKILL, hunted.said()
        orders.append(order_of(hunted))
    hunted.start()
    hunted.until(lambda status: status.worker.state == "training")
    os.kill(hunted.children()[0], signal.SIGKILL)
    hunted.until(lambda status: status.worker.restarts == 1)

    assert ending(hunted) == end
    orders.append(order_of(hunted))
    assert orders == sorted(orders)
    assert orders[-1][0] > 7  # after the epoch that the older version wrote: every start begins one (ADR 0017)
    assert {file.name for file in hunted.paths.blobs.iterdir()} >= {end[1].blob, end[1].best_blob}
    most = 2 * 2 + 2 + 1  # two generations of state and best, two updates, and the file that names the generations
    assert len(list(hunted.paths.blobs.iterdir())) <= most
    assert list(hunted.paths.scratch.iterdir()) == []


def of_the_first_format(path):
    """A database as the first version wrote it."""
    database = sqlite3.connect(path)
    for statement in MIGRATIONS[0]:
        database.execute(statement)
    database.execute("INSERT INTO document VALUES ('sequence', ?)", (sealed(b"[7,0]"),))
    database.execute("PRAGMA user_version = 1")
    database.commit()
    database.close()
    path.chmod(0o600)


def kill_at_random(home, cycles, seed):
    """Kill a daemon so often, seconds after its start or at a random point; returns how it was killed, for a report.

    The daemon does not run afterwards. Raises AssertionError where it ends otherwise or uses a number again.
    """
    dice, deaths, before = random.Random(seed), [], (-1, -1)
    for _ in range(cycles):
        fault = f"*=kill@{dice.randint(1, 120)}" if dice.random() < 0.5 else ""
        home.start(fault)
        deadline = time.monotonic() + dice.uniform(0.2, 15.0)
        while home.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if home.process.poll() is None:
            deaths.append("at a moment")
            home.kill()
        else:
            assert home.process.returncode == -signal.SIGKILL, f"seed {seed}: {home.said()}"
            deaths.append(fault)
        if home.paths.database.exists():
            assert order_of(home) >= before, f"seed {seed}"
            before = order_of(home)
    return deaths


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_forty_random_kills_of_the_real_daemon_change_nothing(same, end):
    seed = int(os.environ.get("PEERD_CRASH_SEED", "1"))
    prey = same("prey")
    deaths = kill_at_random(prey, 40, seed)
    prey.start()

    assert ending(prey) == end, f"PEERD_CRASH_SEED={seed}: {deaths}"
