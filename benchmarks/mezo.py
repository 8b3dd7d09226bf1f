"""Training without gradients against AdamW. `python -m benchmarks.mezo --data DIR`: memory, and what it learns.

memory    each model and trainer in a process of its own: once the model is loaded and has been run, the kernel's mark
          of the highest resident size is set back; a step of 8 x 256 tokens is taken, and the mark read again. What a
          forward pass alone takes is measured likewise. Without `--data` this is all.
learning  one peer's text of the setting "languages" (the part of the paper's that simulations take), seeds 100 and up,
          at a constant rate. Loss on the guard split after so many steps, and after so many seconds of one core. AdamW
          has the daemon's rate; MeZO has that times each of `--scales`, since its best one differs by model.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.random_models import SHAPES, random_model
from p2pfinetune.system import interpreter, peak_memory

MIB = 2**20
BATCH, CONTEXT = 8, 256  # of a measured step: the daemon's
LEARNING_CONTEXT = 64  # the simulations'
CHUNK = 10  # steps between two looks at the clock
TRAINERS = ("forward", "mezo", "adamw")


def peak(model: str, trainer: str) -> dict[str, float]:
    """MiB above what the loaded model takes, and seconds of one core, of one step in a process of its own."""
    command = interpreter.command("-m", "benchmarks.mezo", "--child", json.dumps([model, trainer]))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603  # ourselves
    found: dict[str, float] = json.loads(done.stdout)
    return found


def child(model: str, trainer: str) -> None:
    """One cell: what `peak` reads from standard output."""
    import numpy as np
    import torch

    from p2pfinetune.batched.stack import AdapterStack
    from p2pfinetune.data.corpus import TokenSplit
    from p2pfinetune.model.adapter import attach
    from p2pfinetune.model.base import load_base
    from p2pfinetune.options import AdapterSpec, TrainingOptions
    from p2pfinetune.training.trainers import TRAINERS as KINDS

    torch.set_num_threads(1)
    base = load_base(model, device="cpu")
    adapted = attach(base, AdapterSpec())
    stack = AdapterStack(adapted)
    dice, entries = np.random.default_rng(0), int(base.model.config.get_text_config().vocab_size)
    tokens = dice.integers(0, entries, 4 * BATCH * CONTEXT).astype(np.uint32)
    by = KINDS.make("mezo" if trainer == "forward" else trainer)
    options = TrainingOptions(batch_size=BATCH, context=CONTEXT)
    made = by.trainer(adapted, TokenSplit.of([tokens]), options)
    made.share(stack)
    with torch.no_grad():
        stack.returned(torch.zeros((1, 8), dtype=torch.int64))
    peak_memory.forget()
    before, began = _reached(), time.process_time()
    if trainer == "forward":
        with torch.no_grad():
            ids = torch.from_numpy(tokens[: BATCH * CONTEXT].astype(np.int64)).view(BATCH, CONTEXT)
            stack.output.losses(stack.returned(ids).flatten(0, 1), ids.flatten())
    else:
        made.run(1)
    found = {"mib": (_reached() - before) / MIB, "loaded": before / MIB, "cpu": time.process_time() - began}
    json.dump(found, sys.stdout)


def _reached() -> int:
    """Bytes, the most since the mark was set back; right after that, what is resident."""
    reached = peak_memory.reached()
    assert reached is not None, "this system does not say how much memory a process has held"
    return reached


def learning(
    model: str, data: Path, seed: int, steps: int, seconds: float, scales: Sequence[float]
) -> dict[str, list[float]]:
    """By trainer: guard loss of the base, after so many steps, after so many seconds, and steps in these."""
    import msgspec
    import torch

    from p2pfinetune.batched.measuring import evaluate_together
    from p2pfinetune.batched.stack import AdapterStack
    from p2pfinetune.model.adapter import attach
    from p2pfinetune.model.base import load_base
    from p2pfinetune.options import SMALL_SCALE, AdapterSpec, TrainingOptions
    from p2pfinetune.paper.populations import populate
    from p2pfinetune.scoring.evaluate import measure_of
    from p2pfinetune.training.trainers import TRAINERS as KINDS

    torch.set_num_threads(1)
    base = load_base(model, device="cpu")
    population = populate("languages", "specific", base=base, data=data, scale=SMALL_SCALE, seed=seed, test_tokens=0)
    text = population.texts[population.peers[0]]
    adapted = attach(base, AdapterSpec())
    stack = AdapterStack(adapted)
    entries = int(adapted.model.config.get_text_config().vocab_size)
    guard = measure_of(text.guard, context=LEARNING_CONTEXT, vocabulary=entries, max_tokens=4096)

    def loss(adapter: Any) -> float:
        return evaluate_together(adapted, [adapter], guard, base.device, stack=stack)[0].loss

    found: dict[str, list[float]] = {}
    kinds = {"adamw": KINDS.make("adamw"), **{_named(one): KINDS.make("mezo", {"scale": one}) for one in scales}}
    for name, kind in kinds.items():
        options = msgspec.structs.replace(TrainingOptions(), context=LEARNING_CONTEXT, seed=seed)
        trainer = kind.trainer(adapted, text.train, options)
        trainer.share(stack)
        at_steps, at_seconds, spent = None, None, 0.0
        while at_steps is None or at_seconds is None:
            began = time.process_time()
            trainer.run(CHUNK)
            spent += time.process_time() - began
            if trainer.steps >= steps and at_steps is None:
                at_steps = loss(trainer.adapter)
            if spent >= seconds and at_seconds is None:
                at_seconds, taken = loss(trainer.adapter), trainer.steps
        found[name] = [loss(adapted.initial), at_steps, at_seconds, taken]
    return found


def _named(scale: float) -> str:
    return f"mezo, scale {scale:g}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Two tables in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mezo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--memory", nargs="*", default=["nano", "smollm2-135m", "gpt2-124m"], metavar="MODEL")
    parser.add_argument("--folder", type=Path, default=Path("reports/random-models"), help="for random models")
    parser.add_argument("--data", type=Path, help="raw text of the settings; without it nothing is learnt")
    parser.add_argument("--models", nargs="+", default=["nano"], help="that learn")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one core")
    parser.add_argument("--scales", nargs="+", type=float, default=[1.0, 3.0], help="MeZO's rates, in AdamW's")
    given = parser.parse_args(arguments)
    if given.child:
        child(*json.loads(given.child))
        return 0
    if given.memory:
        print("| model | loaded, MiB | trainer | a step above that, MiB | seconds |\n|---|---:|---|---:|---:|")
    for model in given.memory:
        where = str(random_model(given.folder, model, "bf16")) if model in SHAPES else model
        for trainer in TRAINERS:
            cell = peak(where, trainer)
            print(
                f"| {Path(model).name} | {cell['loaded']:.0f} | {trainer} | {cell['mib']:.0f} | {cell['cpu']:.1f} |",
                flush=True,
            )
    if given.data is not None:
        _say_learnt(given)
    return 0


def _say_learnt(given: argparse.Namespace) -> None:
    print(f"\n| model | trainer | base | after {given.steps} steps | after {given.seconds:g} s | steps in these |")
    print("|---|---|---:|---:|---:|---:|")
    for model in given.models:
        runs = [
            learning(model, given.data, 100 + i, given.steps, given.seconds, given.scales) for i in range(given.seeds)
        ]
        for name in runs[0]:
            columns = [[run[name][place] for run in runs] for place in range(4)]
            cells = [f"{statistics.fmean(one):.2f} ({min(one):.2f} to {max(one):.2f})" for one in columns[:3]]
            print(
                f"| {Path(model).name} | {name} | {' | '.join(cells)} | {statistics.fmean(columns[3]):.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    sys.exit(main())
