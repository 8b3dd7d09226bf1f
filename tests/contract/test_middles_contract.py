"""The question about a middle over every transport: a sketch comes back, or a word; whatever is asked is borne."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from p2pfinetune.names import Digest, PeerId
from peerd.core.effects import AnswerMiddle, AskMiddle, Half, RefuseMiddle
from peerd.core.events import MessageRefused, MiddleAnswered, MiddleAsked, MiddleCompared, MiddleFailed
from peerd.daemon.middles import Middles
from peerd.net.middles import middle_exchange
from peerd.worker.messages import CompareMiddle, MiddleWeighed, Sketched, SketchMiddle

NETWORK = Digest("a" * 64)
X, Y = Half(digest=Digest("1" * 64), codec="bf16"), Half(digest=Digest("2" * 64), codec="bf16")
SKETCH = bytes(range(256)) * 64


class Journal:
    async def blob(self, digest: Digest) -> Path:
        return Path("/nowhere") / digest


class Worker:
    """Sketches what it always does; weighs an answer by its length."""

    async def call(self, job: SketchMiddle | CompareMiddle) -> Any:
        if isinstance(job, SketchMiddle):
            return Sketched(id=1, sketch=SKETCH)
        return MiddleWeighed(id=1, product=float(len(job.answer)))


class Peer:
    """A desk, and a core that says one thing to every question."""

    def __init__(self, word: str) -> None:
        self.word, self.told, self.tasks = word, [], []
        self.network = SimpleNamespace(answer=lambda exchange, answerer: None, ask=None)
        self.desk = Middles(
            journal=Journal(),
            worker=Worker(),
            network=self.network,
            clock=lambda: 1.0,
            tell=self.tell,  # type: ignore[arg-type]
        )
        self.desk.listen(NETWORK)

    async def tell(self, event: Any) -> None:
        self.told.append(event)
        if isinstance(event, MiddleAsked) and self.word != "silence":
            effect: Any = RefuseMiddle(number=event.number, reason=self.word)
            if self.word == "ok":
                effect = AnswerMiddle(number=event.number, peer=event.peer, mine=Y, theirs=X)
            self.tasks.append(asyncio.ensure_future(self.desk.perform(effect)))


def asked(play: Any, word: str) -> tuple[Any, list[Any]]:
    outcome: list[Any] = []

    async def scenario(world: Any) -> None:
        asker, other = Peer(""), Peer(word)
        one = await world.peer()
        two = await world.peer(answers=[(middle_exchange(NETWORK), other.desk._answer)])
        await one.connect(two)
        await two.until(type(await one.connect(two)))
        asker.network.ask = one.transport.ask
        outcome.append(await asker.desk.perform(AskMiddle(number=7, peer=two.id, mine=X, theirs=Y)))
        refused = await one.transport.ask(two.id, middle_exchange(NETWORK), b"nonsense")
        assert refused.reason == "busy"
        outcome.append([event for event in other.told if isinstance(event, MiddleAsked | MessageRefused)])
        assert [await task for task in other.tasks if word == "ok"] == [MiddleAnswered(at=1.0, number=1)] * (
            word == "ok"
        )

    play(scenario)
    return outcome[0], outcome[1]


def test_a_sketch_comes_back_and_is_weighed_here(play: Any) -> None:
    event, told = asked(play, "ok")

    assert event == MiddleCompared(at=1.0, number=7, product=float(len(SKETCH)))
    assert (told[0].mine, told[0].yours) == (X.digest, Y.digest)
    assert [type(one) for one in told] == [MiddleAsked, MessageRefused]


def test_a_peer_that_has_not_chosen_it_says_so_in_a_word(play: Any) -> None:
    event, _ = asked(play, "not-chosen")

    assert event == MiddleFailed(at=1.0, number=7, reason="not-chosen")


def test_who_raises_leaves_no_question_without_an_end() -> None:
    async def scenario() -> None:
        desk = Peer("").desk
        ask = AskMiddle(number=3, peer=PeerId("p"), mine=X, theirs=Y)
        answer = AnswerMiddle(number=4, peer=PeerId("p"), mine=X, theirs=Y)
        assert desk.failed(ask) == MiddleFailed(at=1.0, number=3, reason="unreachable")
        assert desk.failed(answer) == MiddleAnswered(at=1.0, number=4)
        assert desk.failed(RefuseMiddle(number=5, reason="busy")) is None

    asyncio.run(scenario())
