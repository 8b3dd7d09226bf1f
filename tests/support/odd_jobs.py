"""A worker whose jobs are done by nobody: what the prompt of a Generate job says decides how it behaves. No torch."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO

from p2pfinetune.errors import TooLittleText
from p2pfinetune.model.memory import MemoryPlan
from p2pfinetune.names import Digest
from p2pfinetune.speech import Begun, Ended, Piece
from peerd.status import MemoryNow
from peerd.worker import child
from peerd.worker.jobs import Between
from peerd.worker.messages import (
    AnyAnswer,
    AnyJob,
    Generate,
    Generated,
    JobProgress,
    Open,
    Opened,
    ReadAgain,
    Reread,
    Respond,
    Responded,
    Spoken,
    Stepped,
    TrainSteps,
)
from peerd.worker.planned import Planned


class FakeJobs:
    pipe: BinaryIO

    def __init__(self, between: Between, progress: Callable[[JobProgress], None]) -> None:
        self.between, self.progress = between, progress
        self.order: list[str] = []
        self.dies = False

    def perform(self, job: AnyJob) -> AnyAnswer:
        match job:
            case Open():
                return self.open(job)
            case TrainSteps():
                return self.train(job)
            case Generate():
                return self.generate(job)
            case Reread():
                return ReadAgain(id=job.id, changed=False, fingerprint=" ".join(self.order))
            case _:
                raise NotImplementedError(type(job))

    def open(self, job: Open) -> Opened:
        if job.config.model == "short":
            raise TooLittleText("too little text: 3 tokens", "add text")
        if job.config.model == "bug":
            raise ValueError("no such thing")
        if job.config.model == "dies":
            os._exit(7)
        self.plan_for(job)
        print("a library says hello on standard output")  # noqa: T201  # that is the point
        return Opened(
            id=job.id,
            network=Digest("0" * 64),
            device="cpu",
            max_blob_bytes={"bf16": 1000},
            restored=False,
            base_guard=2.0,
            report=[],
            fingerprint="f",
            parameters=1,
            adapter_parameters=1,
        )

    def plan_for(self, job: Open) -> None:
        """A model that is `hungry` trains by no plan but the second, one that is `starving` by none."""
        if job.config.model not in {"hungry", "starving"}:
            return
        plan = MemoryPlan(positions=512) if job.lighter_than is not None else MemoryPlan()
        self.dies = job.config.model == "starving" or not plan.positions
        memory = MemoryNow(needed_bytes=5, available_bytes=6, said="needs 5 of 6")
        planned = Planned(plan=plan, memory=memory, is_last=bool(plan.positions), ways=["--context 128"])
        self.progress(JobProgress(id=job.id, activity="starting", done=0, total=0, planned=planned))

    def train(self, job: TrainSteps) -> Stepped:
        if self.dies:
            raise MemoryError
        self.order.append("train begins")
        for step in range(job.steps):
            self.progress(
                JobProgress(id=job.id, activity="training", done=step + 1, total=job.steps, tokens=step * 100)
            )
            time.sleep(0.005)
            self.between((Generate,))
        self.order.append("train ends")
        return Stepped(id=job.id, checkpoint="c", steps=job.steps, tokens=1, loss_train=1.0)

    def respond(self, job: Respond) -> Iterator[Spoken | Responded | None]:
        """As many words as may be; each time in the order of all that is done."""
        yield Spoken(id=job.id, said=Begun(prompt_tokens=1))
        for made in range(job.sampling.max_tokens):
            self.order.append(f"pass of {job.prompt}")
            if job.prompt == "hang":
                time.sleep(1000)
            if job.prompt == "bug":
                raise RuntimeError("surprise")
            yield Spoken(id=job.id, said=Piece(text=f"{made}"))
        ended = Ended(reason="length", prompt_tokens=1, completion_tokens=job.sampling.max_tokens)
        yield Responded(id=job.id, ended=ended)

    def generate(self, job: Generate) -> Generated:
        self.order.append(f"generate {job.prompt}")
        match job.prompt:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                raise MemoryError
            case "fill":
                held = bytearray()
                while True:
                    held += bytes(2**24)
            case "bug":
                raise RuntimeError("surprise")
            case "hang":
                time.sleep(1000)
            case "garbage":
                os.write(self.pipe.fileno(), b"\xff" * 64)
                time.sleep(1000)
            case "parent":
                return Generated(id=job.id, base=str(os.getppid()), own=str(os.nice(0)), personal="")
        return Generated(id=job.id, base=job.prompt, own=job.prompt * job.max_tokens, personal="")


def own_pipes(original: Callable[[], tuple[BinaryIO, BinaryIO]] = child.own_pipes) -> tuple[BinaryIO, BinaryIO]:
    """Keeps hold of the pipe, to be able to write garbage into it."""
    incoming, outgoing = original()
    FakeJobs.pipe = outgoing
    return incoming, outgoing


if __name__ == "__main__":
    vars(child)["own_pipes"] = own_pipes
    code = child.main(FakeJobs)
    sys.stderr.flush()
    os._exit(code)
