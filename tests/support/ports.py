"""The worker and the network of a daemon as its performer sees them, and they do as a test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from p2pfinetune.names import Digest, PeerId
from peerd.net.transport import PeerTraffic
from peerd.wire.keys import PeerKey
from peerd.worker.messages import AnyAnswer, AnyJob, JobProgress

BOB = PeerKey(b"b" * 32).peer_id


class FakeWorker:
    """Answers as told, or raises what it is told; a callable may look at the job first."""

    def __init__(self) -> None:
        self.answer: AnyAnswer | Exception | None = None
        self.jobs: list[Any] = []
        self.restarted = ""

    async def call(self, job: AnyJob, on_progress: Callable[[JobProgress], None] | None = None) -> Any:
        self.jobs.append(job)
        if on_progress is not None:
            on_progress(JobProgress(id=1, activity="training", done=1, total=2, loss=3.5))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def restart(self, reason: str) -> None:
        self.restarted = reason


class FakeNetwork:
    """Writes down what it is asked, and answers all of it with one outcome."""

    addresses: tuple[str, ...] = ("/memory/me", "/" + "x" * 300)

    def __init__(self, story: list[str]) -> None:
        self.story = story
        self.outcome: Any = None
        self.message = b""
        self.arguments: tuple[Any, ...] = ()

    async def publish(self, message: bytes) -> Any:
        self.story.append("spoken")
        self.message = message
        return self.outcome

    async def fetch(self, digest: Digest, size: int, holders: Sequence[PeerId], timeout_seconds: float) -> Any:
        self.arguments = (digest, size, holders, timeout_seconds)
        return self.outcome

    async def connect(self, peer: PeerId, addresses: Sequence[str]) -> Any:
        return self.outcome

    async def disconnect(self, peer: PeerId) -> None:
        self.story.append(f"hung up on {peer}")

    def traffic(self) -> dict[PeerId, PeerTraffic]:
        return {BOB: PeerTraffic(100, 50)}
