"""A training step in bf16 against one in fp32, on this processor. `python -m benchmarks.precision`.

The two take turns in one process, so that whatever else the machine does meets both. A ratio is the median of those of
neighbouring steps, with their quartiles. Models: the embedded one, and one of random weights that is shaped as GPT-2.
The last line of a model is what `--precision auto` does with it: its few steps, how long they took, and what it chose.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import attach
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.precision import PRECISIONS, quicker
from p2pfinetune.model.processor import missing
from p2pfinetune.names import Digest
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.step_times import step_times
from p2pfinetune.training.trainers.adamw import AdamW

MODELS = ("nano", "gpt2-shaped")
SHAPES = ((1, 64), (2, 256), (8, 256))  # sequences x tokens; `auto` measures the second, the last is the default
SMALL = 50_000_000  # parameters; a larger model takes a quarter of a minute for a step of the last shape


@dataclass(frozen=True, slots=True)
class Timing:
    """One shape of a batch; milliseconds of a step, medians."""

    model: str
    sequences: int
    tokens: int
    threads: int
    fp32_ms: float
    bf16_ms: float
    ratio: float
    quartiles: tuple[float, float]
    """Of the ratios of neighbouring steps."""
    loss_difference: float
    """Largest between the two, of any step: what the other numbers do to a loss on the same batch."""


def base_named(name: str) -> Base:
    """Loaded, or made of random numbers by a seed."""
    if name != "gpt2-shaped":
        return load_base(name, device="cpu")
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)).eval().requires_grad_(False)
    nothing = Digest("")
    return Base(name, model, None, nothing, nothing, nothing, torch.device("cpu"))  # type: ignore[arg-type]


def text(vocabulary: int) -> TokenSplit:
    """Random tokens: only their number matters here."""
    dice = np.random.default_rng(0)
    return TokenSplit.of([dice.integers(1, vocabulary, 1000).astype(np.uint32) for _ in range(8)])


def measured(base: Base, shape: tuple[int, int], repetitions: int, clock: Callable[[], float]) -> Timing:
    """Both by turns, after a step of each that does not count."""
    sequences, tokens = shape
    options = TrainingOptions(batch_size=sequences, context=tokens)
    split = text(int(base.model.config.vocab_size))
    trainers = [AdamW().trainer(attach(replace(base, precision=p), AdapterSpec()), split, options) for p in PRECISIONS]
    rows: list[list[float]] = []
    furthest = 0.0
    for _ in range(1 + repetitions):
        losses, row = [], []
        for trainer in trainers:
            start = clock()
            losses.append(trainer.step().loss)
            row.append(1e3 * (clock() - start))
        rows.append(row)
        furthest = max(furthest, abs(losses[1] - losses[0]))
    ratios = [half / full for full, half in rows[1:]]
    low, _, high = statistics.quantiles(ratios, n=4)
    full_ms, half_ms = (statistics.median(row[i] for row in rows[1:]) for i in (0, 1))
    threads = torch.get_num_threads()
    ratio = statistics.median(ratios)
    return Timing(base.name, sequences, tokens, threads, full_ms, half_ms, ratio, (low, high), furthest)


def chosen_for(base: Base, clock: Callable[[], float]) -> str:
    """A sentence: what `auto` becomes."""
    if why_not := missing(base.device):
        return f"auto: fp32, {why_not}"
    split, began = text(int(base.model.config.vocab_size)), time.perf_counter()
    found = quicker(step_times(base, split, TrainingOptions(), AdapterSpec(), clock))
    return f"auto: {found.precision}, {found.why}; found out in {time.perf_counter() - began:.1f} s"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), help=f"names, folders, or {MODELS[1]}")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy with other things")
    parser.add_argument("--out", type=Path, default=Path("reports/precision.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(given.threads)
    clock = time.process_time if given.cpu_time else time.perf_counter
    kind = "CPU time" if given.cpu_time else "wall clock"
    print(f"bf16: {missing(torch.device('cpu')) or 'this processor has units for it, and they may be used'}")
    print(f"milliseconds of a step, {kind}, medians of {given.repetitions}; ratio: bf16 / fp32")
    print("model        sequences x tokens  threads     fp32     bf16   ratio  quartiles     losses differ by")
    timings, choices = [], {}
    for name in given.models:
        base = base_named(name)
        is_small = sum(parameter.numel() for parameter in base.model.parameters()) < SMALL
        for shape in SHAPES if is_small else SHAPES[:-1]:
            found = measured(base, shape, given.repetitions, clock)
            timings.append(found)
            print(
                f"{found.model:12} {found.sequences:9} x {found.tokens:<6} {found.threads:8} {found.fp32_ms:8.1f}"
                f" {found.bf16_ms:8.1f} {found.ratio:7.2f}  {found.quartiles[0]:.2f} to {found.quartiles[1]:.2f}"
                f"  {found.loss_difference:.4f} at most",
                flush=True,
            )
        choices[name] = chosen_for(base, time.process_time)
        print(f"{name}: {choices[name]}", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"timings": [asdict(t) for t in timings], "auto": choices}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
