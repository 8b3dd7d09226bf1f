"""A daemon without network, model or clock, served for real over a Unix socket: what the control side is tested on."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import AsyncIterator, Callable
from typing import Literal, Self

import msgspec

from p2pfinetune.names import Digest, PeerId, Round, Served
from p2pfinetune.round.figures import LossMargin, ModelFigures
from p2pfinetune.speech import Begun, Chance, Choice, Ended, Piece
from peerd.control import answers, questions
from peerd.control.answers import Sent, SentRow, SentUpdate
from peerd.control.api import application
from peerd.control.merges import line, merges_now
from peerd.control.questions import EvalQuestion, GenerateQuestion, RespondQuestion
from peerd.control.serve import serve
from peerd.daemon.snapshot import held_out
from peerd.errors import UsageError, WorkerError
from peerd.machine import lock
from peerd.machine.paths import Paths
from peerd.status import (
    BannedNow,
    HealthNow,
    LoopNow,
    LossNow,
    MergesNow,
    NeighbourNow,
    PerplexityNow,
    PrivacyNow,
    RoundRecord,
    SentNow,
    SplitNow,
    Status,
    TrafficNow,
    WorkerNow,
)

ME = PeerId("12D3KooWMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMeMe11")
BOB = PeerId("12D3KooWBobBobBobBobBobBobBobBobBobBobBobBobBobBob22")
EVE = PeerId("12D3KooWEveEveEveEveEveEveEveEveEveEveEveEveEveEve33")
MAX_REASONABLE_WAIT = 20.0  # seconds; only a broken test waits so long


class FakeView:
    """Rounds happen when a test says so; losses follow a formula."""

    def __init__(self, *, rounds: int = 0, alone: bool = False) -> None:
        self.stop: asyncio.Event | None = None
        self.alone = alone
        self.stop_reasons: list[str] = []
        self.debugged: list[tuple[str, str]] = []
        self.exported: list[str] = []
        self.responses: list[RespondQuestion] = []
        self.cancelled: list[int] = []
        """After how many words an answer was left."""
        self.exported_models: list[str] = []
        self.served_by: Served = "personal"
        self.served_text = ""
        self.broken = ""
        self.refuses = False
        """Whether the guard refuses every merge from now on."""
        self.banned: list[BannedNow] = []
        self.bob_name = "bob"
        self._done = 0
        self._rounds: list[RoundRecord] = []
        self._watchers: set[asyncio.Event] = set()
        for _ in range(rounds):
            self.finish_round()

    def finish_round(self) -> None:
        self._done += 1
        self._rounds.append(record(self._done, alone=self.alone, refused=self.refuses))
        for watcher in self._watchers:
            watcher.set()

    def status(self) -> Status:
        last = self._rounds[-1] if self._rounds else None
        merges = merges_now(self._rounds, ME)
        return Status(
            peer_id=ME,
            name="alice",
            version="0.1.0",
            network=Digest("ab" * 32),
            group="default",
            uptime_seconds=7384.0,
            round=Round(self._done + 1),
            state="training",
            sentence=f"training round {self._done + 1}" + (", alone" if self.alone else " with 2 peers"),
            loss=LossNow(train=last.loss_train, trust=last.loss_trust, guard=last.guard_personal)
            if last
            else LossNow(),
            perplexity=PerplexityNow(
                base=math.exp(last.guard_base or 0.0),
                own=math.exp(last.guard_own or 0.0),
                personal=math.exp(last.guard_personal or 0.0),
            )
            if last
            else PerplexityNow(),
            neighbours=[] if self.alone else self._neighbours(merges),
            merges=merges,
            merge=line(self._rounds, merges, ME),
            held_out=held_out(self._rounds),
            served=self.served_by,
            traffic=TrafficNow(bytes_in=3_400_000, bytes_out=1_250_000),
            health=HealthNow(ok=not self.broken, reasons=[self.broken] if self.broken else []),
            worker=WorkerNow(
                state="training",
                device="cpu",
                precision="bf16",
                precision_why="as it was trained so far",
                twin="off",
                known_as="Tiny Llama sha256:0123456789abcdef",
                licence="apache-2.0",
                twin_why="a round would take 53 % longer with one",
                tokens_per_second=1834.2,
            ),
            loop=LoopNow(max_callback_cpu_ms=7.25, max_lag_ms=31.0),
            addresses=[f"/ip4/192.168.1.20/tcp/4001/p2p/{ME}"],
            model="nano",
            trust_scheme="validation",
            joining=(joining := "--model nano --group-key FILE"),
            invitations=[f"peerd start --data THEIR-FOLDER {joining} --peer /ip4/192.168.1.20/tcp/4001/p2p/{ME}"],
            invitation_notes=["FILE is a copy of /far/alice/group.key."],
            refused={} if self.alone else {"norm": 2, "stale": 1},
            banned=self.banned,
            sent=SentNow(publications=self._done, bytes=60_900 * self._done, peers=1),
            privacy=PrivacyNow(
                mechanism="gaussian",
                clip=0.05,
                noise=4.0,
                delta=1e-5,
                publications=self._done,
                epsilon=1.25 * self._done,
                sentence=f"{self._done} updates with noise: epsilon {1.25 * self._done:.3g}.",
            ),
        )

    async def lift_ban(self, peer: PeerId) -> None:
        self.banned = [one for one in self.banned if one.peer_id != peer]

    def _neighbours(self, merges: MergesNow) -> list[NeighbourNow]:
        return [
            NeighbourNow(
                peer_id=peer,
                name=name,
                trust=merges.row.get(peer, 0.0),
                refused_trust=merges.refused_row.get(peer, 0.0),
                age_seconds=age,
                round=Round(max(0, self._done - 1)),
                connected=connected,
                bytes_in=1_700_000,
                bytes_out=600_000,
                refused=refused,
            )
            for peer, name, age, connected, refused in (
                (BOB, self.bob_name, 41.0, True, {}),
                (EVE, "eve", None, False, {"norm": 2, "stale": 1}),
            )
        ]

    def rounds(self, last: int) -> list[RoundRecord]:
        return self._rounds[-last:]

    def sent(self, last: int) -> Sent:
        made = [
            SentUpdate(
                round=Round(number),
                unix=1_700_000_000.0 + 30 * number,
                blob=Digest(f"{number:064x}"),
                size=60_000,
                clip=0.05,
                noise=4.0,
                epsilon=1.25 * number,
            )
            for number in range(1, self._done + 1)
        ]
        rows = [
            SentRow(
                round=update.round,
                peer_id=BOB,
                name=self.bob_name,
                update_bytes=60_000,
                passed_on_bytes=0,
                announcement_bytes=900,
                last_unix=update.unix,
            )
            for update in made
        ]
        now, since = self.status(), self._done + 2 - last
        older = msgspec.structs.replace(rows[0], round=None, peer_id=PeerId(""), name="") if rows else None
        return Sent(
            since_unix=1_700_000_000.0,
            total=now.sent,
            privacy=now.privacy,
            updates=[update for update in made if update.round >= since],
            rows=[*([older] if older else []), *(row for row in rows if row.round is not None and row.round >= since)],
        )

    def paths(self) -> dict[str, str]:
        return {"home": "/somewhere/peerd"}

    async def changes(self) -> AsyncIterator[None]:
        mine = asyncio.Event()
        self._watchers.add(mine)
        try:
            while True:
                await mine.wait()
                mine.clear()
                yield
        finally:
            self._watchers.discard(mine)

    async def generate(self, asked: GenerateQuestion) -> answers.Continuations:
        if asked.prompt == "fail":
            raise WorkerError("the worker ran out of memory", "stop other programs")
        personal = f"{asked.prompt} personal {asked.max_tokens}"
        return answers.Continuations(
            prompt=asked.prompt,
            base="the the",
            own=f"{asked.prompt} own {asked.seed}",
            personal=personal,
            served=self.served_text or personal,
            served_by=self.served_by,
        )

    async def respond(self, asked: RespondQuestion, tell: Callable[[Begun | Piece], None]) -> Ended:
        """Word by word, of the prompt or what was said last; `fail` and `forever` as they say, `break` after a word."""
        text = asked.chat[-1].content if asked.prompt is None else asked.prompt
        self.responses.append(asked)
        if text == "fail":
            raise WorkerError("the worker ran out of memory", "stop other programs")
        words = text.split()
        tell(Begun(prompt_tokens=len(words)))
        made = 0
        try:
            for word in itertools.cycle(words) if text == "forever" else words[: asked.max_tokens]:
                await asyncio.sleep(0.005 if text == "forever" else 0)  # no model floods a page
                made += 1
                chances = (Chance(f" {word}", -0.5, (Choice(" x", -1.5),) * asked.choices),) if asked.choices else ()
                tell(Piece(text=f" {word}", chances=chances))
                if text == "break":
                    raise WorkerError("the worker process has ended", "peerd paths")
        except asyncio.CancelledError:
            self.cancelled.append(made)
            raise
        reason: Literal["stop", "length"] = "length" if made == asked.max_tokens else "stop"
        return Ended(reason=reason, prompt_tokens=len(words), completion_tokens=made)

    async def export(self, asked: questions.ExportQuestion) -> answers.ExportedFolder:
        self.exported.append(asked.folder)
        self.exported_models.append(asked.which)
        names = {"peft": ["adapter_config.json", "adapter_model.safetensors"], "gguf-lora": ["adapter.gguf"]}
        files = [f"{asked.folder}/{name}" for name in names.get(asked.format, ["model.gguf"])]
        given = "personal" if self.served_by == "mixture" else self.served_by
        which = given if asked.which == "served" else asked.which
        return answers.ExportedFolder(folder=asked.folder, files=files, which=which, format=asked.format, bytes=4096)

    async def test_losses(self) -> answers.TestLosses:
        return answers.TestLosses(base=4.2, own=3.6, personal=3.4, local=None, served=3.4, documents=12, tokens=2048)

    async def evaluate(self, asked: EvalQuestion) -> answers.Evaluated:
        if "missing" in "".join(asked.files):
            raise UsageError("there is no file /missing", "look at the spelling")
        figures = ModelFigures(loss=3.4, within=0.1, against_base=LossMargin(nats=-0.8, within=0.05))
        looked = [] if asked.files else [answers.Look(unix=1_700_000_000.0, round=Round(self._done))]
        return answers.Evaluated(
            on="files" if asked.files else "heldout",
            models={"base": ModelFigures(loss=4.2, within=0.2), "own": figures, "personal": figures, "served": figures},
            served_by=self.served_by,
            tokens=min(2048, asked.max_tokens or 2048),
            documents=12,
            windows=16,
            of_tokens=2048,
            of_documents=12,
            looks=looked,
        )

    async def debug(self, action: str, word: str) -> answers.Debugged:
        self.debugged.append((action, word))
        if action == "record":
            return answers.Debugged(events=3, checks=False, record=b"\x80a record")
        lines = ["  1.000  PeerFound(peer bob)"] if action == "story" and word == "bob" else []
        return answers.Debugged(events=3, checks=action == "check", lines=lines)

    def request_stop(self, reason: str) -> None:
        self.stop_reasons.append(reason)
        if self.stop is not None:
            self.stop.set()


def record(number: int, *, alone: bool = False, refused: bool = False) -> RoundRecord:
    """A plausible round: losses fall, trust moves from eve to bob, the guard refuses every seventh merge."""
    fall = math.exp(-number / 9)
    bob = 0.0 if alone else 0.18 + 0.25 * (1 - fall)
    eve = 0.0 if alone else 0.22 * fall
    accepted = number % 7 != 0 and not refused
    row = {ME: 1.0 - bob - eve} if alone else {ME: 1.0 - bob - eve, BOB: bob, EVE: eve}
    wiggle = 0.04 * math.sin(number * 2.1)
    return RoundRecord(
        round=Round(number),
        finished_unix=1_700_000_000.0 + 30 * number,
        loss_train=3.0 + 1.3 * fall + wiggle,
        loss_trust=3.3 + 1.1 * fall + wiggle / 2,
        guard_base=4.45,
        guard_own=3.42 + 1.0 * fall,
        guard_personal=3.3 + 1.0 * fall + (0.0 if accepted else 0.12),
        guard_twin=None,
        row=row,
        accepted=accepted,
        reason="" if accepted else "worse on the guard split",
        steps=20,
        bytes_in=0 if alone else 120_000,
        bytes_out=0 if alone else 60_000,
        on_trust=SplitNow(tokens=2048, documents=9, windows=11, against_base=LossMargin(nats=-0.9, within=0.1)),
        on_guard=SplitNow(tokens=4096, documents=17, windows=23, against_base=LossMargin(nats=fall - 1.0, within=0.1)),
    )


class Daemon:
    """A FakeView behind a real socket, in a thread with its own loop, holding the real lock."""

    def __init__(self, paths: Paths, view: FakeView) -> None:
        self.paths, self.view = paths, view
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._main, name="fake daemon", daemon=True)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.problem: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(MAX_REASONABLE_WAIT)
        if self.problem is not None:
            raise self.problem
        return self

    def __exit__(self, *_: object) -> None:
        assert self.view.stop is not None
        self.call(self.view.stop.set)
        self._thread.join(MAX_REASONABLE_WAIT)
        assert not self._thread.is_alive()
        if self.problem is not None:
            raise self.problem

    def call(self, act: Callable[[], object]) -> None:
        """Run it on the daemon's loop, where the view lives."""
        assert self.loop is not None
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(act)

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.problem = error
        finally:
            self._up.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.view.stop = asyncio.Event()
        self.paths.prepare()
        with lock.hold(self.paths.lock, version="0.1.0", socket=self.paths.socket):
            await serve(application(self.view), self.paths.socket, self.view.stop, ready=self._up.set)
