"""`p2pfinetune simulate`: one simulation from a file of options."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from p2pfinetune.cli import answers
from p2pfinetune.cli.common_options import AsJson, Engine, EngineName, Fresh, MaxShare, RayAddress
from p2pfinetune.cli.output import complain, finish, table
from p2pfinetune.cli.progress import Step, progress
from p2pfinetune.errors import OptionError
from p2pfinetune.scoring.perplexity import perplexity, written

if TYPE_CHECKING:
    from p2pfinetune.compare.folders import Run

NOTHING = "-"


def simulate(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="TOML file; docs/how-to/simulate.md lists every option.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The run's folder. \\[default: runs/NAME OF CONFIG-seed-SEED]"),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Instead of the config's.")] = None,
    max_share: MaxShare = None,
    engine: Engine = EngineName.LOCAL,
    ray_address: RayAddress = "",
    fresh: Fresh = False,
    as_json: AsJson = False,
) -> None:
    """Simulate peers that train, merge and are measured. The same command goes on where it was interrupted."""
    from p2pfinetune.simulation.config import load_config

    chosen = load_config(config)
    if seed is not None:
        chosen = msgspec.structs.replace(chosen, seed=seed)
    if max_share is not None:
        chosen = msgspec.structs.replace(chosen, max_share=max_share)
    folder = out or Path("runs") / f"{config.stem}-seed-{chosen.seed}"
    _run(chosen, folder, engine, ray_address, fresh)
    complain("drawing")
    data = _document(folder)
    finish("simulate", data, as_json, lambda: _words(data))


def _run(config: Any, folder: Path, engine: EngineName, ray_address: str, fresh: bool) -> None:
    if ray_address and engine is not EngineName.RAY:
        raise OptionError("--ray-address is of the engine ray", "add: --engine ray")
    from p2pfinetune.model.base import folder_of
    from p2pfinetune.simulation import run

    complain(f"loading {config.model} and the peers' text")
    folder_of(config.model, complain)  # a GGUF file is converted while somebody watches
    options: dict[str, Any] = {}
    place: Any = nullcontext()
    if engine is EngineName.RAY:
        from p2pfinetune.simulation.ray_engine import ray_cluster

        place = ray_cluster(ray_address)
    with place as cluster, progress(1) as tell:
        if cluster is not None:
            options["make_engine"] = cluster.engine

        def heard(now: run.SimulationProgress) -> None:
            tell(Step(folder.name, now.visits, now.total, now.guard_loss))

        run.simulate(config, folder, on_progress=heard, fresh=fresh, **options)


def _document(folder: Path) -> answers.Simulated:
    from p2pfinetune.compare.folders import read_run
    from p2pfinetune.compare.plots import plot_run

    run = read_run(folder)
    assert run.result is not None  # simulate does not return before
    return answers.Simulated(
        folder=str(folder),
        seconds=run.result.seconds,
        bytes=run.result.bytes,
        peers=[_peer(run, peer) for peer in run.peers],
        plots=[str(path) for path in plot_run(folder)],
    )


def _peer(run: Run, peer: Any) -> answers.SimulatedPeer:
    assert run.result is not None
    found = run.result.peers[peer]
    losses = msgspec.structs.asdict(found.loss)
    perplexities = {name: perplexity(loss) for name, loss in losses.items()}
    merges = [line for line in run.lines if line.peer == peer and line.is_merge]
    return answers.SimulatedPeer(
        name=peer,
        tokens=found.tokens,
        perplexity=answers.Perplexities(**perplexities),
        merges=len(merges),
        merges_refused=sum(not line.accepted for line in merges),
    )


def _words(data: answers.Simulated) -> str:
    with_twin = any(peer.perplexity.local_best is not None for peer in data.peers)
    headings = [
        "peer",
        "test tokens",
        "base",
        *(["twin"] if with_twin else []),
        "last",
        "best",
        "served",
        "merges",
        "refused",
    ]
    rows = []
    for peer in data.peers:
        p = peer.perplexity
        twin = [p.local_best] if with_twin else []
        values = (p.base, *twin, p.personal, p.best, p.served)
        figures = [NOTHING if value is None else written(value) for value in values]
        rows.append([peer.name, f"{peer.tokens:,}", *figures, str(peer.merges), str(peer.merges_refused)])
    return "\n".join(
        [
            "Perplexity on each peer's own unseen text (lower is better)",
            "best: the adapter with the lowest guard loss; served: what generate and export would give",
            table(headings, rows),
            f"{data.bytes / 1e6:.1f} MB of updates, {data.seconds:,.0f} s. Everything is in {data.folder}",
            *(f"  {path}" for path in data.plots),
        ]
    )
