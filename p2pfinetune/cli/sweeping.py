"""What `reproduce` and `compare` do alike: sweeps of simulations run and resumed, and what came of them summed up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from p2pfinetune.cli.common_options import EngineName
from p2pfinetune.cli.output import complain
from p2pfinetune.cli.progress import Step, Tell, progress
from p2pfinetune.errors import OptionError
from p2pfinetune.options import DATA_FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2pfinetune.compare.plan import Plan, Task
    from p2pfinetune.compare.summary import Summary

DATA_VARIABLE = "PEERD_DATA"


def data_folder() -> Path:
    """Of the raw text, if none is given."""
    return Path(os.environ.get(DATA_VARIABLE) or DATA_FOLDER)


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Options that were typed."""
    return {name: value for name, value in values.items() if value is not None}


def names_of(typed: str) -> tuple[str, ...]:
    """What stands between commas."""
    return tuple(name for part in typed.split(",") if (name := part.strip()))


def run_plans(
    plans: Sequence[Plan], out: Path, engine: EngineName, ray_address: str, workers: int, fresh: bool
) -> None:
    """All simulations of the plans that are not complete. OptionError if a folder holds a run of other options."""
    from p2pfinetune.compare.plan import tasks
    from p2pfinetune.compare.sweep import is_complete, sweep

    if ray_address and engine is not EngineName.RAY:
        raise OptionError("--ray-address is of the engine ray", "add: --engine ray")
    found = [task for plan in plans for task in tasks(plan)]
    if not fresh:
        _check_folders(found, out)
    for plan in plans:
        if fresh or not all(is_complete(out / task.folder) for task in tasks(plan)):
            _tell_tokens(plan)
    with progress(len(found)) as tell:
        if engine is EngineName.RAY:
            _run_on_ray(found, out, ray_address, fresh, tell)
            return
        sweep(
            found,
            out,
            workers=workers,
            fresh=fresh,
            tell=lambda told: tell(Step(_name(told.task), told.visits, told.total, told.guard_loss)),
        )


def _run_on_ray(found: Sequence[Task], out: Path, address: str, fresh: bool, tell: Tell) -> None:
    from p2pfinetune.simulation.ray_engine import ray_cluster
    from p2pfinetune.simulation.record import RunFolder

    jobs = [(task.config, out / task.folder) for task in found]
    for config, folder in jobs if fresh else ():
        RunFolder(folder, config, fresh=True)
    with ray_cluster(address) as cluster:
        cluster.sweep(jobs, lambda number: tell(Step(_name(found[number]), 1, 1)))


def _name(task: Task) -> str:
    return " ".join((*task.folder.parts[-4:-2], f"seed {task.seed}", task.scheme))


def _check_folders(found: Sequence[Task], out: Path) -> None:
    """A folder of other options is not what was asked for, however complete."""
    from p2pfinetune.simulation.config import load_config
    from p2pfinetune.simulation.record import CONFIG

    for task in found:
        path = out / task.folder / CONFIG
        if path.exists() and load_config(path) != task.config:
            raise OptionError(
                f"{out / task.folder} holds a run with other options",
                "choose another --out, or overwrite it with --fresh",
            )


def _tell_tokens(plan: Plan) -> None:
    """Who holds how much, before anything trains; of the first seed, since the others differ in which text it is."""
    from p2pfinetune.compare.plan import variants
    from p2pfinetune.paper.populations import tokens_per_peer
    from p2pfinetune.simulation.run import population_of

    said = set()
    for name, variant in variants(plan):
        config = msgspec.structs.replace(variant.config, seed=plan.seeds[0])
        if config.text_digest() not in said:
            said.add(config.text_digest())
            complain(f"Tokens of each peer{f' ({name})' if name and plan.ablation == 'data' else ''}:")
            complain(tokens_per_peer(population_of(config)) + "\n")


def root_of(plan: Plan, out: Path) -> Path:
    """Where its runs go."""
    from p2pfinetune.compare.plan import folder_of

    return out / folder_of(plan)


def summaries(plan: Plan, out: Path) -> dict[str, Summary]:
    """By variant; tables, plots and trust matrices are written on the way."""
    from p2pfinetune.compare.folders import read_sweep
    from p2pfinetune.compare.plan import tasks
    from p2pfinetune.compare.plots import plot_sweep
    from p2pfinetune.compare.summary import summarise
    from p2pfinetune.compare.tables import write_tables
    from p2pfinetune.compare.trust_matrices import write_trust_matrices

    complain("drawing")
    root = root_of(plan, out)
    expected: dict[Path, list[tuple[int, str]]] = {}
    for task in tasks(plan):
        expected.setdefault(out / task.folder.parent.parent, []).append((task.seed, task.scheme))
        write_trust_matrices(out / task.folder)
    found = {}
    for folder, runs in expected.items():
        summary = summarise(read_sweep(folder), runs)
        write_tables(summary, folder)
        plot_sweep(folder)
        found[folder.name.removeprefix(root.name).removeprefix("-")] = summary
    return found
