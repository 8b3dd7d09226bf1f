"""A worker's jobs without a process: the real ones, or what stands for them."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2pfinetune.names import PeerId, Round
from peerd.config import Config
from peerd.worker import messages
from peerd.worker.child import MakeJobs
from peerd.worker.jobs import Jobs
from tests.support.texts import WORDS

ME, BOB = PeerId("12D3KooWme"), PeerId("12D3KooWbob")


class Bench:
    """One worker's folder and text; `notes` is the progress that was told."""

    def __init__(
        self,
        folder: Path,
        model: Path | str,
        *,
        interrupt: Callable[[Bench, Any], None] = lambda bench, kinds: None,
        seed: int = 0,
        make: MakeJobs = Jobs,
        **options: Any,
    ) -> None:
        self.folder, self.notes, self.interrupt = folder, list[messages.JobProgress](), interrupt
        folder.mkdir(exist_ok=True)
        (folder / "scratch").mkdir(exist_ok=True)
        (folder / "cache").mkdir(exist_ok=True)
        self.text = folder / "text"
        self.write(seed)
        defaults = {"data": (str(self.text),), "model": str(model), "context": 16, "batch_size": 2, "device": "cpu"}
        self.config = Config(**{**defaults, "threads": 1, "precision": "fp32", "twin": "off", **options})
        self.jobs: Any = make(lambda kinds: self.interrupt(self, kinds), self.notes.append)

    def write(self, seed: int, files: int = 24) -> None:
        """Text by dice, each seed another."""
        dice = random.Random(seed)
        self.text.mkdir(exist_ok=True)
        for number in range(files):
            lines = (" ".join(dice.choices(WORDS["water"], k=9)) for _ in range(9))
            (self.text / f"{number}.txt").write_text("\n".join(lines))

    def do(self, kind: Any, **fields: Any) -> Any:
        """The answer to a job."""
        return self.jobs.perform(kind(id=1, **fields))

    def open(self, checkpoint: str | None = None, best: str | None = None, best_guard: float | None = None) -> Any:
        """A new process that opens; or the same, once more."""
        return self.do(
            messages.Open,
            config=self.config,
            cache=str(self.folder / "cache"),
            scratch=str(self.folder / "scratch"),
            splits=str(self.folder / "splits.record"),
            me=ME,
            checkpoint=checkpoint,
            best=best,
            best_guard=best_guard,
        )

    def train(self, steps: int = 4) -> Any:
        return self.do(messages.TrainSteps, round=Round(1), steps=steps)

    def merge(self, *paths: str) -> Any:
        updates = [messages.UpdateFile(peer=BOB, path=path, codec="bf16") for path in paths]
        return self.do(messages.CollaborateWith, round=Round(1), updates=updates)

    def generate(self) -> Any:
        return self.do(messages.Generate, prompt="river", max_tokens=3, temperature=1.0, seed=1)
