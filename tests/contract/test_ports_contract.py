"""One suite for the network and the worker of a daemon: the supervised ones, and those that do as a test of the performer says."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from p2pfinetune.names import Digest
from peerd.config import Config
from peerd.daemon.link import SupervisedTransport
from peerd.errors import WorkerError
from peerd.net.transport import Connected, Failed, Fetched, PeerTraffic
from peerd.pacing import Backoff
from peerd.testing.network import MemoryNetwork, MemoryTransport
from peerd.worker import messages
from peerd.worker.process import child_environment
from peerd.worker.supervisor import Worker
from tests.support import learning
from tests.support.ports import BOB, FakeNetwork, FakeWorker
from tests.support.shelves import DictShelf
from tests.support.transport import FakeTransport

NETWORK = Digest("a" * 64)
BLOB = bytes(range(200))
ABSENT = Digest("0" * 64)
PATIENCE_SECONDS = 60.0


class RealNetwork:
    """A supervised transport, and bob, who has a blob."""

    def __init__(self) -> None:
        self.wires, self.bobs = MemoryNetwork(), DictShelf()
        self.bob = self.wires.node(BOB, self.bobs, NETWORK)
        self.digest = self.bobs.put(BLOB)
        mine = DictShelf()
        self.network: Any = SupervisedTransport(
            lambda _: self.wires.node(ME, mine, NETWORK), self._tell, clock=lambda: 0.0, unix=lambda: 0.0
        )

    async def _tell(self, event: object) -> None:
        """Nobody listens."""

    def means(self, outcome: object) -> None:
        """What comes is decided by what is there."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[RealNetwork]:
        self.addresses = await self.bob.start()
        async with asyncio.TaskGroup() as tasks:
            started = asyncio.Event()
            tasks.create_task(self.network.run(started.set))
            await started.wait()
            yield self
            await self.network.stop()
            await self.bob.stop()


class ToldNetwork:
    """The fake, told before each question what a network would answer."""

    def __init__(self) -> None:
        self.network: Any = FakeNetwork([])
        self.digest, self.addresses = ABSENT, ("/memory/bob",)

    def means(self, outcome: object) -> None:
        self.network.outcome = outcome

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ToldNetwork]:
        yield self


ME = learning.digest("me")  # a name is enough for wires in memory


@pytest.fixture(params=[RealNetwork, ToldNetwork], ids=["real", "fake"])
def play(request: pytest.FixtureRequest) -> Callable[[Callable[[Any], Coroutine[Any, Any, None]]], None]:
    def run(scenario: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(PATIENCE_SECONDS), request.param().opened() as world:
                await scenario(world)

        asyncio.run(main())

    return run


def test_who_is_there_is_connected_asked_and_hung_up_on(play) -> None:
    async def scenario(world: Any) -> None:
        network = world.network
        world.means(Connected(BOB, world.addresses[0]))
        assert isinstance(await network.connect(BOB, world.addresses), Connected)
        world.means(None)
        assert await network.publish(b"hello") is None
        world.means(Fetched(world.digest, BOB, len(BLOB)))
        fetched = await network.fetch(world.digest, len(BLOB), [BOB], 10.0)
        assert (type(fetched), fetched.source, fetched.bytes_in) == (Fetched, BOB, len(BLOB))
        assert isinstance(network.traffic()[BOB], PeerTraffic)
        assert await network.disconnect(BOB) is None

    play(scenario)


def test_what_does_not_work_is_a_value(play) -> None:
    async def scenario(world: Any) -> None:
        world.means(Failed("absent", "nobody has it"))
        assert isinstance(await world.network.fetch(ABSENT, 10, [BOB], 0.1), Failed)
        assert isinstance(await world.network.connect(learning.digest("nobody"), ()), Failed)
        assert await world.network.disconnect(learning.digest("nobody")) is None

    play(scenario)


def test_own_addresses_are_known_when_it_is_up(play) -> None:
    async def scenario(world: Any) -> None:
        assert world.network.addresses
        assert all(isinstance(address, str) for address in world.network.addresses)

    play(scenario)


def open_job(folder: Path) -> messages.Open:
    (folder / "text").mkdir()
    return messages.Open(
        id=0, config=Config(data=(str(folder / "text"),)), cache=str(folder), scratch=str(folder), splits="", me=BOB,
        checkpoint=None, best=None, best_guard=None,
    )  # fmt: skip


@asynccontextmanager
async def real_worker(folder: Path) -> AsyncIterator[Any]:
    """A process that learns by one number."""
    job, opened = open_job(folder), asyncio.Event()

    async def make_open() -> messages.Open:
        return job

    async def on_opened(answer: messages.Opened) -> None:
        opened.set()

    async def on_died(reason: str) -> None:
        opened.clear()

    worker = Worker(
        make_open,
        command=[sys.executable, learning.__file__, str(os.getpid())],
        environment=child_environment(os.environ, 1),
        pauses=Backoff(first=0.0),
    )
    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run(on_opened, on_died))
        await opened.wait()
        yield worker
        await worker.stop(2.0)


@asynccontextmanager
async def told_worker(folder: Path) -> AsyncIterator[Any]:
    found = FakeWorker()
    found.answer = messages.Stepped(id=1, checkpoint="c", steps=2, tokens=8, loss_train=1.0)
    yield found


@pytest.mark.parametrize("kind", [real_worker, told_worker], ids=["real", "fake"])
def test_a_job_is_answered_after_its_progress_and_a_worker_that_is_gone_is_an_error(kind, tmp_path) -> None:
    async def scenario() -> None:
        notes: list[messages.JobProgress] = []
        async with kind(tmp_path) as worker:
            answer = await worker.call(messages.TrainSteps(id=0, round=1, steps=2), notes.append)
            assert (type(answer), answer.steps) == (messages.Stepped, 2)
            assert [note.activity for note in notes][:1] == ["training"]
            worker.restart("a test")
            worker.answer = WorkerError("the worker died")  # which the fake is told, and the other finds out
            with pytest.raises(WorkerError):
                await worker.call(messages.Generate(id=0, prompt="", max_tokens=1, temperature=0.0, seed=0))

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fake", "real"), [(FakeNetwork, SupervisedTransport), (FakeWorker, Worker), (FakeTransport, MemoryTransport)]
)
def test_a_fake_takes_what_the_real_thing_takes(fake: type, real: type) -> None:
    methods = [name for name, found in vars(fake).items() if name[0] != "_" and inspect.isfunction(found)]

    assert len(methods) >= 2
    for name in methods:
        assert [*inspect.signature(getattr(fake, name)).parameters] == [
            *inspect.signature(getattr(real, name)).parameters
        ]
