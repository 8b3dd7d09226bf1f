"""Peers trained in one pass against a loop over plain peft models. `python -m benchmarks.batched_training`.

Both arms train the same peers on the same blocks with AdamW, clipping and fp32 losses, by turns in one process, so that
whatever else the machine does meets both. A ratio is that of medians over repetitions, with the quartiles of the ratios
of neighbouring repetitions. The loop gives every peer a live model of its own on the shared base.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, attach
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers.adamw import AdamW

SHAPES = ((1, 64), (1, 128), (4, 128))  # sequences x tokens of one peer's step
STEPS = 4  # of one repetition: a simulated round has more


@dataclass(frozen=True, slots=True)
class Timing:
    """One shape of a batch with one number of threads; milliseconds of a step of one peer."""

    sequences: int
    tokens: int
    threads: int
    loop_ms: float
    batched_ms: float
    ratio: float
    quartiles: tuple[float, float]
    """Of the ratios of neighbouring repetitions."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of all tensors that exist, each storage counted once."""

    base: int
    adapter: int
    batched: int
    """Base, stack and trainers after training: weights and moments of every peer."""


def tensor_bytes() -> int:
    """Of every tensor that is alive."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if issubclass(type(thing), Tensor):  # isinstance() would wake lazy attributes of modules
            storages[thing.untyped_storage().data_ptr()] = thing.untyped_storage().nbytes()
    return sum(storages.values())


def text(peer: int, vocabulary: int) -> TokenSplit:
    """Random tokens: only their number matters here."""
    dice = np.random.default_rng(peer)
    return TokenSplit.of([dice.integers(1, vocabulary, 1000).astype(np.uint16) for _ in range(4)])


class PlainLoop:
    """What one would write without this project: a model and an optimizer for each peer."""

    def __init__(self, adapted: Sequence[AdaptedModel], trainers: Sequence[GradientTrainer]) -> None:
        self._peers: list[tuple[Any, torch.optim.AdamW, GradientTrainer]] = []
        for one, trainer in zip(adapted, trainers, strict=True):
            options = trainer.options
            optimizer = torch.optim.AdamW(
                one.parameters.values(), lr=options.lr, betas=(0.9, 0.95), weight_decay=options.weight_decay
            )
            self._peers.append((one.model.train(), optimizer, trainer))

    def run(self, steps: int) -> list[float]:
        """Losses of the last step."""
        losses = []
        for model, optimizer, trainer in self._peers:
            for _ in range(steps):
                batch, _ = trainer.upcoming()
                trainer.steps += 1
                logits = model(input_ids=batch.inputs_bt, use_cache=False).logits
                loss = functional.cross_entropy(logits.flatten(0, 1).float(), batch.targets_bt.flatten())
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], trainer.options.clip)
                optimizer.step()
            losses.append(float(loss.detach()))
        return losses


def timed(action: Callable[[], object], per: int, clock: Callable[[], float]) -> float:
    """Milliseconds of one of `per` parts."""
    start = clock()
    action()
    return 1e3 * (clock() - start) / per


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The first and the third."""
    low, _, high = statistics.quantiles(values, n=4)
    return low, high


def measured(
    base: Base, peers: int, shape: tuple[int, int], threads: int, repetitions: int, clock: Callable[[], float]
) -> Timing:
    """Both arms by turns."""
    torch.set_num_threads(threads)
    vocabulary = int(base.model.config.vocab_size)
    adapted = [attach(base, AdapterSpec()) for _ in range(peers)]

    def trainers() -> list[GradientTrainer]:
        sequences, tokens = shape
        options = [TrainingOptions(batch_size=sequences, context=tokens, seed=peer) for peer in range(peers)]
        return [AdamW().trainer(adapted[peer], text(peer, vocabulary), options[peer]) for peer in range(peers)]

    plain, together, stack = PlainLoop(adapted, trainers()), trainers(), AdapterStack(attach(base, AdapterSpec()))
    arms: tuple[Callable[[], object], ...] = (
        lambda: plain.run(STEPS),
        lambda: train_together(together, STEPS, stack=stack),
    )
    for arm in arms:
        arm()  # warm up
    times = [[timed(arm, STEPS * peers, clock) for arm in arms] for _ in range(repetitions)]
    loop, batched = statistics.median(row[0] for row in times), statistics.median(row[1] for row in times)
    spread = quartiles([row[0] / row[1] for row in times])
    return Timing(*shape, threads, loop, batched, loop / batched, spread)


def memory(model: str, peers: int) -> Memory:
    """One shared base, everything that batched training keeps between calls."""
    before = tensor_bytes()
    base = load_base(model, device="cpu")
    alone = tensor_bytes() - before
    adapted = attach(base, AdapterSpec())
    vocabulary = int(base.model.config.vocab_size)
    options = TrainingOptions(batch_size=1, context=64)
    trainers = [AdamW().trainer(adapted, text(peer, vocabulary), options) for peer in range(peers)]
    stack = AdapterStack(adapted)
    train_together(trainers, 1, stack=stack)
    adapter = sum(4 * tensor.numel() for tensor in adapted.initial.tensors.values())
    return Memory(alone, adapter, tensor_bytes() - before)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.batched_training", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--peers", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy with other things")
    parser.add_argument("--out", type=Path, default=Path("reports/batched_training.json"))
    given = parser.parse_args(arguments)

    clock = time.process_time if given.cpu_time else time.perf_counter
    held = memory(given.model, given.peers)
    base = load_base(given.model, device="cpu")
    print(f"{given.peers} peers on {given.model}; milliseconds of a step of one peer, medians of {given.repetitions}")
    print("sequences x tokens  threads    loop  batched   ratio  quartiles")
    timings = []
    for threads in given.threads:
        for shape in SHAPES:
            found = measured(base, given.peers, shape, threads, given.repetitions, clock)
            timings.append(found)
            print(
                f"{found.sequences:9} x {found.tokens:<6} {threads:8} {found.loop_ms:7.1f} {found.batched_ms:8.1f}"
                f" {found.ratio:7.2f}  {found.quartiles[0]:.2f} to {found.quartiles[1]:.2f}",
                flush=True,
            )
    mega = 1e6
    print(
        f"memory: base {held.base / mega:.1f} MB, adapter {held.adapter / mega:.2f} MB; base, stack and"
        f" {given.peers} trainers with moments {held.batched / mega:.1f} MB"
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"timings": [asdict(t) for t in timings], "memory": asdict(held)}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
