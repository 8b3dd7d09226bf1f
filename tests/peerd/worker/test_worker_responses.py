"""Answers that come piece by piece, over real processes without torch: see tests/support/odd_jobs.py."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from p2pfinetune.names import Round
from p2pfinetune.speech import Begun, Piece, Sampling
from peerd.errors import WorkerError
from peerd.worker.messages import Generate, JobFailed, Reread, Respond, Spoken, TrainSteps
from peerd.worker.process import Life, Waiting


def respond(prompt: str = "a", most: int = 5) -> Respond:
    return Respond(id=0, which="own", prompt=prompt, chat=(), sampling=Sampling(max_tokens=most), cuts=True)


def text(spoken: list[Spoken]) -> str:
    return " ".join(one.said.text for one in spoken if isinstance(one.said, Piece))


async def order(worker: Any) -> list[str]:
    """What was done, in its order, a pass each."""
    return (await worker.call(Reread(id=0))).fingerprint.replace("pass of ", "pass-of-").split()


def test_pieces_come_in_order_and_then_how_it_ended(fake_worker: Any) -> None:
    async def scenario() -> None:
        async with fake_worker() as running:
            spoken: list[Spoken] = []
            answer = await running.worker.respond(respond(), spoken.append)
            assert isinstance(spoken[0].said, Begun)
            assert text(spoken) == "0 1 2 3 4"
            assert answer.ended.completion_tokens == 5
            assert isinstance(await running.worker.respond(respond("bug"), spoken.append), JobFailed)
            assert (await running.worker.call(Generate(id=0, prompt="on", max_tokens=1, temperature=0.0, seed=0))).base

    asyncio.run(scenario())


def test_training_and_answers_go_on_by_turns_and_answers_among_themselves(fake_worker: Any) -> None:
    async def scenario() -> None:
        async with fake_worker(serve_share=0.5) as running, asyncio.TaskGroup() as tasks:
            worker, begun = running.worker, asyncio.Event()
            training = worker.call(TrainSteps(id=0, round=Round(1), steps=40), lambda _: begun.set())
            trained = tasks.create_task(training)
            await begun.wait()
            for name in "ab":
                tasks.create_task(worker.respond(respond(name, 2000), lambda _: None))
            steps = (await trained).steps
            assert steps == 40
            done = await order(worker)
            passes = [word for word in done[: done.index("ends")] if word.startswith("pass-of")]
            assert {"pass-of-a", "pass-of-b"} <= set(passes)  # before the training had ended
            both = passes[passes.index("pass-of-b" if passes[0] == "pass-of-a" else "pass-of-a") :]
            assert len(set(both[::2])) == len(set(both[1::2])) == 1  # one after the other

    asyncio.run(scenario())


def test_who_leaves_frees_the_worker_and_a_place(fake_worker: Any) -> None:
    async def scenario() -> None:
        async with fake_worker() as running:
            worker = running.worker
            for _ in range(9):  # more than there are places
                said = asyncio.Event()
                async with asyncio.TaskGroup() as tasks:
                    answer = tasks.create_task(worker.respond(respond(most=10**9), lambda _, said=said: said.set()))
                    await said.wait()
                    answer.cancel()
            before = (await order(worker)).count("pass-of-a")
            assert (await order(worker)).count("pass-of-a") <= before + 9
            assert len(worker._life._waiting) == 0

    asyncio.run(scenario())


def test_beyond_some_at_once_others_wait_their_turn(fake_worker: Any) -> None:
    async def scenario() -> None:
        async with fake_worker() as running, asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(running.worker.respond(respond(f"{n}", 50), lambda _: None)) for n in range(20)]
            answers = await asyncio.gather(*asked)
            assert {answer.ended.completion_tokens for answer in answers} == {50}

    asyncio.run(scenario())


def test_whoever_waits_is_told_when_the_worker_dies(fake_worker: Any) -> None:
    async def scenario() -> None:
        async with fake_worker() as running:
            with pytest.raises(WorkerError):
                await running.worker.respond(respond("hang"), lambda _: running.worker.kill())
            await running.until("opened", times=2)
            spoken: list[Spoken] = []
            await running.worker.respond(respond(), spoken.append)
            assert text(spoken) == "0 1 2 3 4"

    asyncio.run(scenario())


def test_a_death_while_a_person_waits_for_an_answer_is_laid_to_the_job_beside_it() -> None:
    async def scenario() -> None:
        process: Any = None
        life = Life(process)
        life._waiting = {1: Waiting(respond()), 2: Waiting(TrainSteps(id=2, round=Round(1), steps=4))}
        assert isinstance(life.working_on, TrainSteps)  # or a lighter way would never be taken while somebody chats
        del life._waiting[2]
        assert isinstance(life.working_on, Respond)

    asyncio.run(scenario())
