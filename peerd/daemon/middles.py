"""Asks neighbours for gradients and answers them: what performs the effects of `peerd.core.middles`.

    mine:     AskMiddle --> Transport.ask --> a sketch --> my worker compares it with mine --> MiddleCompared
    theirs:   a question --> number --> MiddleAsked --> the core's word: AnswerMiddle --> my worker --> the sketch
                                                                         RefuseMiddle --> the word

The stream of a question waits here, by its number, for what the core has decided. Everything that goes wrong is a word
in an event: no question is left without an end, and a stream whose end does not come in time ends with `busy`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from p2pfinetune.names import Digest, PeerId, Refusal
from peerd.core.effects import AnswerMiddle, AskMiddle, Half, RefuseMiddle
from peerd.core.events import AnyEvent, MessageRefused, MiddleAnswered, MiddleAsked, MiddleCompared, MiddleFailed
from peerd.daemon.journal import Journal
from peerd.daemon.link import SupervisedTransport
from peerd.errors import StoreError, WorkerError
from peerd.net.exchanges import Asked
from peerd.net.middles import PATIENCE_SECONDS, middle_exchange, question, read_question, read_reply, reply
from peerd.net.transport import Failed
from peerd.worker.messages import CompareMiddle, MiddleRefused, MiddleWeighed, Sketched, SketchMiddle, UpdateFile
from peerd.worker.supervisor import Worker

BUSY: Final = "busy"
SPARE_SECONDS: Final = 5.0  # of the patience of who asks, to be told that it is busy


class Middles:
    """Both sides of one daemon's questions."""

    def __init__(
        self,
        *,
        journal: Journal,
        worker: Worker,
        network: SupervisedTransport,
        clock: Callable[[], float],
        tell: Callable[[AnyEvent], Awaitable[None]],
    ) -> None:
        self._journal, self._worker, self._network, self._clock, self._tell = journal, worker, network, clock, tell
        self._waiting: dict[int, asyncio.Future[bytes]] = {}
        """Streams of others' questions, by number: `Exchange.at_once` at most."""
        self._asked = 0
        self._of: Digest | None = None

    def listen(self, network: Digest) -> None:
        """Answer peers of this network, from the next start of a back end on."""
        self._of = network
        self._network.answer(middle_exchange(network), self._answer)

    async def perform(self, effect: AskMiddle | AnswerMiddle | RefuseMiddle) -> AnyEvent | None:
        """Do it; the event that answers it."""
        match effect:
            case AskMiddle():
                return await self._ask(effect)
            case AnswerMiddle():
                return await self._work_out(effect)
            case RefuseMiddle():
                self._settle(effect.number, reply(effect.reason))
        return None

    def failed(self, effect: AskMiddle | AnswerMiddle | RefuseMiddle) -> AnyEvent | None:
        """What the core is told of one that raised."""
        if isinstance(effect, AskMiddle):
            return MiddleFailed(at=self._clock(), number=effect.number, reason="unreachable")
        self._settle(effect.number, reply(BUSY))
        return MiddleAnswered(at=self._clock(), number=effect.number) if isinstance(effect, AnswerMiddle) else None

    async def _answer(self, asked: Asked) -> bytes | None:
        found = read_question(asked.request)
        if isinstance(found, Refusal):
            await self._tell(MessageRefused(at=self._clock(), peer=asked.peer, reason="middle-malformed"))
            return None
        self._asked += 1
        number = self._asked
        waiting = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS - SPARE_SECONDS):
                at = self._clock()
                await self._tell(MiddleAsked(at=at, peer=asked.peer, number=number, mine=found.mine, yours=found.yours))
                answer: bytes = await waiting
                return answer
        except TimeoutError:
            return reply(BUSY)
        finally:
            del self._waiting[number]

    def _settle(self, number: int, answer: bytes) -> None:
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)

    async def _work_out(self, effect: AnswerMiddle) -> MiddleAnswered:
        said = reply(BUSY)
        try:
            mine, theirs = await self._file(effect.mine, effect.peer), await self._file(effect.theirs, effect.peer)
            middle = (effect.mine.digest, effect.theirs.digest)
            answer = await self._worker.call(SketchMiddle(id=0, mine=mine, theirs=theirs, middle=middle))
            if isinstance(answer, Sketched):
                said = reply("ok", answer.sketch)
        except (StoreError, WorkerError):
            said = reply(BUSY)  # ours: it may be there another time
        self._settle(effect.number, said)
        return MiddleAnswered(at=self._clock(), number=effect.number)

    async def _ask(self, effect: AskMiddle) -> MiddleCompared | MiddleFailed:
        heard = await self._hear(effect)
        if isinstance(heard, str):
            return MiddleFailed(at=self._clock(), number=effect.number, reason=heard)
        try:
            mine, theirs = await self._file(effect.mine, effect.peer), await self._file(effect.theirs, effect.peer)
            middle = (effect.mine.digest, effect.theirs.digest)
            job = CompareMiddle(id=0, mine=mine, theirs=theirs, middle=middle, answer=heard)
            answer = await self._worker.call(job)
        except (StoreError, WorkerError):
            return MiddleFailed(at=self._clock(), number=effect.number, reason="worker")
        if isinstance(answer, MiddleWeighed):
            return MiddleCompared(at=self._clock(), number=effect.number, product=answer.product)
        reason = answer.reason if isinstance(answer, MiddleRefused) else "worker"
        return MiddleFailed(at=self._clock(), number=effect.number, reason=reason)

    async def _hear(self, effect: AskMiddle) -> bytes | str:
        """Its sketch, or in a word why there is none."""
        if self._of is None:
            return "unreachable"
        asked = question(effect.mine.digest, effect.theirs.digest)
        got = await self._network.ask(effect.peer, middle_exchange(self._of), asked)
        if isinstance(got, Failed):
            return got.reason
        found = read_reply(got)
        if isinstance(found, Refusal):
            return "malformed"
        return found.sketch if found.status == "ok" else found.status

    async def _file(self, half: Half, peer: PeerId) -> UpdateFile:
        """On the shelf, of a pair with that peer. StoreError if the disk has lost it."""
        path = await self._journal.blob(half.digest)
        base = str(await self._journal.blob(half.base)) if half.base is not None else None
        return UpdateFile(peer=peer, path=str(path), codec=half.codec, base=base)
