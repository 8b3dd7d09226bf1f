"""All that the product does with a base model, done with a tiny one; each step is compared with the plain way.

A family *works* if a step of training moves the loss, a batched pass gives the numbers of one by one, a learner goes on
where it was saved, and peft gives the exported adapter's logits. It is *refused* if loading or attaching says why.
"""

from __future__ import annotations

import copy
import math
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy

from p2pfinetune.batched.measuring import evaluate_together
from p2pfinetune.batched.stack import AdapterStack, draws_noise
from p2pfinetune.data.corpus import Corpus, TokenSplit
from p2pfinetune.errors import ModelError
from p2pfinetune.model.adapter import AdaptedModel, Adapter, attach, write
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.model.compute import seeded
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.scoring.evaluate import evaluate, measure_of
from p2pfinetune.training.batches import derived_seed
from p2pfinetune.training.gradient_trainer import GradientTrainer
from p2pfinetune.training.together import train_together
from p2pfinetune.training.trainers.adamw import FIRST, AdamW
from tests.families.tiny import CONTEXT, VOCABULARY, write_model

SPEC = AdapterSpec(rank=2, alpha=4)
TRAINING = TrainingOptions(batch_size=2, context=12, lr=1e-2)
CLOSE = 2e-4  # of numbers of the size of one, which another order of additions moves


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the document says of a family."""

    adapted: str
    """Names of the layers that get an adapter, or empty."""
    said: str
    """What the user is told: of layers left out, or why the model is refused."""

    @property
    def works(self) -> bool:
        """Not refused."""
        return bool(self.adapted)


def tried(family: str, folder: Path) -> Outcome:
    """Everything; AssertionError where something that seems to work gives other numbers."""
    where = write_model(family, folder / "model")
    try:
        base = load_base(str(where), device="cpu")
        live = attach(base, SPEC)
    except ModelError as error:
        return Outcome("", f"{error}; {error.hint}".replace(str(where), "it"))
    stack = AdapterStack(live)
    learner = learner_of(base, live, stack, seed=0)
    training_moves_the_loss(learner)
    together_is_one_by_one(live, stack)
    recomputed_layers_give_the_same(base, live)
    held_in_16_bits_it_gives_the_same(where, folder)
    it_goes_on_where_it_was_saved(learner, learner_of(base, live, stack, seed=1), folder)
    peft_gives_the_same(base, live, learner, folder)
    names = sorted({[part for part in path.split(".") if not part.isdigit()][-1] for path in live.targets})
    return Outcome(", ".join(names), learner.said)


def training_moves_the_loss(learner: Learner) -> None:
    """And no gradient is none."""
    before = learner.evaluate("test", "own").loss
    report = learner.train(2)
    after = learner.evaluate("test", "own").loss

    assert report.skipped == 0
    assert math.isfinite(report.loss_train)
    assert math.isfinite(after)
    assert after != before


def together_is_one_by_one(live: AdaptedModel, stack: AdapterStack) -> None:
    """Training and scoring."""
    alone, together = trainers(live), trainers(live)
    plain = [plain_gradient(live, trainer) for trainer in alone]
    reports = [trainer.step() for trainer in alone]
    for report, trainer, (loss, gradient) in zip(reports, alone, plain, strict=True):
        ours = torch.cat([t.flatten() for t in trainer.state().tensors[FIRST].values()])
        assert math.isclose(report.loss, loss, rel_tol=CLOSE)
        assert math.isclose(report.gradient_norm, float(gradient.norm()), rel_tol=100 * CLOSE)
        theirs = gradient * float(ours.norm() / gradient.norm())  # clipped, and the first of a running mean
        assert float((ours - theirs).norm()) <= 100 * CLOSE * float(ours.norm())
    for ours, theirs in zip(train_together(together, 1, stack=stack), reports, strict=True):
        assert math.isclose(ours[0].loss, theirs.loss, rel_tol=CLOSE)
        assert math.isclose(ours[0].gradient_norm, theirs.gradient_norm, rel_tol=100 * CLOSE)
    for ours, theirs in zip(together, alone, strict=True):
        gradient, other = (
            torch.cat([t.flatten() for t in one.state().tensors[FIRST].values()]) for one in (ours, theirs)
        )
        assert float((gradient - other).norm()) <= 100 * CLOSE * float(other.norm())
    measure = measure_of(split(9), context=12, vocabulary=VOCABULARY)
    scored = evaluate_together(live, [trainer.adapter for trainer in alone], measure, stack.device, stack=stack)
    for trainer, found in zip(alone, scored, strict=True):
        write(live, trainer.adapter)
        assert math.isclose(found.loss, evaluate(live.model, measure, stack.device).loss, rel_tol=CLOSE)


def plain_gradient(live: AdaptedModel, trainer: GradientTrainer) -> tuple[float, Tensor]:
    """Loss of the next step and the gradient of all factors, by peft's layers and torch alone, dropout and all."""
    batch, _ = trainer.upcoming()
    write(live, trainer.adapter)
    live.model.train(draws_noise(live.model))
    with seeded(derived_seed("dropout", trainer.options.seed, 0), torch.device("cpu")):
        logits = live.model(input_ids=batch.inputs_bt, use_cache=False).logits
    live.model.eval()
    loss = cross_entropy(logits.flatten(0, 1).float(), batch.targets_bt.flatten())
    slopes = torch.autograd.grad(loss, [*live.trained.values()], allow_unused=True)
    whole = [torch.zeros_like(p) if g is None else g for p, g in zip(live.trained.values(), slopes, strict=True)]
    return float(loss.detach()), torch.cat([slope.flatten() for slope in whole])


def recomputed_layers_give_the_same(base: Base, live: AdaptedModel) -> None:
    """To the bit, dropout's noise and all."""
    kept, again = (trainers(attach(replace(base, checkpointing=on), live.spec))[0] for on in (False, True))

    assert again.step() == kept.step()
    assert again.adapter.equals(kept.adapter)


def held_in_16_bits_it_gives_the_same(where: Path, folder: Path) -> None:
    """To the bit: numbers of bf16, stored as such and as fp32."""
    stored = {name: t.bfloat16() for name, t in load_file(where / "model.safetensors").items()}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        shutil.copytree(where, folder / name)
        tensors = {path: t.to(dtype).contiguous() for path, t in stored.items()}
        save_file(tensors, folder / name / "model.safetensors", {"format": "pt"})
    held, whole = (attach(load_base(str(folder / name), device="cpu"), SPEC) for name in ("bf16", "fp32"))
    ids = torch.arange(1, 21).reshape(2, 10)
    with torch.no_grad():
        assert torch.equal(*(live.model(input_ids=ids, use_cache=False).logits for live in (held, whole)))
    one, other = (trainers(live)[0] for live in (held, whole))

    assert one.step() == other.step()
    assert one.adapter.equals(other.adapter)


def it_goes_on_where_it_was_saved(learner: Learner, other: Learner, folder: Path) -> None:
    """To the bit."""
    learner.save(folder / "checkpoint")
    other.restore(folder / "checkpoint")
    for one in (learner, other):
        one.train(1)

    assert other.own().equals(learner.own())


def peft_gives_the_same(base: Base, live: AdaptedModel, learner: Learner, folder: Path) -> None:
    """As anybody would load it."""
    from peft import PeftModel

    learner.export(folder / "adapter", "own")
    write(live, learner.own())
    ids = torch.arange(1, 21).reshape(2, 10)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of peft's, about names that transformers is going to drop
        loaded: Any = PeftModel.from_pretrained(copy.deepcopy(base.model), folder / "adapter").eval()
        theirs = loaded(input_ids=ids, use_cache=False).logits
    with torch.no_grad():
        ours = live.model(input_ids=ids, use_cache=False).logits
        bare = base.model(input_ids=ids, use_cache=False).logits

    assert torch.allclose(theirs, ours, atol=CLOSE, rtol=CLOSE)
    assert not torch.equal(theirs, bare)


def learner_of(base: Base, live: AdaptedModel, stack: AdapterStack, *, seed: int) -> Learner:
    """One that begins with an adapter that does something."""
    text: Any = Corpus(*(split(10 + i) for i in range(4)), report=None, fingerprint="tiny")  # type: ignore[arg-type]
    options = LearnerOptions(spec=SPEC, training=TRAINING)
    start = noisy(live.initial, seed)
    return Learner(base, text, options, me=PeerId("me"), group="g", adapted=live, stack=stack, start=start)


def trainers(live: AdaptedModel) -> list[GradientTrainer]:
    """Two peers of one base."""
    found = []
    for seed in range(2):
        trainer = AdamW().trainer(live, split(seed), TRAINING)
        trainer.set_adapter(noisy(live.initial, seed))
        found.append(trainer)
    return found


def noisy(adapter: Adapter, seed: int) -> Adapter:
    """B is not zero, so that every factor has a gradient."""
    dice = torch.Generator().manual_seed(seed)
    return Adapter({n: t + 0.1 * torch.randn(t.shape, generator=dice) for n, t in adapter.tensors.items()})


def split(seed: int) -> TokenSplit:
    """A few short documents of random tokens."""
    dice = np.random.default_rng(seed)
    return TokenSplit.of([dice.integers(1, VOCABULARY, length).astype(np.uint16) for length in (CONTEXT - 5, 14, 9)])
