"""Does anybody end worse than alone? `python -m benchmarks.never_worse --data DIR --out RUNS --page PAGE`.

Three parts, each over several seeds; what is complete in RUNS is not run again, and an interrupted simulation goes on:

* `demo`: `peerd demo`, real daemons and all;
* `settings`: the three settings of arXiv 2404.09753, specific and mixed, in the simulator, by the daemon's defaults;
* `share`: the demo's text and settings in the simulator, with the bound on a neighbour's weight and without, on the
  very same text, splits and batches.

What is compared is what a peer is served with the better of training alone to the end and stopped at its best, chosen
on the test text itself, in its favour. A peer is worse (or better) where the 95 % interval of that difference, paired
by window and with documents as what is drawn, leaves out zero. Where nobody differed, 2.5 % would be called worse.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from p2pfinetune.names import PeerId
from p2pfinetune.scoring.difference import student_975, worst_tenth
from p2pfinetune.scoring.perplexity import as_change
from p2pfinetune.simulation.config import AdapterChoice, PeerText, SettingText, SimulationConfig, TrainingChoice
from p2pfinetune.simulation.record import RESULT
from p2pfinetune.system import interpreter
from peerd.demo.plan import TEST_TOKENS, DemoOptions, Member, config_of

if TYPE_CHECKING:
    from peerd.demo.deal import DealtText

SETTINGS = tuple((name, mix) for name in ("languages", "ag-news", "code-wiki") for mix in ("specific", "mixed"))
PAIRS = {"languages": (0, 1, 3, 4), "ag-news": (0, 1, 2, 3), "code-wiki": (0, 1, 2, 3)}
"""Of a setting's peers: two kinds of text, two peers each, so that two cores get through all of it in an hour."""
DOCUMENTS = {"languages": 100, "ag-news": 300, "code-wiki": 100}
"""At most so many in a test split: the first token of each is not predicted."""
SCALE = 0.00714  # as docs/reproduction/results.md runs nano
DEMO_PEERS = 6
BOUND, NONE = 0.4, 1.0
PARTS = ("demo", "settings", "share")


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer at the end of one run: served less alone in nats a token, and the 95 % interval of that."""

    name: str
    tokens: int
    nats: float
    low: float
    high: float


Runs = Mapping[int, Sequence[Peer]]
"""By seed."""


def setting_config(name: str, mix: str, data: Path, seed: int) -> SimulationConfig:
    """By the daemon's defaults, with longer test splits than the scale would give."""
    from p2pfinetune.paper.settings import layout

    peers = layout(name, mix).peers()  # type: ignore[arg-type]
    return SimulationConfig(
        setting=SettingText(
            name=name,  # type: ignore[arg-type]
            mix=mix,  # type: ignore[arg-type]
            data=str(data),
            scale=SCALE,
            test_tokens=TEST_TOKENS + DOCUMENTS[name],
            peers=tuple(peers[place] for place in PAIRS[name]),
        ),
        training=TrainingChoice(lr=4e-3, batch_size=4, context=64),
        rounds=5,
        steps=6,
        warmup_rounds=1,
        public_reference=False,
        twin=True,
        seed=seed,
    )


def demo_config(dealt: Iterable[DealtText], max_share: float, seed: int) -> SimulationConfig:
    """As the demo's daemons are told, in lock-step."""
    member = Member(name="a", domain="a", text=Path("a"), home=Path("a"), peer_id=PeerId("a"))
    told = config_of(member, [member], DemoOptions(), "", "")
    return SimulationConfig(
        peers=tuple(PeerText(name=share.name, data=(str(share.folder),)) for share in dealt),
        adapter=AdapterChoice(rank=told.rank, alpha=told.alpha),
        training=TrainingChoice(lr=told.lr, batch_size=told.batch_size, context=told.context),
        rounds=told.rounds,
        steps=told.steps_per_round,
        warmup_rounds=told.warmup_rounds,
        trust=told.trust,
        trust_tokens=told.trust_tokens,
        guard_tokens=told.guard_tokens,
        max_share=max_share,
        twin=True,
        seed=seed,
    )


def run_demo(out: Path, seed: int) -> None:
    """In processes of its own."""
    folder = out / "demo" / f"seed-{seed}"
    if not (folder / RESULT).exists():
        subprocess.run(  # noqa: S603  # ourselves
            interpreter.command("-m", "peerd", "demo", "--seed", str(seed), "--report", str(folder)),
            env=interpreter.environment(os.environ),
            check=True,
            stdout=sys.stderr,
        )


def run_settings(out: Path, data: Path, seed: int) -> None:
    """All six."""
    from p2pfinetune.simulation.run import simulate

    for name, mix in SETTINGS:
        simulate(setting_config(name, mix, data, seed), out / "settings" / f"{name}-{mix}" / f"seed-{seed}")
        say(f"{name} {mix}, seed {seed}: done")


def run_share(out: Path, seed: int) -> None:
    """Both arms; the test splits are replaced by text that no peer has, as in the demo."""
    from p2pfinetune.simulation.own_text import population_from_folders
    from p2pfinetune.simulation.run import base_for, simulate
    from peerd.demo.deal import deal_installed
    from peerd.demo.measure import by_source

    arms = [(max_share, out / "share" / f"seed-{seed}" / f"{max_share:g}") for max_share in (BOUND, NONE)]
    if all((folder / RESULT).exists() for _, folder in arms):
        return
    dealt = deal_installed(DEMO_PEERS, out / "text" / f"seed-{seed}", seed)
    base = base_for(demo_config(dealt, NONE, seed))
    tests = {PeerId(share.name): by_source(base, share.test)[0] for share in dealt}
    for max_share, folder in arms:
        config = demo_config(dealt, max_share, seed)
        read = population_from_folders(config, base)
        texts = {peer: replace(found, test=tests[peer]) for peer, found in read.texts.items()}
        simulate(config, folder, population=replace(read, texts=texts))
        say(f"bound {max_share:g}, seed {seed}: done")


def of_simulation(folder: Path) -> list[Peer]:
    """From `result.json`."""
    peers = json.loads((folder / RESULT).read_text(encoding="utf-8"))["peers"]
    return [
        Peer(name, found["tokens"], *(found["against_alone"][key] for key in ("nats", "low", "high")))
        for name, found in peers.items()
    ]


def of_demo(folder: Path) -> list[Peer]:
    """From the demo's report."""
    peers = json.loads((folder / RESULT).read_text(encoding="utf-8"))["peers"]
    return [_of_demo(found["name"], found["test_tokens"], found["against_alone"]) for found in peers]


def _of_demo(name: str, tokens: int, change: Mapping[str, float | None]) -> Peer:
    mean, low, high = (change[key] for key in ("mean", "low", "high"))
    if mean is None or low is None or high is None:  # too little text
        return Peer(name, tokens, math.log1p(mean or 0.0), -math.inf, math.inf)
    return Peer(name, tokens, *map(math.log1p, (mean, low, high)))


def gained(folder: Path) -> dict[str, float]:
    """Of the personal models themselves, by peer: alone less personal, in nats."""
    peers = json.loads((folder / RESULT).read_text(encoding="utf-8"))["peers"]
    losses = {name: found["loss"] for name, found in peers.items()}
    return {name: min(loss["local"], loss["local_best"]) - loss["personal"] for name, loss in losses.items()}


def complete(root: Path) -> dict[int, Path]:
    """Folders of seeds with a result, by seed."""
    found = {int(path.parent.name.removeprefix("seed-")): path.parent for path in root.glob(f"seed-*/{RESULT}")}
    return dict(sorted(found.items()))


def runs_of(out: Path) -> dict[str, Runs]:
    """All that is complete but for the comparison of bounds, by what was run."""
    found: dict[str, Runs] = {"demo": {seed: of_demo(path) for seed, path in complete(out / "demo").items()}}
    for name, mix in SETTINGS:
        folders = complete(out / "settings" / f"{name}-{mix}")
        found[f"{name} {mix}"] = {seed: of_simulation(path) for seed, path in folders.items()}
    return {name: runs for name, runs in found.items() if runs}


def over_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval, by Student's t; infinite for one."""
    reach = student_975(len(values) - 1) * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return fmean(values), reach


def percent(nats: float) -> str:
    """A change of perplexity."""
    return f"{100 * as_change(nats):+.1f} %"


def interval(low: float, high: float) -> str:
    """Likewise."""
    return f"{100 * as_change(low):+.1f} to {100 * as_change(high):+.1f} %" if math.isfinite(low + high) else "-"


def row(name: str, runs: Runs) -> str:
    """One line of the main table."""
    peers = [peer for found in runs.values() for peer in found]
    mean, reach = over_seeds([fmean(peer.nats for peer in found) for found in runs.values()])
    worse, better = sum(peer.low > 0 for peer in peers), sum(peer.high < 0 for peer in peers)
    worst = max(peers, key=lambda peer: peer.nats)
    cells = (
        name,
        f"{len(peers)} ({len(runs)} seeds)",
        f"{min(peer.tokens for peer in peers):,}",
        f"{percent(mean)} ({interval(mean - reach, mean + reach)})",
        str(better),
        str(len(peers) - worse - better),
        f"{worse} ({worse / len(peers):.0%})",
        percent(worst_tenth([peer.nats for peer in peers])),
        f"{percent(worst.nats)} ({interval(worst.low, worst.high)})",
    )
    return f"| {' | '.join(cells)} |"


HEAD = (
    "what", "peers", "test tokens, at least", "mean change (95 % over seeds)", "better", "no difference seen", "worse",
    "worst tenth", "the very worst (95 %)",
)  # fmt: skip


def main_table(runs: Mapping[str, Runs]) -> list[str]:
    """All runs, and all of them together."""
    lines = [f"| {' | '.join(HEAD)} |", f"|---|{'---:|' * (len(HEAD) - 1)}"]
    lines += [row(name, found) for name, found in runs.items()]
    simulated = [found for name, found in runs.items() if name != "demo"]
    seeds = sorted({seed for found in simulated for seed in found})
    together = {seed: [peer for found in simulated for peer in found.get(seed, ())] for seed in seeds}
    return lines + ([row("the six settings together", together)] if len(simulated) > 1 else [])


def demo_table(runs: Runs) -> list[str]:
    """Every peer of every demo."""
    lines = ["| seed | " + " | ".join(peer.name for peer in next(iter(runs.values()))) + " |"]
    lines.append("|---:|" + "---:|" * len(next(iter(runs.values()))))
    for seed, peers in runs.items():
        cells = [f"{percent(peer.nats)} ({interval(peer.low, peer.high)})" for peer in peers]
        lines.append(f"| {seed} | {' | '.join(cells)} |")
    return lines


def share_table(out: Path) -> list[str]:
    """What the bound costs, in nats of gain over training alone."""
    lines = ["| seed | gain with 0.4, nats | gain without a bound | the bound costs |", "|---:|---:|---:|---:|"]
    costs = []
    for folder in sorted((out / "share").glob("seed-*")):
        if not all((folder / f"{arm:g}" / RESULT).exists() for arm in (BOUND, NONE)):
            continue
        with_bound, without = (gained(folder / f"{arm:g}") for arm in (BOUND, NONE))
        costs.append(fmean(without[peer] - with_bound[peer] for peer in without))
        figures = (fmean(with_bound.values()), fmean(without.values()), costs[-1])
        lines.append(f"| {folder.name.removeprefix('seed-')} | {' | '.join(f'{nats:.4f}' for nats in figures)} |")
    mean, reach = over_seeds(costs) if costs else (0.0, math.inf)
    return [*lines, f"| mean (95 % over seeds) | | | {mean:.4f} ({mean - reach:.4f} to {mean + reach:.4f}) |"]


def page(out: Path) -> str:
    """The figures, in Markdown, between the marks of docs/reproduction/never-worse.md."""
    runs = runs_of(out)
    parts = [
        main_table(runs),
        ["", "Peer by peer in the demo:", ""],
        demo_table(runs["demo"]) if "demo" in runs else [],
    ]
    parts += [["", "The bound on a neighbour's weight, in the demo's settings:", ""], share_table(out)]
    return "\n".join(line for part in parts for line in part) + "\n"


BEGIN, END = "<!-- figures -->\n", "<!-- end -->\n"


def put(page_path: Path, figures: str) -> None:
    """Between the marks, leaving what people wrote around them."""
    before, rest = page_path.read_text(encoding="utf-8").split(BEGIN)
    page_path.write_text(f"{before}{BEGIN}\n{figures}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Parse the command line, run what is missing, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the raw text")
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--page", type=Path, help="whose figures are replaced; without, they are printed")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS, help="none: only the figures")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    out = options.out.resolve()
    for seed in options.seeds:
        if "share" in options.parts:
            run_share(out, seed)
        if "settings" in options.parts:
            run_settings(out, options.data.resolve(), seed)
        if "demo" in options.parts:
            run_demo(out, seed)
    if options.page:
        put(options.page, page(out))
    else:
        print(page(out))


if __name__ == "__main__":
    main()
