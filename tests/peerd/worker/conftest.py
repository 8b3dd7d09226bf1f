"""A worker process that loads no torch."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest

from p2pfinetune.names import PeerId
from peerd.config import Config
from peerd.pacing import Backoff
from peerd.worker.messages import Open, Opened
from peerd.worker.process import child_environment
from peerd.worker.supervisor import Worker
from tests.support import odd_jobs

NO_PAUSE = Backoff(first=0.0)


def open_job(**config: object) -> Open:
    return Open(
        id=0,
        config=msgspec.convert(config, Config),
        cache="",
        scratch="",
        splits="",
        me=PeerId("me"),
        checkpoint=None,
        best=None,
        best_guard=None,
    )


class Running:
    """A worker with the story of its lives."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.story: list[str] = []
        self.happened = asyncio.Condition()

    async def opened(self, answer: Opened) -> None:
        await self.tell("opened")

    async def died(self, reason: str) -> None:
        await self.tell(f"died: {reason}")

    async def tell(self, what: str) -> None:
        async with self.happened:
            self.story.append(what)
            self.happened.notify_all()

    async def until(self, what: str, times: int = 1) -> None:
        async with self.happened:
            await self.happened.wait_for(lambda: sum(what in told for told in self.story) >= times)


@pytest.fixture
def fake_worker() -> Callable[..., AbstractAsyncContextManager[Running]]:
    """An async context manager: a running worker over `tests/support/odd_jobs.py`."""

    @asynccontextmanager
    async def start(
        *, pauses: Backoff = NO_PAUSE, deadlines: Any = None, wait: bool = True, **config: object
    ) -> AsyncIterator[Running]:
        async def make_open() -> Open:
            return open_job(**config)

        worker = Worker(
            make_open,
            command=[sys.executable, odd_jobs.__file__, str(os.getpid())],
            environment=child_environment(os.environ, 1),
            pauses=pauses,
            deadlines=deadlines,
        )
        running = Running(worker)
        async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run(running.opened, running.died), name="worker")
            if wait:
                await running.until("opened")
            try:
                yield running
            finally:
                await worker.stop(2.0)

    return start
