"""What scoring the candidate adapters of a peer costs. `python -m benchmarks.validation_row`.

Four ways, by turns in one process: `plain` runs a peft model for each adapter over padded batches of 50 documents with
labels, as the code released with arXiv 2404.09753 does; `one by one` is `evaluate`; `together` is `evaluate_together`;
these see the same tokens. `reference` is the paper's 12 batches of 50 x 512 tokens for each adapter, estimated from one
batch of `plain` at the model's longest context. Times are medians over repetitions, with quartiles of the ratios of
neighbouring repetitions.
"""

from __future__ import annotations

import argparse
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
from numpy.typing import NDArray

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack
from p2pfinetune.data.corpus import TokenSplit
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.options import AdapterSpec
from p2pfinetune.scoring.evaluate import evaluate, measure_of

REFERENCE_ROWS = 50
REFERENCE_TOKENS = 12 * REFERENCE_ROWS * 512
LENGTHS = (100, 300)  # tokens of a document
IGNORED = -100  # what transformers does not count


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds to score one adapter."""

    tokens: int
    plain_ms: float
    one_by_one_ms: float
    together_ms: float
    reference_ms: float
    ratio: float
    """Of plain and together, at equal tokens."""
    quartiles: tuple[float, float]
    largest_difference: float
    """Between losses of plain and of together, in nats."""


def plain_loss(model: Any, documents: Sequence[NDArray[Any]]) -> float:
    """Mean loss, the obvious way."""
    total = count = 0.0
    with torch.no_grad():
        for first in range(0, len(documents), REFERENCE_ROWS):
            part = documents[first : first + REFERENCE_ROWS]
            longest = max(len(document) for document in part)
            inputs = torch.zeros((len(part), longest), dtype=torch.int64)
            mask = torch.zeros_like(inputs)
            for row, document in enumerate(part):
                inputs[row, : len(document)] = torch.from_numpy(document.astype(np.int64))
                mask[row, : len(document)] = 1
            labels = inputs.masked_fill(mask == 0, IGNORED)
            predicted = int((labels[:, 1:] != IGNORED).sum())
            total += predicted * float(model(input_ids=inputs, attention_mask=mask, labels=labels).loss)
            count += predicted
    return total / count


def candidates(adapted: AdaptedModel, count: int) -> list[Adapter]:
    """Adapters that do something."""
    dice = torch.Generator().manual_seed(0)
    initial = adapted.initial.tensors.items()
    return [Adapter({n: t + 0.02 * torch.randn(t.shape, generator=dice) for n, t in initial}) for _ in range(count)]


def timed(action: Callable[[], list[float]], per: int, clock: Callable[[], float]) -> tuple[float, list[float]]:
    """Milliseconds of one of `per` parts, and what came out."""
    start = clock()
    found = action()
    return 1e3 * (clock() - start) / per, found


def measured(base: Base, adapters: int, tokens: int, repetitions: int, clock: Callable[[], float]) -> Row:
    """All ways by turns."""
    adapted, vocabulary = attach(base, AdapterSpec()), int(base.model.config.vocab_size)
    stack, context = AdapterStack(adapted), base.max_context or 512
    dice, documents = np.random.default_rng(0), []
    while sum(len(document) for document in documents) < tokens:
        length = min(int(dice.integers(*LENGTHS)), context)
        documents.append(dice.integers(1, vocabulary, length).astype(np.uint16))
    measure = measure_of(TokenSplit.of(documents), context=context, vocabulary=vocabulary)
    own = candidates(adapted, adapters)

    def each(loss: Callable[[], float]) -> list[float]:
        found = []
        for adapter in own:
            write(adapted, adapter)
            found.append(loss())
        return found

    arms: tuple[Callable[[], list[float]], ...] = (
        lambda: each(lambda: plain_loss(adapted.model, documents)),
        lambda: each(lambda: evaluate(adapted.model, measure, base.device).loss),
        lambda: [found.loss for found in evaluate_together(adapted, own, measure, base.device, stack=stack)],
    )
    for arm in arms:
        arm()  # warm up
    times, losses = [], []
    for _ in range(repetitions):
        results = [timed(arm, adapters, clock) for arm in arms]
        times.append([milliseconds for milliseconds, _ in results])
        losses = [found for _, found in results]
    plain, alone, together = (statistics.median(row[i] for row in times) for i in range(3))
    low, _, high = statistics.quantiles([row[0] / row[2] for row in times], n=4)
    long = [dice.integers(1, vocabulary, min(context, 512)).astype(np.uint16) for _ in range(REFERENCE_ROWS)]
    batch = statistics.median(timed(lambda: [plain_loss(adapted.model, long)], 1, clock)[0] for _ in range(2))
    reference = batch * REFERENCE_TOKENS / sum(len(document) for document in long)
    difference = max(abs(left - right) for left, right in zip(losses[0], losses[2], strict=True))
    return Row(measure.tokens, plain, alone, together, reference, plain / together, (low, high), difference)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.validation_row", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--models", nargs="+", default=["nano"])
    parser.add_argument("--adapters", type=int, default=8)
    parser.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy with other things")
    parser.add_argument("--out", type=Path, default=Path("reports/validation_row.json"))
    given = parser.parse_args(arguments)

    clock = time.process_time if given.cpu_time else time.perf_counter
    torch.set_num_threads(given.threads)
    print(f"milliseconds to score one of {given.adapters} adapters, {given.threads} threads")
    print("model         tokens    plain  one by one  together   ratio  quartiles      reference   ratio")
    rows: dict[str, list[dict[str, Any]]] = {}
    for model in given.models:
        base = load_base(model, device="cpu")
        for tokens in given.tokens:
            row = measured(base, given.adapters, tokens, given.repetitions, clock)
            rows.setdefault(Path(model).name, []).append(asdict(row))
            print(
                f"{Path(model).name:12} {row.tokens:7} {row.plain_ms:8.1f} {row.one_by_one_ms:11.1f}"
                f" {row.together_ms:9.1f} {row.ratio:7.2f}  {row.quartiles[0]:.2f} to {row.quartiles[1]:.2f}"
                f" {row.reference_ms:14.0f} {row.reference_ms / row.together_ms:7.0f}",
                flush=True,
            )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
