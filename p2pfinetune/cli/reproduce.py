"""`p2pfinetune reproduce`: the paper's comparison of schemes on one of its settings."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from p2pfinetune.cli import answers
from p2pfinetune.cli.common_options import AsJson, Engine, EngineName, Fresh, MaxShare, RayAddress
from p2pfinetune.cli.output import finish
from p2pfinetune.cli.sweeping import DATA_VARIABLE, data_folder, given, names_of, root_of, run_plans, summaries
from p2pfinetune.errors import OptionError
from p2pfinetune.options import DATA_FOLDER, SMALL_SCALE, AdapterOptions, ModelOptions, RunOptions, StepOptions
from p2pfinetune.options.sections import typed

if TYPE_CHECKING:
    from p2pfinetune.compare.plan import Plan
    from p2pfinetune.compare.summary import Summary
    from p2pfinetune.simulation.config import SimulationConfig

GROUPS = (
    "paper, main, faithful, neighbours, served, baselines, variants, sharing, ranks, experts, trainers, topologies, all"
)


class SettingName(StrEnum):
    """The paper's three."""

    AG_NEWS = "ag-news"
    LANGUAGES = "languages"
    CODE_WIKI = "code-wiki"


class MixName(StrEnum):
    """How text is dealt."""

    SPECIFIC = "specific"
    MIXED = "mixed"


class AblationName(StrEnum):
    """What is varied."""

    RANK = "rank"
    DATA = "data"
    LR = "lr"
    INTERVAL = "interval"


class PrecisionName(StrEnum):
    """As in `p2pfinetune.model.precision`; no `auto`, since every simulation of a comparison would choose anew."""

    FP32 = "fp32"
    BF16 = "bf16"


def reproduce(
    setting: Annotated[SettingName, typer.Argument(help="One of the paper's settings.", show_default=False)],
    *,
    mix: Annotated[MixName, typer.Option("--mix", help="One kind of text a peer, or two.")] = MixName.SPECIFIC,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME|PATH", **typed(ModelOptions, "model"))
    ] = ModelOptions().model,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help=f"Raw text. \\[default: ${DATA_VARIABLE}, or else {DATA_FOLDER}]"),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="How many.")] = 3,
    first_seed: Annotated[int, typer.Option("--first-seed", min=0, max=2**62, help="The others follow it.")] = 0,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="Of the paper's text a peer. \\[default: 1/70 for small models, or else 1]"),
    ] = None,
    schemes: Annotated[str, typer.Option("--schemes", metavar="A,B,C", help=f"Schemes or groups: {GROUPS}.")] = "main",
    faithful: Annotated[
        bool, typer.Option("--faithful", help="Add the paper's own form of each scheme, with an A drawn by each peer.")
    ] = False,
    ablate: Annotated[AblationName | None, typer.Option("--ablate", help="Vary one thing.")] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", **typed(RunOptions, "rounds"))] = None,
    steps: Annotated[int | None, typer.Option("--steps", **typed(RunOptions, "steps"))] = None,
    warmup_rounds: Annotated[int | None, typer.Option("--warmup-rounds", **typed(RunOptions, "warmup_rounds"))] = None,
    lr: Annotated[float | None, typer.Option("--lr", **typed(StepOptions, "lr"))] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", **typed(StepOptions, "batch_size"))] = None,
    context: Annotated[int | None, typer.Option("--context", **typed(StepOptions, "context"))] = None,
    rank: Annotated[int | None, typer.Option("--rank", **typed(AdapterOptions, "rank"))] = None,
    alpha: Annotated[int | None, typer.Option("--alpha", **typed(AdapterOptions, "alpha"))] = None,
    max_share: MaxShare = None,
    device: Annotated[str | None, typer.Option("--device", **typed(ModelOptions, "device"))] = None,
    precision: Annotated[
        PrecisionName, typer.Option("--precision", help="In which numbers peers train; one for the whole comparison.")
    ] = PrecisionName.FP32,
    engine: Engine = EngineName.LOCAL,
    ray_address: RayAddress = "",
    workers: Annotated[int, typer.Option("--workers", min=0, help="Simulations at a time; 0: one a core.")] = 0,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes.")] = Path("reproduction"),
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Compare trust schemes on one of the paper's settings: a table with spread, and plots.

    Options of training that are not given are those of docs/reproduction: small for models of a few million
    parameters, the paper's for others. The same command goes on where it was interrupted.
    """
    text = {"name": str(setting), "mix": str(mix), "data": str(data or data_folder())}
    top: dict[str, Any] = {"rounds": rounds, "steps": steps, "warmup_rounds": warmup_rounds}
    top |= {"max_share": max_share, "device": device, "precision": str(precision)}
    training = {"lr": lr, "batch_size": batch_size, "context": context}
    config = _config(text, scale, model, given(top), given(training), given({"rank": rank, "alpha": alpha}))
    plan = _plan(config, range(first_seed, first_seed + seeds), schemes, faithful, ablate)
    run_plans([plan], out, engine, ray_address, workers, fresh)
    found = summaries(plan, out)
    root = root_of(plan, out)
    if plan.ablation is None:
        (summary,) = found.values()
        finish("reproduce", summary, as_json, lambda: f"{_markdown(summary)}\nTables and plots are in {root}")
        return
    finish("reproduce", _ablated(plan, found), as_json, lambda: _ablation_markdown(plan, found, root))


def _config(
    text: dict[str, Any],
    scale: float | None,
    model: str,
    top: dict[str, Any],
    training: dict[str, Any],
    adapter: dict[str, Any],
) -> SimulationConfig:
    """The settings of small models or the paper's, with what was typed instead. OptionError if out of range."""
    from p2pfinetune.compare.plan import is_small, paper, small
    from p2pfinetune.simulation.config import AdapterChoice, SettingText, SimulationConfig, TrainingChoice

    chosen = scale if scale is not None else SMALL_SCALE if is_small(model) else 1.0
    try:
        setting = msgspec.convert({**text, "scale": chosen}, SettingText)
        start = (small if is_small(model) else paper)(setting, model)
        parts = {
            "training": msgspec.convert({**msgspec.structs.asdict(start.training), **training}, TrainingChoice),
            "adapter": msgspec.convert({**msgspec.structs.asdict(start.adapter), **adapter}, AdapterChoice),
        }
        return msgspec.convert({**msgspec.structs.asdict(start), **top, **parts}, SimulationConfig)
    except msgspec.ValidationError as error:
        raise OptionError(str(error), "see: p2pfinetune reproduce --help") from error


def _plan(config: SimulationConfig, seeds: range, schemes: str, faithful: bool, ablate: AblationName | None) -> Plan:
    from p2pfinetune.compare.plan import Plan, ablation_of
    from p2pfinetune.compare.schemes import SCHEMES, chosen

    names = chosen(names_of(schemes))
    if not names:
        raise OptionError("no scheme is given", f"--schemes takes names of schemes and groups: {GROUPS}")
    if faithful:
        names = tuple(dict.fromkeys((*names, *(f"{name}-faithful" for name in names if f"{name}-faithful" in SCHEMES))))
    ablation = ablation_of(str(ablate)) if ablate else None
    return Plan(config=config, seeds=tuple(seeds), schemes=names, ablation=ablation)


def _markdown(summary: Summary) -> str:
    from p2pfinetune.compare.tables import markdown

    return markdown(summary)


def _ablated(plan: Plan, summaries: dict[str, Summary]) -> answers.Ablated:
    from p2pfinetune.compare.plan import short_name

    setting = plan.config.setting
    assert setting is not None
    return answers.Ablated(
        setting=setting.name,
        mix=setting.mix,
        model=short_name(plan.config.model),
        ablation=str(plan.ablation),
        variants=[answers.Variant(name=name, summary=summary) for name, summary in summaries.items()],
    )


def _ablation_markdown(plan: Plan, summaries: dict[str, Summary], root: Path) -> str:
    from p2pfinetune.compare.tables import ablation_markdown

    text = ablation_markdown(str(plan.ablation), summaries)
    path = root.with_name(f"{root.name}-{plan.ablation}.md")
    path.write_text(text, encoding="utf-8")
    return f"{text}\nThis table is {path}; those of each value are beside it in {root.name}-{plan.ablation}-*"
