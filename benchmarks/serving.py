"""How long an answer waits beside training, and what share of the time it takes. `python -m benchmarks.serving`.

The worker's own loop (`peerd.worker.child`), its jobs and its turns, with one thread of torch, in one process. Times
are processor seconds of this process, those of the clock by which turns are taken too: on a machine that does nothing
else they are the seconds of a clock, and what else a busy one does is no part of them. A question comes at a random
moment of the training; the next one some steps after its answer, or at once (`--at-once`).
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from p2pfinetune.names import PeerId, Round
from p2pfinetune.speech import ChatLine, Piece, Sampling
from peerd.config import Config
from peerd.worker import framing
from peerd.worker.child import Child
from peerd.worker.jobs import Jobs
from peerd.worker.messages import (
    AnyAnswer,
    Close,
    JobFailed,
    JobProgress,
    Open,
    Opened,
    Respond,
    Responded,
    Sent,
    Spoken,
    TrainSteps,
)
from peerd.worker.rota import Rota

QUESTION = (ChatLine("user", "What does the worker do when the daemon is gone, and what is lost then?"),)
WARM_STEPS = 3  # that nothing is said of
PLAIN_STEPS = 8  # before the first question, to compare with
TEXT = Path(__file__).parents[1] / "docs"


class Talk:
    """One worker in a thread, and what has come from it, each with the processor time at which it was there."""

    def __init__(self, folder: Path, config: Config) -> None:
        (jobs_out, jobs_in), (answers_out, answers_in) = os.pipe(), os.pipe()
        self._jobs: BinaryIO = os.fdopen(jobs_in, "wb", buffering=0)
        self._answers: BinaryIO = os.fdopen(answers_out, "rb")
        child = Child(os.fdopen(jobs_out, "rb"), os.fdopen(answers_in, "wb"), Jobs)
        vars(child)["_turns"] = Rota(time.process_time, config.serve_share)
        self._wire, self._reads, self._id = framing.jobs(), framing.answers(), 0
        threading.Thread(target=child.run, name="worker", daemon=True).start()
        self.open(folder, config)

    def open(self, folder: Path, config: Config) -> None:
        for name in ("cache", "scratch"):
            (folder / name).mkdir()
        places = {name: str(folder / name) for name in ("cache", "scratch", "splits")}
        self.send(Open(id=0, config=config, me=PeerId("me"), checkpoint=None, best=None, best_guard=None, **places))
        next(answer for _, answer in self.heard() if isinstance(answer, Opened))

    def send(self, job: Sent) -> float:
        """When it was sent."""
        self._jobs.write(self._wire.pack(job))
        return time.process_time()

    def heard(self) -> Iterator[tuple[float, AnyAnswer]]:
        while (answer := self._reads.read(self._answers)) is not None:
            if isinstance(answer, JobFailed):
                raise SystemExit(f"{answer.code}: {answer.message}")
            yield time.process_time(), answer


class Figures:
    """Of one run."""

    def __init__(self) -> None:
        self.steps: list[float] = []  # seconds of each with nobody waiting
        self.turn: list[float] = []  # seconds from a question to its first turn
        self.first: list[float] = []  # seconds from a question to its first piece
        self.rates: list[float] = []  # pieces a second from the first to the last
        self.while_waiting = [0.0, 0]  # seconds with an answer under way, and steps that were done in them


def measure(talk: Talk, questions: int, tokens: int, seed: int, *, at_once: bool) -> Figures:
    """Until so many questions are answered; a step's reports are the clock by which a question is due."""
    found, dice = Figures(), random.Random(seed)
    talk.send(TrainSteps(id=1, round=Round(1), steps=1_000_000))
    asked = first = last_step = 0.0
    due, pieces, number, step = WARM_STEPS + PLAIN_STEPS, 0, 0, 0
    for at, answer in talk.heard():
        if isinstance(answer, JobProgress):
            fresh = answer.done - step  # notes of quick steps are left out
            if not asked and step > WARM_STEPS and fresh:
                found.steps.append((at - last_step) / fresh)
            step, last_step = answer.done, at
            found.while_waiting[1] += fresh * bool(asked)
            if not asked and step >= due:
                middle = statistics.median(found.steps or [0.0]) * dice.random()
                while time.process_time() - at < middle:
                    time.sleep(0.001)
                number += 1
                asked, first, pieces = talk.send(question(number + 1, tokens, seed)), 0.0, 0
        elif isinstance(answer, Spoken) and isinstance(answer.said, Piece):
            pieces += 1
            if not first:
                first = at
                found.first.append(at - asked)
        elif isinstance(answer, Spoken):
            found.turn.append(at - asked)
        elif isinstance(answer, Responded):
            found.while_waiting[0] += at - asked
            if pieces > 1:
                found.rates.append((pieces - 1) / (at - first))
            asked, due = 0.0, step if at_once else step + 1 + dice.randrange(3)
            if number == questions:
                return found
    return found


def question(number: int, tokens: int, seed: int) -> Respond:
    sampling = Sampling(max_tokens=tokens, temperature=1.0, seed=seed + number)
    return Respond(id=number, which="personal", prompt=None, chat=QUESTION, sampling=sampling, cuts=True)


def line(found: Figures, share: float) -> str:
    step, first, turn = statistics.median(found.steps), sorted(found.first), sorted(found.turn)
    seconds, steps = found.while_waiting
    training = steps * step / seconds if seconds else 0.0
    return (
        f"| {share} | {step:.2f} | {max(found.steps):.2f} | {statistics.median(turn):.2f} | {turn[-1]:.2f} | "
        f"{statistics.median(first):.2f} | {first[-1]:.2f} | "
        f"{statistics.median(found.rates or [0.0]):.1f} | {training:.2f} |"
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.8])
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--context", type=int, default=Config().context)
    parser.add_argument("--batch-size", type=int, default=Config().batch_size)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--at-once", action="store_true", help="ask again as soon as an answer has come")
    return parser.parse_args()


def main() -> None:
    import torch

    torch.set_num_threads(1)
    given = arguments()
    print(
        "| share | step s | longest | first turn s | longest | first token s | longest | pieces/s | training's speed |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for share in given.shares:
        options: dict[str, Any] = {"batch_size": given.batch_size, "context": given.context, "model": given.model}
        config = Config(
            data=(str(TEXT),), device="cpu", threads=1, precision="fp32", twin="off", serve_share=share, **options
        )
        with tempfile.TemporaryDirectory() as folder:
            talk = Talk(Path(folder), config)
            print(
                line(measure(talk, given.questions, given.tokens, given.seed, at_once=given.at_once), share), flush=True
            )
            talk.send(Close(id=10_000_000))


if __name__ == "__main__":
    main()
