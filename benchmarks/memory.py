"""Where the memory of a worker goes. `python -m benchmarks.memory`: peaks of each stage of a round, measured.

Every cell is a process of its own that does what a worker does, with the worker's own jobs: open, train, encode, admit
and merge neighbours' updates, write checkpoints, continue a prompt. Before each stage the kernel's mark of the highest
resident size is set back (`/proc/self/clear_refs`), so a stage's peak is its own. Beside it stands the highest
`VmData`, sampled: what Linux counts against `--worker-memory`, pages included that nothing has touched yet.

Models are of random weights (`random_models`); memory follows from shapes alone. `--limit MIB` runs a cell under that
limit, as `--worker-memory` would.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.random_models import SHAPES, random_model
from p2pfinetune.model.fitting import KNOWN
from p2pfinetune.model.memory import GIB, MemoryPlan, Quantize, Setting, needed
from p2pfinetune.model.shape import Shape
from p2pfinetune.system import interpreter, peak_memory
from peerd.worker import ram_limit

MIB = 2**20
SAMPLE_SECONDS = 0.005
FEW = {"guard_tokens": 2048, "trust_tokens": 2048, "twin": "off", "precision": "fp32"}
"""Options that shorten a round and change no peak: a pass is full with so many tokens."""


@dataclass(frozen=True, slots=True)
class Peak:
    """Of one stage, MiB."""

    stage: str
    resident: float
    data: float
    seconds: float


@dataclass(slots=True)
class Sampled:
    """The highest VmData of each stage, MiB, as the parent sees it."""

    highest: dict[str, float] = field(default_factory=dict)
    stage: str = "begin"

    def look(self, pid: int) -> bool:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
        except OSError:
            return False
        for line in status.splitlines():
            if line.startswith("VmData:"):
                self.highest[self.stage] = max(self.highest.get(self.stage, 0.0), int(line.split()[1]) / 1024)
        return True


def measured(cell: dict[str, Any], limit_mib: int, peaks: list[Peak]) -> str:
    """Adds the peaks of a cell as they are known, and returns why it ended if it did not end well."""
    command = interpreter.command("-m", "benchmarks.memory", "--child", json.dumps(cell | {"limit": limit_mib}))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:  # noqa: S603  # ourselves
        return _followed(process, peaks)


def _followed(process: subprocess.Popen[str], peaks: list[Peak]) -> str:
    sampled, over = Sampled(), threading.Event()

    def sample() -> None:
        while not over.is_set() and sampled.look(process.pid):
            time.sleep(SAMPLE_SECONDS)

    said: list[str] = []
    threads = [threading.Thread(target=work) for work in (sample, lambda: said.extend(process.stderr or []))]
    for thread in threads:
        thread.start()
    try:
        for line in process.stdout or ():
            _note(line, sampled, peaks)
        code = process.wait()
    finally:
        over.set()
        process.kill()
        for thread in threads:
            thread.join()
    return "" if code == 0 else f"exit {code}: {''.join(said)[-600:]}"


def _note(line: str, sampled: Sampled, peaks: list[Peak]) -> None:
    word, _, rest = line.rstrip().partition(" ")
    if word == "stage":
        stage, resident, seconds = rest.split()
        peaks.append(Peak(stage, float(resident), sampled.highest.get(stage, 0.0), float(seconds)))
        print(f"  {stage:10} {resident:>9} MiB resident {peaks[-1].data:9.0f} data {seconds:>8} s", flush=True)
    elif word == "plan":
        print(f"  {rest}", flush=True)
    elif word == "begin":
        sampled.stage = rest


# what the child does


class Stages:
    """Runs stages and says the peak of each on standard output."""

    def __init__(self, outgoing: Any) -> None:
        self._outgoing = outgoing

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        self._say(f"begin {name}")
        peak_memory.forget()
        began = time.perf_counter()
        found = work()
        seconds = time.perf_counter() - began
        reached = peak_memory.reached()
        assert reached is not None, "this system does not say how much memory a process has held"
        ram_limit.give_back()  # as a worker does after a job
        self._say(f"stage {name} {reached / MIB:.1f} {seconds:.2f}")
        return found

    def note(self, planned: Any) -> None:
        """How it is run, as the worker decided."""
        self._say(f"plan {planned.memory.said}; {planned.memory.measures or 'nothing done'}")

    def _say(self, line: str) -> None:
        print(line, file=self._outgoing, flush=True)


def child(cell: dict[str, Any]) -> int:
    """One worker's life in this process."""
    outgoing, sys.stdout = sys.stdout, sys.stderr
    stage = Stages(outgoing)
    if cell["limit"]:
        ram_limit.hold_to(cell["limit"])
    with tempfile.TemporaryDirectory(prefix="fits-") as scratch:
        _live(cell, stage, Path(scratch))
    return 0


def _live(cell: dict[str, Any], stage: Stages, scratch: Path) -> None:
    from p2pfinetune.names import PeerId, Round
    from peerd.config import Config
    from peerd.worker.jobs import Jobs
    from peerd.worker.messages import CollaborateWith, Encode, Generate, Open, TrainSteps, UpdateFile

    def imports() -> None:
        import peft  # noqa: F401
        import torch
        import transformers  # noqa: F401
        from peft import LoraConfig  # noqa: F401
        from transformers import AutoModelForCausalLM  # noqa: F401

        torch.set_num_threads(cell["threads"])

    stage("imports", imports)
    data = scratch / "text.txt"
    data.write_text(text(cell["characters"]), encoding="utf-8")
    own = {"data": (str(data),), "threads": cell["threads"], "worker_memory": cell["limit"]}
    config = Config(model=cell["model"], **own, **cell["options"])
    places = {"cache": str(scratch / "cache"), "scratch": str(scratch / "scratch"), "splits": str(scratch / "splits")}
    nothing: dict[str, Any] = {"checkpoint": None, "best": None, "best_guard": None}
    jobs = Jobs(lambda _: None, lambda note: stage.note(note.planned) if note.planned is not None else None)
    stage("open", lambda: jobs.perform(Open(id=1, config=config, me=PeerId("me"), **places, **nothing)))
    stage("train", lambda: jobs.perform(TrainSteps(id=2, round=Round(0), steps=cell["steps"])))
    update = stage("encode", lambda: jobs.perform(Encode(id=3, codec="bf16")))
    updates = [UpdateFile(peer=PeerId(f"peer{i}"), path=update.path, codec="bf16") for i in range(cell["neighbours"])]
    stage("merge", lambda: jobs.perform(CollaborateWith(id=5, round=Round(1), updates=updates)))
    asked = Generate(id=7, prompt="Once upon a time", max_tokens=16, temperature=0.0, seed=0)
    stage("generate", lambda: jobs.perform(asked))


def text(characters: int) -> str:
    """Random paragraphs: only their number matters."""
    dice = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(dice.choices(letters, k=dice.randint(2, 8))) for _ in range(3000)]
    found, size = [], 0
    while size < characters:
        paragraph = " ".join(dice.choices(words, k=300))
        found.append(paragraph)
        size += len(paragraph)
    return "\n\n".join(found)


PLANS: dict[str, dict[str, Any]] = {
    "nothing done": {},
    "passes of 256": {"positions": 256},
    "checkpointing": {"checkpointing": True},
    "both": {"positions": 256, "checkpointing": True},
}


def predicted() -> str:
    """What is computed for known models with default options, GiB, as a table in Markdown."""
    lines = [f"| parameters | held in | {' | '.join(PLANS)} |", f"|---:|---|{'---:|' * len(PLANS)}"]
    for shape in reversed(KNOWN.values()):
        full = replace(shape, bytes_each=4)
        held: dict[str, tuple[Shape, Quantize]] = {
            "fp32": (full, "none"), "bf16": (shape, "none"), "8 bits": (shape, "8bit"), "4 bits": (shape, "4bit"),
        }  # fmt: skip
        for word, (stored, quantize) in held.items():
            plans = (MemoryPlan(quantize=quantize, **plan) for plan in PLANS.values())
            cells = [f"{needed(stored, Setting(has_twin=True), plan).total / GIB:.1f}" for plan in plans]
            lines.append(f"| {shape.parameters / 1e9:.2f} B | {word} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each cell."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--predicted", action="store_true", help="print what is computed for known models, and end")
    parser.add_argument("--shapes", nargs="+", default=["gpt2-124m"], help=f"{', '.join(SHAPES)}, nano or a folder")
    parser.add_argument("--stored", choices=["fp32", "bf16"], default="bf16", help="how weights lie on disk")
    parser.add_argument("--folder", type=Path, default=Path("reports/random-models"), help="for random models")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="of peerd start")
    parser.add_argument("--neighbours", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=int, default=0, help="MiB of data that the process may have; 0: no limit")
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args(arguments)
    if given.child:
        return child(json.loads(given.child))
    if given.predicted:
        print(predicted())
        return 0
    options = FEW | dict(_option(one) for one in given.option)
    rows = []
    for shape in given.shapes:
        model = str(random_model(given.folder, shape, given.stored)) if shape in SHAPES else shape
        cell = {"model": model, "options": options, "threads": given.threads, "steps": given.steps,
                "neighbours": given.neighbours, "characters": 400_000}  # fmt: skip
        peaks: list[Peak] = []
        print(f"{shape}, stored in {given.stored}, {options}, {given.neighbours} neighbours", flush=True)
        why = measured(cell, given.limit, peaks)
        print(f"  highest    {max((p.resident for p in peaks), default=0.0):9.0f} MiB {why}", flush=True)
        rows.append({"shape": shape, "stored": given.stored, "options": options, "neighbours": given.neighbours,
                     "failed": why, "peaks": [asdict(peak) for peak in peaks]})  # fmt: skip
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


def _option(said: str) -> tuple[str, Any]:
    name, _, value = said.partition("=")
    return name.replace("-", "_"), int(value) if value.isdigit() else value


if __name__ == "__main__":
    sys.exit(main())
