"""Tokens a second of our trainer against a bare loop of peft and AdamW. `python -m benchmarks.speed`.

Both arms take the same steps of the same model on the same blocks, by turns in one process with as many threads, so
that whatever else the machine does meets both. The bare loop is what one would write: transformers' model in fp32,
peft's own `get_peft_model`, cross-entropy of all logits, `torch.optim.AdamW`; it clips nothing and saves nothing. Ours
does all that a peer does. A ratio above one is ours being quicker: the median of those of neighbouring steps, with
their quartiles. The last columns are what the two have learnt after the same steps, which should be the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from benchmarks.precision import text
from benchmarks.random_models import random_model
from p2pfinetune.model.adapter import AdaptedModel, attach
from p2pfinetune.model.base import folder_of, load_base
from p2pfinetune.options import AdapterSpec, TrainingOptions
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.trainers.adamw import AdamW
from scripts import smollm2

MODELS = ("nano", "smollm2", "gpt2-124m")


@dataclass(frozen=True, slots=True)
class Timing:
    """One model and shape; tokens a second, medians."""

    model: str
    sequences: int
    tokens: int
    threads: int
    bare: float
    ours: float
    ratio: float
    quartiles: tuple[float, float]
    """Of the ratios of neighbouring steps."""
    loss_bare: float
    loss_ours: float
    """Of the last step."""


class BareLoop:
    """A model of its own, and no line that is not needed."""

    def __init__(self, folder: Path, adapted: AdaptedModel, options: TrainingOptions) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        spec = adapted.spec
        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            target_modules=list(adapted.targets),
            fan_in_fan_out=adapted.is_transposed,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of peft's, about names and layers
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
            self._model: Any = get_peft_model(model, config).train()
        trained = [parameter for parameter in self._model.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(
            trained, lr=options.lr, betas=(0.9, 0.95), weight_decay=options.weight_decay
        )
        self._copy_start(adapted)

    def step(self, trainer: GradientTrainer) -> float:
        """The next blocks of this trainer, which is not run."""
        batch, rate = trainer.upcoming()
        trainer.steps += 1
        self._optimizer.param_groups[0]["lr"] = rate
        logits = self._model(input_ids=batch.inputs_bt, use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1).float(), batch.targets_bt.flatten())
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return float(loss.detach())

    @torch.no_grad()
    def _copy_start(self, adapted: AdaptedModel) -> None:
        for path, a, b in adapted.initial.pairs():
            layer = self._model.base_model.model.get_submodule(path)
            layer.lora_A["default"].weight.copy_(a)
            layer.lora_B["default"].weight.copy_(b)


def measured(folder: Path, name: str, shape: tuple[int, int], repetitions: int, clock: Callable[[], float]) -> Timing:
    """Both by turns, after a step of each that does not count."""
    sequences, tokens = shape
    options = TrainingOptions(batch_size=sequences, context=tokens, clip=0.0)
    base = load_base(str(folder), device="cpu")
    adapted, split = attach(base, AdapterSpec()), text(int(base.model.config.vocab_size))
    ours, blocks = (AdamW().trainer(adapted, split, options) for _ in range(2))
    bare = BareLoop(folder, adapted, options)
    rows: list[tuple[float, float]] = []
    losses = (0.0, 0.0)
    for _ in range(1 + repetitions):
        start = clock()
        loss = bare.step(blocks)
        middle = clock()
        losses = (loss, ours.step().loss)
        rows.append((middle - start, clock() - middle))
    ratios = [theirs / mine for theirs, mine in rows[1:]]
    low, _, high = statistics.quantiles(ratios, n=4)
    rate_bare, rate_ours = (sequences * tokens / statistics.median(row[i] for row in rows[1:]) for i in (0, 1))
    return Timing(
        name, sequences, tokens, torch.get_num_threads(), rate_bare, rate_ours, statistics.median(ratios), (low, high),
        *losses,
    )  # fmt: skip


def folder_for(name: str, scratch: Path) -> Path:
    """Where the model lies; one of random weights is made."""
    if name != "smollm2":
        return random_model(scratch / name, name) if name == "gpt2-124m" else folder_of(name)
    if (found := smollm2.folder()) is None:
        raise SystemExit("smollm2 is not here: make smollm2, or name other --models")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), help=f"{MODELS[1]}, {MODELS[2]}, or any base model"
    )
    parser.add_argument("--shapes", nargs="+", default=["4x128", "8x256"], help="sequences x tokens of a step")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy with other things")
    parser.add_argument("--out", type=Path, default=Path("reports/speed.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(given.threads)
    clock = time.process_time if given.cpu_time else time.perf_counter
    print("tokens a second, medians; ratio: ours / bare peft loop, with quartiles; loss after as many steps")
    print("model        sequences x tokens  threads     bare     ours   ratio  quartiles       loss of both")
    timings = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.models:
            folder = folder_for(name, Path(scratch))
            for shape in given.shapes:
                sequences, _, tokens = shape.partition("x")
                found = measured(folder, name, (int(sequences), int(tokens)), given.repetitions, clock)
                timings.append(found)
                print(
                    f"{found.model:12} {found.sequences:9} x {found.tokens:<6} {found.threads:8} {found.bare:8.0f}"
                    f" {found.ours:8.0f} {found.ratio:7.2f}  {found.quartiles[0]:.2f} to {found.quartiles[1]:.2f}"
                    f"  {found.loss_bare:.4f} {found.loss_ours:.4f}",
                    flush=True,
                )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
