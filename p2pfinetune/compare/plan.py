"""What a reproduction compares: a setting, a model, seeds, schemes, perhaps an ablation, as a list of simulations.

Two starting points: `small`, whose rates and sizes suit the embedded model on a laptop, and `paper`, the released
code's own for GPT-2. An ablation changes one number and keeps the rest, the total of optimizer steps included, so that
what it shows is that number's doing; of the rank, alpha goes along, so that the scale stays. A plan is a value, and its
folders follow from it; the order of tasks is seed by seed, so that a sweep that is stopped early has all schemes of
some seeds and not some schemes of all.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from p2pfinetune.compare.schemes import applied
from p2pfinetune.errors import OptionError
from p2pfinetune.options import NANO
from p2pfinetune.simulation.config import AdapterChoice, SettingText, SimulationConfig, TrainingChoice

Ablation = Literal["rank", "data", "lr", "interval"]
TOTAL_STEPS = 100
LARGE_LR = 1e-3

ABLATIONS: dict[Ablation, tuple[float, ...]] = {
    "rank": (2, 4, 8, 16),
    "data": (0.25, 0.5, 1.0, 2.0),  # times the plan's scale
    "lr": (0.25, 0.5, 1.0, 2.0),  # times the plan's rate
    "interval": (1, 2, 5, 10, 25),  # optimizer steps between merges, their total unchanged
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One comparison."""

    config: SimulationConfig
    """Of every simulation, but for scheme and seed."""
    seeds: tuple[int, ...]
    schemes: tuple[str, ...]
    ablation: Ablation | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One simulation of a plan and the folder that it fills, relative to that of the plan."""

    config: SimulationConfig
    scheme: str
    seed: int
    folder: Path


def small(setting: SettingText, model: str) -> SimulationConfig:
    """For the embedded model and others of a few million parameters at most, on a laptop; see docs/reproduction."""
    return SimulationConfig(
        model=model,
        setting=setting,
        adapter=AdapterChoice(rank=8, alpha=16),
        training=TrainingChoice(lr=4e-3, batch_size=8, context=64),
        rounds=TOTAL_STEPS // 10,
        steps=10,
        warmup_rounds=2,
    )


def paper(setting: SettingText, model: str) -> SimulationConfig:
    """The settings of arXiv 2404.09753 as its code has them, for GPT-2 on a GPU: 500 steps of 200 x 512 tokens."""
    return SimulationConfig(
        model=model,
        device="auto",
        setting=setting,
        adapter=AdapterChoice(rank=4, alpha=32, dropout=0.1),
        training=TrainingChoice(lr=2e-3, batch_size=50, accumulation=4, context=512, clip=0.0),
        rounds=20,
        steps=25,
        warmup_rounds=3,
    )


def alike(setting: SettingText, model: str) -> SimulationConfig:
    """Equal steps on equal data for models of any size, so that their tables can be read beside one another.

    A model of many million parameters is not trained at the rate of a small one, and every step of it is dear: it gets
    a third of the rate, which is that of the paper's own settings, and fewer steps by the caller's choice.
    """
    start = small(setting, model)
    if is_small(model):
        return start
    return msgspec.structs.replace(start, training=msgspec.structs.replace(start.training, lr=LARGE_LR))


def is_small(model: str) -> bool:
    """Whether `small` is the right start for a model: the embedded one, and whatever is a folder of under 50 MB."""
    if model == NANO:
        return True
    folder = Path(os.path.expanduser(model))  # noqa: PTH111  # Path.expanduser raises where no home is known
    return folder.is_dir() and sum(path.stat().st_size for path in folder.glob("*.safetensors")) < 50 << 20


def short_name(model: str) -> str:
    """What a model is called in folders and tables."""
    return Path(model).name or model


def folder_of(plan: Plan) -> Path:
    """Where all of a plan's runs go, relative to the output folder."""
    setting = plan.config.setting
    if setting is None:
        raise OptionError("a reproduction is of one of the paper's settings")
    return Path(f"{setting.name}-{setting.mix}") / short_name(plan.config.model)


def variants(plan: Plan) -> list[tuple[str, Plan]]:
    """The plan itself under the name "", or a plan for each value of the ablation."""
    if plan.ablation is None:
        return [("", plan)]
    return [
        (f"{plan.ablation}-{value:g}", replace(plan, config=_ablated(plan.config, plan.ablation, value), ablation=None))
        for value in ABLATIONS[plan.ablation]
    ]


def tasks(plan: Plan) -> list[Task]:
    """All simulations, seed by seed, so that what is complete can be looked at early."""
    root = folder_of(plan)
    found = []
    for name, variant in variants(plan):
        place = root.with_name(f"{root.name}-{name}") if name else root
        for seed in plan.seeds:
            for scheme in plan.schemes:
                config = applied(msgspec.structs.replace(variant.config, seed=seed), scheme)
                found.append(Task(config, scheme, seed, place / f"seed-{seed}" / scheme))
    return found


def _ablated(config: SimulationConfig, ablation: Ablation, value: float) -> SimulationConfig:
    change: dict[str, Any]
    match ablation:
        case "rank":
            scale = config.adapter.alpha / config.adapter.rank
            rank = int(value)
            change = {"adapter": msgspec.structs.replace(config.adapter, rank=rank, alpha=round(scale * rank))}
        case "data":
            setting = config.setting
            assert setting is not None
            change = {"setting": msgspec.structs.replace(setting, scale=min(1.0, setting.scale * value))}
        case "lr":
            change = {"training": msgspec.structs.replace(config.training, lr=config.training.lr * value)}
        case "interval":
            total, steps = config.rounds * config.steps, int(value)
            warm = config.warmup_rounds * config.steps
            change = {"rounds": max(1, total // steps), "steps": steps, "warmup_rounds": warm // steps}
    return msgspec.structs.replace(config, **change)


def ablation_of(name: str) -> Ablation:
    """OptionError with the names there are."""
    if name not in get_args(Ablation):
        raise OptionError(f"there is no ablation {name!r}", f"choose one of {', '.join(get_args(Ablation))}")
    found: Ablation = name  # type: ignore[assignment]
    return found
