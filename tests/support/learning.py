"""A worker process without torch: an adapter is one number in a JSON file, training adds to it, merging takes the mean.

Guard loss is the distance to 10. The data path decides special behaviour, by its last part.
"""

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NoReturn

from p2pfinetune.errors import OptionError, TextError, TooLittleText
from p2pfinetune.names import Digest
from p2pfinetune.round.figures import AssemblyFigures, ModelFigures, RoundFigures
from p2pfinetune.speech import Begun, Chance, Choice, Ended, Piece
from peerd.config import Config
from peerd.errors import UsageError
from peerd.status import TextNow
from peerd.worker import child
from peerd.worker.jobs import BETWEEN_STEPS, Between
from peerd.worker.messages import (
    Admitted,
    AdmitUpdate,
    AnyAnswer,
    AnyJob,
    AssembleFrom,
    CollaborateWith,
    Encode,
    Encoded,
    EvaluateTest,
    EvaluateText,
    Export,
    Generate,
    Generated,
    JobProgress,
    Merged,
    NotAdmitted,
    Open,
    Opened,
    ReadAgain,
    Reread,
    Respond,
    Responded,
    Spoken,
    Stepped,
    TestEvaluated,
    TextEvaluated,
    TrainSteps,
    Withheld,
)

GOAL = 10.0


def digest(*values: object) -> Digest:
    return Digest(hashlib.sha256(repr(values).encode()).hexdigest())


def network_of(config: Config) -> Digest:
    """Readable where only the group was chosen."""
    usual = Config()
    if (config.model, config.rank) == (usual.model, usual.rank):
        return Digest((config.group.encode().hex() + "0" * 64)[:64])
    return digest(config.group, config.model, config.rank)


class FakeLearning:
    job: Open
    kind: str

    def __init__(self, between: Between, progress: Callable[[JobProgress], None]) -> None:
        self.between, self.progress = between, progress
        self.value, self.steps, self.files, self.best = 0.0, 0, 0, GOAL

    def perform(self, job: AnyJob) -> AnyAnswer:
        answer: AnyAnswer = getattr(self, f"on_{type(job).__name__}")(job)
        return answer

    def on_Open(self, job: Open) -> Opened:
        self.job, self.kind = job, Path(job.config.data[0]).name
        if self.kind == "short":
            raise TooLittleText("too little text: 3 tokens", "add text")
        if job.checkpoint:
            kept = json.loads(Path(job.checkpoint).read_text())
            self.value, self.steps = kept["value"], kept["steps"]
            self.best = job.best_guard if job.best_guard is not None else GOAL
        return Opened(
            id=job.id,
            network=network_of(job.config),
            traits={"model": digest(job.config.model), "adapter": digest(job.config.rank)},
            device="cpu",
            max_blob_bytes={"bf16": 1000},
            restored=job.checkpoint is not None,
            base_guard=GOAL,
            report=["1 document"],
            notices=["This fake model is adapted in part"],
            fingerprint="f",
            parameters=1,
            adapter_parameters=1,
            gates=self.gates(),
            gate_bytes=100,
            best_guard=self.best if job.checkpoint else None,
            steps=self.steps,
        )

    def on_TrainSteps(self, job: TrainSteps) -> Stepped:
        for step in range(job.steps):
            self.progress(JobProgress(id=job.id, activity="training", done=step + 1, total=job.steps, loss=1.0))
            while self.kind == "slow":
                time.sleep(0.01)
                self.between(BETWEEN_STEPS)
            if self.kind == "hangs":
                time.sleep(1000)
            if self.kind == "dies once" and not (marker := Path(self.job.cache) / "died").exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if self.kind == "stops once" and self.is_first("stopped"):
                os.kill(os.getpid(), signal.SIGSTOP)
            if self.kind == "dies often" and len(left := list(Path(self.job.cache).glob("died*"))) < 3:
                self.write("a checkpoint that nobody hears of")
                (Path(self.job.cache) / f"died {len(left)}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            self.value, self.steps = self.value + 0.25, self.steps + 1
            self.between(BETWEEN_STEPS)
        return Stepped(
            id=job.id, checkpoint=self.checkpoint(), steps=job.steps, tokens=8, loss_train=abs(GOAL - self.value)
        )

    def respond(self, job: Respond) -> Iterator[Spoken | Responded | None]:
        """A word a pass, of the prompt or what was said last; `forever` is said until it is cancelled."""
        text = job.chat[-1].content if job.prompt is None else job.prompt
        if text == "refuse":
            raise OptionError("it is not gone on with", "ask for something else")
        if text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        words = text.split()
        yield Spoken(id=job.id, said=Begun(prompt_tokens=len(words)))
        made = 0
        while made < job.sampling.max_tokens and (text == "forever" or made < len(words)):
            yield Spoken(id=job.id, said=Piece(text=f" {words[made % len(words)]}", chances=self.chances(job, made)))
            yield None
            made += 1
        reason: Literal["stop", "length"] = "length" if made == job.sampling.max_tokens else "stop"
        yield Responded(id=job.id, ended=Ended(reason=reason, prompt_tokens=len(words), completion_tokens=made))

    def chances(self, job: Respond, made: int) -> tuple[Chance, ...]:
        if (choices := job.sampling.choices) is None:
            return ()
        return (Chance(f"{made}", -0.5, tuple(Choice(f"{n}", -1.0 - n) for n in range(choices))),)

    def on_Encode(self, job: Encode) -> Encoded | Withheld:
        if self.kind == "cannot encode":
            raise UsageError("no")
        text = "not an update" if self.kind == "liar" else json.dumps(self.value)
        if job.private is None:
            return Encoded(id=job.id, path=self.write(text), size=len(text), gates=self.gates())
        epsilon = 1.0 + sum(count for _, count in job.private.spent)  # one for each update
        if job.private.budget and epsilon > job.private.budget:
            return Withheld(id=job.id, epsilon=epsilon)
        text = json.dumps(self.value + random.random())
        return Encoded(id=job.id, path=self.write(text), size=len(text), epsilon=epsilon)

    def on_AdmitUpdate(self, job: AdmitUpdate) -> Admitted | NotAdmitted:
        return Admitted(id=job.id) if self.read(job.path) is not None else NotAdmitted(id=job.id, reason="decode")

    def on_CollaborateWith(self, job: CollaborateWith) -> Merged:
        if self.kind == "hangs merging" or (self.kind == "hangs merging once" and self.is_first("hung")):
            time.sleep(1000)
        if self.kind == "cannot merge":
            raise ValueError("surprise")
        read = {update.peer: self.read(update.path) for update in job.updates}
        others = {peer: value for peer, value in read.items() if value is not None}
        own = abs(GOAL - self.value)
        self.value = (self.value + sum(others.values())) / (1 + len(others))
        guard = abs(GOAL - self.value)
        is_best = guard < self.best
        self.best = min(self.best, guard)
        weight = 1 / (1 + len(others))
        return Merged(
            id=job.id,
            checkpoint=self.checkpoint(),
            best=self.write(json.dumps({"best": self.value})) if is_best else None,
            best_guard=self.best,
            row={self.job.me: weight, **dict.fromkeys(others, weight)},
            accepted=True,
            reason="",
            figures=RoundFigures(loss_trust=guard, guard_base=GOAL, guard_own=own, guard_personal=guard),
        )

    def gates(self) -> str:
        return self.write("1") if self.job.config.gate_steps and self.steps else ""

    def on_AssembleFrom(self, job: AssembleFrom) -> Merged:
        """Of what those have that gave gates, the mean."""
        gates = {peer: Path(path).read_text() for peer, path in job.gates.items()}
        read = {one.peer: self.read(one.path) for one in job.updates}
        pieces = {peer: value for peer, value in read.items() if value is not None and gates.get(peer) == "1"}
        if not pieces:
            raise OptionError("no neighbour gave both an adapter and gates that can be used", "train as usual")
        self.value = sum(pieces.values()) / len(pieces)
        self.best = guard = abs(GOAL - self.value)
        return Merged(
            id=job.id,
            checkpoint=self.checkpoint(),
            best=self.write(json.dumps({"best": self.value})),
            best_guard=guard,
            row={self.job.me: 0.0, **dict.fromkeys(pieces, 1 / len(pieces))},
            accepted=True,
            reason="",
            figures=RoundFigures(
                guard_base=GOAL, guard_own=GOAL, guard_personal=guard,
                assembly=AssemblyFigures(peers=len(pieces), layers=4),
            ),
        )  # fmt: skip

    def on_Generate(self, job: Generate) -> Generated:
        personal = str(self.value)
        return Generated(id=job.id, base=job.prompt, own=job.prompt, personal=personal, served=personal)

    def on_Export(self, job: Export) -> NoReturn:
        raise UsageError("that folder cannot be written", "choose another")

    def on_EvaluateText(self, job: EvaluateText) -> TextEvaluated:
        for file in job.files:
            if not Path(file).exists():
                raise TextError(f"there is no file or folder {file}", "look at the spelling")
        self.progress(JobProgress(id=job.id, activity="evaluating", done=0, total=1))
        figures = dict.fromkeys(("base", "own", "personal", "served"), ModelFigures(loss=1.0))
        return TextEvaluated(
            id=job.id,
            models=figures,
            served_by="personal",
            tokens=8,
            documents=1,
            windows=1,
            of_tokens=9,
            of_documents=1,
            text=TextNow(files=1, documents=1, characters=9) if job.files else None,
        )

    def on_EvaluateTest(self, job: EvaluateTest) -> TestEvaluated:
        return TestEvaluated(id=job.id, base=1.0, own=1.0, personal=1.0, twin=None, served=1.0, documents=1, tokens=8)

    def on_Reread(self, job: Reread) -> ReadAgain:
        return ReadAgain(id=job.id, changed=True, fingerprint="g", report=["2 documents"])

    def is_first(self, word: str) -> bool:
        """Whether no worker of this home has said this word before."""
        marker = Path(self.job.cache) / word
        if marker.exists():
            return False
        marker.touch()
        return True

    def checkpoint(self) -> str:
        return self.write(json.dumps({"value": self.value, "steps": self.steps}))

    def write(self, text: str) -> str:
        self.files += 1
        path = Path(self.job.scratch) / f"{os.getpid()}-{self.files}"
        path.write_text(text)
        return str(path)

    @staticmethod
    def read(path: str) -> float | None:
        try:
            return float(json.loads(Path(path).read_text()))
        except ValueError:
            return None


if __name__ == "__main__":
    code = child.main(FakeLearning)
    sys.stderr.flush()
    os._exit(code)
