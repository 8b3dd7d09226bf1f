"""`p2pfinetune compare`: every option beside every other, on the paper's settings and several base models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from p2pfinetune.cli.common_options import AsJson, Engine, EngineName, Fresh, RayAddress
from p2pfinetune.cli.output import finish
from p2pfinetune.cli.reproduce import GROUPS, MixName, SettingName
from p2pfinetune.cli.sweeping import DATA_VARIABLE, data_folder, given, names_of, run_plans, summaries
from p2pfinetune.errors import OptionError
from p2pfinetune.options import DATA_FOLDER, NANO, SMALL_SCALE, RunOptions, StepOptions
from p2pfinetune.options.sections import typed

if TYPE_CHECKING:
    from p2pfinetune.compare.overview import Overview
    from p2pfinetune.compare.plan import Plan

SETTINGS = ",".join(SettingName)


def compare(
    *,
    settings: Annotated[
        str, typer.Option("--settings", metavar="A,B,C", help=f"Of the paper's settings: {SETTINGS}.")
    ] = SETTINGS,
    mix: Annotated[MixName, typer.Option("--mix", help="One kind of text a peer, or two.")] = MixName.SPECIFIC,
    models: Annotated[
        str,
        typer.Option("--models", metavar="A,B", help="Base models, each as --model of `reproduce` takes it."),
    ] = NANO,
    schemes: Annotated[
        str, typer.Option("--schemes", metavar="A,B,C", help=f"Schemes or groups: {GROUPS}.")
    ] = "main,neighbours",
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help=f"Raw text. \\[default: ${DATA_VARIABLE}, or else {DATA_FOLDER}]"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="How many.")] = 3,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, max=2**62, help="The others follow it.")] = 0,
    peers_each: Annotated[
        int, typer.Option("--peers-each", min=0, max=1000, help="Only the first of each category; 0: all.")
    ] = 0,
    rounds: Annotated[int | None, typer.Option("--rounds", **typed(RunOptions, "rounds"))] = None,
    steps: Annotated[int | None, typer.Option("--steps", **typed(RunOptions, "steps"))] = None,
    warmup_rounds: Annotated[int | None, typer.Option("--warmup-rounds", **typed(RunOptions, "warmup_rounds"))] = None,
    lr: Annotated[float | None, typer.Option("--lr", **typed(StepOptions, "lr"))] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", **typed(StepOptions, "batch_size"))] = None,
    engine: Engine = EngineName.LOCAL,
    ray_address: RayAddress = "",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Simulations at a time; 0: one a core.")] = 0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("comparison"),
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Compare options of learning on several settings and base models: one table over all, one for each, and plots.

    All schemes of a setting and seed have the same text, the same steps and the same order of batches. On a laptop the
    whole takes hours: interrupt it at any time, and the same command goes on.
    """
    top = given({"rounds": rounds, "steps": steps, "warmup_rounds": warmup_rounds})
    training = given({"lr": lr, "batch_size": batch_size})
    chosen = range(first_seed, first_seed + seeds)
    plans = [
        _plan(_text(setting, mix, data, peers_each), model, chosen, schemes, top, training)
        for model in _some(names_of(models), "--models")
        for setting in _some(names_of(settings), "--settings")
    ]
    run_plans(plans, out, engine, ray_address, workers, fresh)
    found = _overview(plans, out)
    finish("compare", found, as_json, lambda: _told(found, out))


def _some(names: tuple[str, ...], option: str) -> tuple[str, ...]:
    if not names:
        raise OptionError(f"{option} names nothing", "see: p2pfinetune compare --help")
    return names


def _text(setting: str, mix: MixName, data: Path | None, peers_each: int) -> dict[str, Any]:
    from p2pfinetune.paper.settings import first_of_each

    if setting not in {*SettingName}:
        raise OptionError(f"there is no setting {setting!r}", f"choose from {SETTINGS}")
    peers = first_of_each(SettingName(setting).value, mix.value, peers_each)
    return {"name": setting, "mix": str(mix), "data": str(data or data_folder()), "scale": SMALL_SCALE, "peers": peers}


def _plan(
    text: dict[str, Any], model: str, seeds: range, schemes: str, top: dict[str, Any], training: dict[str, Any]
) -> Plan:
    """The settings of `compare.plan.alike` with what was typed instead. OptionError if out of range."""
    from p2pfinetune.compare.plan import Plan, alike
    from p2pfinetune.compare.schemes import chosen
    from p2pfinetune.simulation.config import SettingText, SimulationConfig, TrainingChoice

    names = chosen(_some(names_of(schemes), "--schemes"))
    try:
        start = alike(msgspec.convert(text, SettingText), model)
        parts = {"training": msgspec.convert({**msgspec.structs.asdict(start.training), **training}, TrainingChoice)}
        config = msgspec.convert({**msgspec.structs.asdict(start), **top, **parts}, SimulationConfig)
    except msgspec.ValidationError as error:
        raise OptionError(str(error), "see: p2pfinetune compare --help") from error
    return Plan(config=config, seeds=tuple(seeds), schemes=names)


def _overview(plans: list[Plan], out: Path) -> Overview:
    from p2pfinetune.compare.overview import overview, write_overview
    from p2pfinetune.compare.overview_plot import plot_overview

    found = overview([summary for plan in plans for summary in summaries(plan, out).values()])
    written = [*write_overview(found, out), *plot_overview(found, out)]
    return msgspec.structs.replace(found, files=[str(path) for path in written])


def _told(found: Overview, out: Path) -> str:
    from p2pfinetune.compare.overview import overview_markdown

    return f"{overview_markdown(found)}\nTables and plots are in {out}"
