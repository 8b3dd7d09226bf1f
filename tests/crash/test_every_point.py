"""Killed at every fault point, a daemon ends with the state of a twin that nobody killed. `test_random_kills` kills it while it recovers."""

from contextlib import closing

import pytest

from peerd.machine.faults import POINTS
from peerd.store.sqlite import SqliteStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

KILLED = -9
AFTER_OTHER_TROUBLE = {
    # point: what has to go wrong before; each is killed there in a test below or in the one named
    "blob.truncate": "blob.append.before=enospc",
    "blob.aside": "a damaged blob",
    "blob.sweep": "a kill",
    "blob.write": "tests/crash/test_power_loss.py",
    "database.aside": "a damaged database",
    "generations.aside": "a damaged record of checkpoints",
}


@pytest.fixture(scope="module")
def company(light):
    """A twin among others: a friend, and a liar who is banned for it and pardoned."""
    home = light.home(company=True)
    assert home.live("*=trace@1+") == 0, home.said()
    return home


@pytest.fixture(scope="module")
def far(light):
    """A twin whose worker writes to another file system."""
    home = light.home(far=True)
    assert home.live("*=trace@1+") == 0, home.said()
    return home


FIRST, MIDDLE = "the first time", "in the middle of the run"
at_each = pytest.mark.parametrize("when", [FIRST, pytest.param(MIDDLE, marks=pytest.mark.slow)])
"""The middle is a slow test: `test_random_kills` kills there in every run of the tests, at points that dice choose."""


def occurrences(counts, when):
    """A fault for every point, of those that come so often."""
    for point, count in sorted(counts.items()):
        if when == FIRST or count > 1:
            yield f"{point}=kill@{1 if when == FIRST else 1 + count // 2}"


def killed_and_restarted(home, fault):
    """What went wrong before the end; empty where the next start went through."""
    code = home.live(fault)
    if code == 0 and "company" in home.options and not fault.endswith("@1"):
        return []  # others come in another order: a point may be reached less often than by the twin
    if code != KILLED:
        return [f"was not killed but ended with {code}: {home.said()[-2000:]}"]
    if (code := home.live()) != 0:
        return [f"did not start again ({code}): {home.said()[-2000:]}"]
    return []


def all_wrong(light, twin, faults, look):
    found = {}
    for fault in faults:
        home = light.home(**twin.options)
        if wrong := killed_and_restarted(home, fault) or look(home, twin):
            found[fault] = wrong
        home.remove()
    return "\n".join(f"{fault}: {what}" for fault, what in found.items())


def worse(home, twin):
    return home.worse_than(twin)


def broken(home, twin):
    return home.broken(twin)


@at_each
def test_killed_at_every_point_that_a_peer_alone_reaches(light, twin, when):
    assert not all_wrong(light, twin, occurrences(twin.reached(), when), worse)


def test_killed_while_it_copies_from_another_file_system(light, far):
    reached = {point: count for point, count in far.reached().items() if point.startswith("blob.")}
    faults = [fault for when in (FIRST, MIDDLE) for fault in occurrences(reached, when)]

    assert {"blob.copy.before=kill@1", "blob.let_go.after=kill@1"} <= set(faults)
    assert not all_wrong(light, far, faults, worse)


@at_each
def test_killed_at_every_point_that_others_bring_about(light, twin, company, when):
    """What is merged with whom depends on when it arrives, so that only what must never happen is looked for."""
    more = {point: count for point, count in company.reached().items() if point not in twin.reached()}

    assert {"blob.append.before", "rows.ban.commit.after", "rows.seen.begin.before"} <= set(more)
    assert not all_wrong(light, company, occurrences(more, when), broken)


def test_every_point_of_the_daemon_is_killed_at_somewhere(twin, far, company):
    reached = {*twin.reached(), *far.reached(), *company.reached()}
    ours = {point for point in POINTS if not point.startswith("worker.")}

    assert {point.rpartition(".")[0] for point in ours - reached} == set(AFTER_OTHER_TROUBLE)


def test_killed_while_it_sweeps_up_after_a_kill(light, twin):
    for orphan in ("handover.update.after", "blob.folder_sync.after"):
        for when in ("before", "after"):
            home = light.home()
            assert home.live(f"{orphan}=kill@2") == KILLED

            assert not killed_and_restarted(home, f"blob.sweep.{when}=kill")
            assert not worse(home, twin)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_mends_a_torn_write(light, company, when):
    assert not all_wrong(light, company, [f"blob.append.before=enospc,blob.truncate.{when}=kill"], broken)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_sets_a_damaged_blob_aside(light, twin, when):
    home = light.home()
    assert home.live("rows.checkpoint.commit.after=kill@3") == KILLED
    file = home.paths.blobs / home.end_state()[1].blob
    file.write_bytes(bytes(len(file.read_bytes())))

    assert not killed_and_restarted(home, f"blob.aside.{when}=kill")
    assert home.live() == 0
    assert not home.broken(twin)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_sets_a_damaged_database_aside(light, twin, when):
    home = light.home()
    assert home.live("rows.checkpoint.commit.after=kill@3") == KILLED
    home.paths.database.write_bytes(b"\xff" * 200 + home.paths.database.read_bytes()[200:])

    assert not killed_and_restarted(home, f"database.aside.{when}=kill")
    aside = {f"state.db.bak{number}{suffix}" for number in ("", "2") for suffix in ("", "-wal", "-shm")}
    wrong = [what for what in home.broken(twin, files=aside) if not what.startswith("rounds ")]
    records, twins = home.end_state()[0], twin.end_state()[0]
    assert wrong == []
    assert records == twins[-len(records) :]  # the history is lost with the database, what was learnt is not


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_it_sets_a_damaged_record_of_checkpoints_aside(light, twin, when):
    home = light.home()
    assert home.live("rows.checkpoint.commit.after=kill@3") == KILLED
    (home.paths.blobs / "generations").write_bytes(b"damage")

    assert not killed_and_restarted(home, f"generations.aside.{when}=kill")
    assert not home.worse_than(twin)


def test_who_was_banned_stays_banned_wherever_it_is_killed_after_the_ban(light, company):
    home = light.home(company=True, rounds=1)
    assert home.live("rows.ban.commit.after=kill,rows.unban.begin.before=kill") == KILLED
    with closing(SqliteStore(home.paths.database, epoch=1)) as store:
        assert len(store.bans()) == 1
