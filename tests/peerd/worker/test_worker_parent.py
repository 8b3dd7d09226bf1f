"""The daemon's side of the worker, over real processes without torch."""

import asyncio
import os
import signal
import time

import pytest

from p2pfinetune.names import Round
from peerd.errors import UsageError, WorkerError
from peerd.pacing import Backoff
from peerd.worker.messages import Generate, Generated, JobFailed, Reread, TrainSteps
from peerd.worker.supervisor import Deadlines, Silence


def say(prompt, max_tokens=1):
    return Generate(id=0, prompt=prompt, max_tokens=max_tokens, temperature=0.0, seed=0)


def train(steps):
    return TrainSteps(id=0, round=Round(1), steps=steps)


def in_loop(scenario):
    asyncio.run(scenario())


def test_a_job_gets_its_own_answer(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(running.worker.call(say(f"p{i}"))) for i in range(50)]

            assert [task.result().base for task in asked] == [f"p{i}" for i in range(50)]

    in_loop(scenario)


def test_an_answer_of_a_megabyte_arrives_whole(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            answer = await running.worker.call(say("x", max_tokens=2**20))

            assert answer.own == "x" * 2**20

    in_loop(scenario)


def test_what_a_library_prints_does_not_disturb_the_protocol(fake_worker, caplog):
    caplog.set_level("INFO", "peerd.worker")

    async def scenario():
        async with fake_worker() as running:
            assert isinstance(await running.worker.call(say("a")), Generated)

    in_loop(scenario)

    assert "a library says hello on standard output" in caplog.text


def test_the_child_is_nice_and_knows_its_parent(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            answer = await running.worker.call(say("parent"))

            assert (answer.base, answer.own) == (str(os.getpid()), str(min(19, os.nice(0) + 10)))

    in_loop(scenario)


def test_progress_reaches_who_asked_and_the_rate_is_measured(fake_worker):
    notes = []

    async def scenario():
        async with fake_worker() as running:
            await running.worker.call(train(3), notes.append)
            await running.worker.call(train(100))

            assert running.worker.now().tokens_per_second > 0

    in_loop(scenario)

    assert notes[-1].done == 3


def test_a_quick_job_is_answered_in_the_middle_of_training_and_a_slow_one_after_it(fake_worker):
    async def scenario():
        async with fake_worker() as running, asyncio.TaskGroup() as tasks:
            training = asyncio.Event()
            long = tasks.create_task(running.worker.call(train(80), lambda _: training.set()))
            await training.wait()
            reread = tasks.create_task(running.worker.call(Reread(id=0)))
            await running.worker.call(say("quick"))
            assert not long.done()
            assert running.worker.now().state == "training"
            order = (await reread).fingerprint

            assert order == "train begins generate quick train ends"

    in_loop(scenario)


def test_an_unforeseen_error_fails_the_job_and_the_worker_lives_on(fake_worker, caplog):
    caplog.set_level("INFO", "peerd.worker")

    async def scenario():
        async with fake_worker() as running:
            failure = await running.worker.call(say("bug"))
            after = await running.worker.call(say("after"))

            assert isinstance(failure, JobFailed)
            assert (failure.code, failure.message) == ("bug", "RuntimeError: surprise")
            assert after.base == "after"

    in_loop(scenario)

    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [("kill", "SIGKILL"), ("memory", "out of memory"), ("garbage", "SIGKILL")],
)
def test_a_child_that_dies_in_a_job_is_replaced_and_seen(fake_worker, prompt, reason):
    async def scenario():
        async with fake_worker() as running:
            with pytest.raises(WorkerError):
                await running.worker.call(say(prompt))
            await running.until("opened", times=2)
            now = running.worker.now()

            assert (await running.worker.call(say("again"))).base == "again"
            assert now.restarts == 1
            assert reason in now.last_error

    in_loop(scenario)


def test_a_cancelled_caller_leaves_the_worker_usable(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await running.worker.call(train(10**6))

            assert (await running.worker.call(say("next"))).base == "next"

    in_loop(scenario)


def test_text_that_does_not_suffice_is_an_error_of_the_user_at_the_first_start(fake_worker):
    async def scenario():
        async with fake_worker(model="short", wait=False) as running:
            await running.until("never")

    with pytest.raises(ExceptionGroup) as raised:
        in_loop(scenario)

    (error,) = raised.value.exceptions
    assert isinstance(error, UsageError)
    assert (str(error), error.hint) == ("too little text: 3 tokens", "add text")


def test_a_child_that_never_opens_is_started_again_and_again(fake_worker):
    async def scenario():
        async with fake_worker(model="dies", wait=False) as running:
            await running.until("died: exit code 7", times=3)

            with pytest.raises(WorkerError, match="not ready"):
                await running.worker.call(say("a"))

    in_loop(scenario)


def test_pauses_double_up_to_a_minute():
    pauses = Backoff()

    assert [pauses.after(deaths) for deaths in (1, 2, 3, 6, 7, 1000)] == [1, 2, 4, 32, 60, 60]


def test_deaths_are_forgiven_after_real_work(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            for life in (2, 3):
                with pytest.raises(WorkerError):
                    await running.worker.call(say("kill"))
                await running.until("opened", times=life)
            assert running.worker._deaths == 2
            await running.worker.call(train(1))

            assert running.worker._deaths == 0

    in_loop(scenario)


def test_stopping_does_not_wait_for_a_worker_that_hangs(fake_worker):
    async def scenario():
        async with fake_worker() as running, asyncio.TaskGroup() as tasks:
            hung = tasks.create_task(failing(running.worker.call(say("hang"))))
            await asyncio.sleep(0)
            await running.worker.stop(0.1)
            await hung

            assert running.worker.now().state == "stopped"

    in_loop(scenario)


def test_stopping_in_the_middle_of_training_is_quick_and_is_no_death(fake_worker):
    async def scenario():
        async with fake_worker() as running, asyncio.TaskGroup() as tasks:
            training = asyncio.Event()
            long = tasks.create_task(failing(running.worker.call(train(10**6), lambda _: training.set())))
            await training.wait()
            async with asyncio.timeout(30):
                await running.worker.stop(60.0)
                await long

            assert running.story == ["opened"]

    in_loop(scenario)


async def failing(call):
    with pytest.raises(WorkerError):
        await call


def test_the_child_leaves_when_its_daemon_is_gone(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            life = running.worker._life
            life._process.stdin.close()  # as the kernel closes it when the daemon is killed

            await running.until("died: exit code 3")

    in_loop(scenario)


def test_a_signal_of_the_terminal_does_not_reach_the_child(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            os.kill(running.worker._life.pid, signal.SIGINT)

            assert (await running.worker.call(say("alive"))).base == "alive"

    in_loop(scenario)


QUICK = Deadlines(open=100.0, other=1.0, look=0.2)


@pytest.mark.parametrize("stop", [False, True], ids=["hangs", "is stopped"])
def test_a_worker_without_a_sign_of_life_is_killed_and_replaced_and_the_reason_said(fake_worker, stop):
    async def scenario():
        async with fake_worker(deadlines=QUICK) as running:
            if stop:
                os.kill(running.worker._life.pid, signal.SIGSTOP)
            with pytest.raises(WorkerError):
                await running.worker.call(say("quick" if stop else "hang"))
            await running.until("opened", times=2)
            running.worker._deadlines = Deadlines()

            assert "it hung: no sign of life for 1 s while generating" in running.worker.now().last_error
            assert (await running.worker.call(say("again"))).base == "again"

    in_loop(scenario)


def test_a_long_job_that_notes_its_progress_is_let_alone_and_so_is_a_worker_without_a_job():
    def silent(*looks):
        silence = Silence()
        for signs, job in looks:
            silence = silence.after(5.0, signs, job)
        return silence.seconds

    assert silent(*[(3, 7)] * 181) == 900.0
    assert silent(*[(look // 3, 7) for look in range(1000)]) <= 10.0
    assert silent(*[(3, look // 3) for look in range(1000)]) <= 10.0
    assert silent(*[(3, None)] * 1000) == 0.0
    assert silent(*[(3, None)] * 1000, (3, 7), (3, 7)) == 5.0


def test_a_daemon_that_was_suspended_itself_blames_no_worker(fake_worker):
    async def scenario():
        async with fake_worker(deadlines=Deadlines(other=1.0, look=0.25)) as running, asyncio.TaskGroup() as tasks:
            training = asyncio.Event()
            long = tasks.create_task(running.worker.call(train(300), lambda _: training.set()))
            await training.wait()
            time.sleep(1.3)  # noqa: ASYNC251  # nothing of the loop runs, as under SIGSTOP
            await long

            assert running.worker.now().restarts == 0

    in_loop(scenario)
