"""What stands behind the boundary: failures are recorded, and only what is fatal comes out."""

import ast
import asyncio
import itertools
from pathlib import Path

import pytest

from peerd.errors import StoreError, Unforeseen, UsageError
from peerd.machine import boundary
from peerd.machine.boundary import Failures, Guarded, Tasks, described, for_good, lasting, never, once, ours, unforeseen
from peerd.pacing import Backoff

SOON = Backoff(first=0.0, longest=0.0)


def counting():
    seconds = itertools.count()
    return Failures(lambda: float(next(seconds)))


def failing(times, error=None):
    """A task that fails so often, then ends; and how often it was begun."""
    begun = []

    async def run():
        begun.append(1)
        if len(begun) <= times:
            raise error or ZeroDivisionError("surprise")

    return run, begun


def test_a_lasting_task_is_begun_again_after_each_failure_until_it_ends():
    failures, (run, begun) = counting(), failing(3)
    told = []

    async def before_again(reason):
        told.append(reason)

    asyncio.run(lasting("watch", run, failures, before_again=before_again, pauses=SOON))

    assert len(begun) == 4
    assert told == ["ZeroDivisionError: surprise"] * 3
    assert failures.now().counts == {"watch": 3}


def test_the_pauses_between_failures_grow_and_a_steady_run_forgets_them(monkeypatch):
    slept, lasted, now = [], iter([1.0, 1.0, 100.0, 1.0]), [0.0]

    async def sleep(pause):
        slept.append(pause)

    async def run():
        for seconds in lasted:
            now[0] += seconds
            raise ZeroDivisionError

    monkeypatch.setattr(boundary.asyncio, "sleep", sleep)

    asyncio.run(lasting("watch", run, Failures(lambda: now[0])))

    assert slept == [0.1, 0.2, 0.1, 0.2]


def test_what_fails_between_two_runs_is_one_failure_more():
    failures, (run, begun) = counting(), failing(1)
    told = iter([ValueError("not now"), None])

    async def before_again(_):
        if (error := next(told)) is not None:
            raise error

    asyncio.run(lasting("worker", run, failures, before_again=before_again, pauses=SOON))

    assert len(begun) == 2
    assert failures.now().counts == {"worker": 2}


@pytest.mark.parametrize("error", [UsageError("no text"), ExceptionGroup("", [UsageError("no text")])])
def test_what_only_a_person_can_mend_comes_out_as_it_is(error):
    run, _ = failing(1, error)

    with pytest.raises(type(error)):
        asyncio.run(lasting("worker", run, counting(), fatal=ours))


def test_what_is_fatal_and_unforeseen_comes_out_with_words_and_the_next_command():
    run, _ = failing(1)

    with pytest.raises(Unforeseen, match="network failed") as raised:
        asyncio.run(lasting("network", run, counting(), fatal=lambda _: True))

    assert raised.value.exit_code == 1
    assert "peerd start" in raised.value.hint


def test_a_task_that_is_cancelled_is_no_failure():
    failures = counting()

    async def scenario():
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(lasting("watch", asyncio.Event().wait, failures))
            await asyncio.sleep(0)
            task.cancel()
        assert task.cancelled()

    asyncio.run(scenario())

    assert failures.now().counts == {}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), BaseExceptionGroup("", [SystemExit(1)])])
def test_a_process_that_is_told_to_leave_leaves(error):
    with pytest.raises(type(error)), Guarded("effect", counting()):
        raise error


def test_what_is_recorded_for_good_is_as_the_disk_says_or_it_is_fatal():
    with pytest.raises(StoreError), for_good("a checkpoint"):
        raise StoreError("full")  # the disk refused: what was is as it was
    with pytest.raises(Unforeseen, match="recording a checkpoint"), for_good("a checkpoint"):
        raise ZeroDivisionError


def test_a_task_that_nobody_needs_the_result_of_fails_alone():
    failures = counting()

    async def fails():
        raise ZeroDivisionError

    asyncio.run(once("import", fails, failures))

    assert failures.now().counts == {"import": 1}


def test_names_of_failures_are_bounded_and_their_words_are_short_and_plain():
    failures = counting()
    for number in range(boundary.MAX_NAMES + 10):
        failures.note(f"task {number}", ValueError("\x1b[2J" + "x" * 10_000))

    now = failures.now()

    assert len(now.counts) == boundary.MAX_NAMES + 1
    assert now.counts["other"] == 10
    assert len(now.last) < 300
    assert now.last.isprintable()
    assert now.last_seconds >= 0.0


def test_a_group_is_described_by_what_is_in_it():
    assert described(ExceptionGroup("several", [ExceptionGroup("more", [KeyError("x")])])) == "KeyError: 'x'"
    assert described(MemoryError()) == "MemoryError"


def test_what_nobody_waits_for_is_recorded():
    failures = counting()

    async def scenario():
        async with asyncio.TaskGroup() as group:
            Tasks(group, failures)
            asyncio.get_running_loop().call_soon(lambda: 1 / 0)
            await asyncio.sleep(0.01)

    asyncio.run(scenario())

    assert failures.now().counts == {"callback": 1}


def test_outside_of_a_task_a_cancellation_is_no_failure():
    assert not never(ValueError())
    with pytest.raises(RuntimeError):
        unforeseen(asyncio.CancelledError())


ROOT = Path(__file__).parents[2]
TASKS_OF_THEIR_OWN = {
    "peerd/machine/boundary.py": 2,  # the boundary itself
    "peerd/daemon/shell.py": 2,  # each effect, and the tick
    "peerd/worker/supervisor.py": 2,  # within the task `worker`
    "peerd/worker/process.py": 1,  # likewise
    "peerd/discovery/bootstrap.py": 1,  # within `discovery bootstrap`
    "peerd/control/serve.py": 1,  # within `control interface`
    "peerd/daemon/text_watch.py": 1,  # within `text watch`
    "peerd/daemon/gates.py": 1,  # within the effect that gathers them
    "peerd/control/event_stream.py": 4,  # within a request
    "peerd/control/spoken_stream.py": 4,  # within a request
    "peerd/serving/upstream.py": 1,  # within a request of `peerd serve`, a process of its own
}


def test_every_task_of_the_daemon_stands_behind_the_boundary():
    found = {}
    for path in sorted((ROOT / "peerd").rglob("*.py")):
        name = str(path.relative_to(ROOT))
        if name.startswith(("peerd/demo", "peerd/net/libp2p", "peerd/control/dashboard_proxy")):
            continue  # other processes; the network's own thread
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        made = [call for call in calls if ast.unparse(call.func).endswith("create_task")]
        if made:
            found[name] = len(made)

    assert found == TASKS_OF_THEIR_OWN
