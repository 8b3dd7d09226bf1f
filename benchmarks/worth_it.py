"""When is it worth it? `python -m benchmarks.worth_it --data DIR --out RUNS --page docs/reproduction/worth-it.md`.

Peers hold text of one kind (encyclopaedia sentences), 6,000 to 48,000 training tokens each, and hear 1, 2, 4 or 8
others of that kind, by the daemon's defaults. Each is compared with itself trained alone: the same text, splits,
batches and steps, both the adapter with the best guard loss. A peer's text is the beginning of what it has where it has
more, and its test split is one for all, so that rows and columns of the table differ in nothing else.

Trust and guard split hold a tenth of the training tokens each, of 1,024 at least. What is complete in RUNS is not run
again, an interrupted simulation goes on, and cells that are not complete are left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import msgspec

from p2pfinetune.data.corpus import Corpus
from p2pfinetune.data.population import Population
from p2pfinetune.data.report import ReadReport
from p2pfinetune.data.splits import Split
from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.data.tokens import TokenArray
from p2pfinetune.model.base import Base
from p2pfinetune.names import PeerId
from p2pfinetune.paper.pool import Well, cut_to, draw, fill, lengths
from p2pfinetune.paper.settings import LEAST, layout
from p2pfinetune.scoring.difference import worst_tenth
from p2pfinetune.scoring.perplexity import as_change
from p2pfinetune.simulation.config import PeerText, SimulationConfig, TrainingChoice
from p2pfinetune.simulation.record import RESULT

TEXTS = (6_000, 12_000, 24_000, 48_000)
"""Training tokens of each peer."""
LIKE = (1, 2, 4, 8)
"""Other peers of its kind."""
PEERS = tuple(PeerId(f"wiki-{i + 1}") for i in range(max(LIKE) + 1))
SHARE = {"trust": 10, "guard": 10}
"""The training tokens over those of a split."""
BEGIN, END = "<!-- figures -->\n", "<!-- end -->\n"

Dealt = Mapping[PeerId, Mapping[Split, Sequence[TokenArray]]]
"""Documents in tokens, as many as the largest text asks for."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One amount of text and number of like peers: nats a token less alone, by seed and peer; below zero is better."""

    changes: Mapping[int, Sequence[float]]

    @property
    def mean(self) -> float:
        """Over peers, then seeds."""
        return fmean(fmean(found) for found in self.changes.values())

    @property
    def spread(self) -> float:
        """Standard deviation over seeds; zero of one."""
        means = [fmean(found) for found in self.changes.values()]
        return stdev(means) if len(means) > 1 else 0.0

    @property
    def worst(self) -> float:
        """Of the tenth of all (peer, seed), at least one, that came off worst."""
        return worst_tenth([nats for found in self.changes.values() for nats in found])


def sizes(train: int) -> dict[Split, int]:
    """Tokens of each split beside so many of training."""
    held = {split: max(LEAST["trust"], train // part) for split, part in SHARE.items()}
    return {"train": train, "trust": held["trust"], "guard": held["guard"], "test": LEAST["test"]}


def beginning(documents: Sequence[TokenArray], tokens: int) -> list[TokenArray]:
    """The first so many tokens."""
    chosen = fill(lengths(documents), [tokens])
    if chosen is None:
        raise ValueError("there is too little text")
    return cut_to([documents[i] for i in chosen[0]], tokens)


def dealt(base: Base, data: Path, seed: int) -> Dealt:
    """Disjoint text for all peers, no two documents nearly equal."""
    well = Well(layout("code-wiki", "specific").categories[0].sources)
    keys = [(peer, split, count) for peer in PEERS for split, count in sizes(max(TEXTS)).items()]
    quotas = [count for _, _, count in keys]
    if draw({"wiki": well}, {"wiki": quotas}, data=data, seed=seed, tokenizer=base.tokenizer):
        raise ValueError(f"there is too little text in {data}")
    found: dict[PeerId, dict[Split, Sequence[TokenArray]]] = {peer: {} for peer in PEERS}
    for (peer, split, count), chosen in zip(keys, fill(lengths(well.documents), quotas) or [], strict=True):
        found[peer][split] = cut_to([well.documents[i] for i in chosen], count)
    return found


def population(text: Dealt, train: int, peers: Sequence[PeerId]) -> Population:
    """Some of the peers with so much of their text."""
    return Population({peer: _corpus(text[peer], train, peer) for peer in peers}, (), {})


def _corpus(text: Mapping[Split, Sequence[TokenArray]], train: int, peer: PeerId) -> Corpus:
    held: dict[Any, TokenSplit] = {s: TokenSplit.of(beginning(text[s], count)) for s, count in sizes(train).items()}
    return Corpus(**held, report=ReadReport(()), fingerprint=f"{peer} {train}")


def config_of(model: str, peers: Sequence[PeerId], seed: int, *, alone: bool) -> SimulationConfig:
    """The daemon's defaults, in the short steps of a small model, as docs/reproduction/results.md has them."""
    config = SimulationConfig(
        model=model,
        peers=tuple(PeerText(name=peer, data=()) for peer in peers),
        training=TrainingChoice(lr=4e-3, batch_size=8, context=64),
        rounds=10,
        steps=10,
        warmup_rounds=2,
        public_reference=False,
        seed=seed,
    )
    return msgspec.structs.replace(config, trust="local", merge_until=0.0) if alone else config


def folder_of(out: Path, train: int, seed: int, like: int) -> Path:
    """Of one run; nobody like is alone."""
    return out / f"{train}" / f"seed-{seed}" / (f"like-{like}" if like else "alone")


def run(out: Path, data: Path, model: str, seeds: Sequence[int], texts: Sequence[int]) -> None:
    """What is missing, all seeds of little text before those of more."""
    from p2pfinetune.simulation.run import base_for, simulate

    known: dict[int, Dealt] = {}
    for train, seed, like in itertools.product(texts, seeds, (0, *LIKE)):
        folder = folder_of(out, train, seed, like)
        if (folder / RESULT).exists():
            continue
        peers = PEERS[: like + 1] if like else PEERS
        config = config_of(model, peers, seed, alone=not like)
        known[seed] = known.get(seed) or dealt(base_for(config), data, seed)
        simulate(config, folder, population=population(known[seed], train, peers))
        print(f"{train} tokens, {like} like, seed {seed}: done", file=sys.stderr, flush=True)


def losses(folder: Path) -> dict[str, float]:
    """Test losses by peer, of the adapter with the best guard loss."""
    peers = json.loads((folder / RESULT).read_text(encoding="utf-8"))["peers"]
    return {name: found["loss"]["best"] for name, found in peers.items()}


def cells(out: Path) -> dict[tuple[int, int], Cell]:
    """By training tokens and like peers; a cell has the seeds for which both runs are complete."""
    found: dict[tuple[int, int], Cell] = {}
    for train in TEXTS:
        seeds = sorted(int(path.name.removeprefix("seed-")) for path in (out / f"{train}").glob("seed-*"))
        for like in LIKE:
            pairs = {s: (folder_of(out, train, s, 0), folder_of(out, train, s, like)) for s in seeds}
            done = {s: pair for s, pair in pairs.items() if all((folder / RESULT).exists() for folder in pair)}
            changes = {s: _changes(*pair) for s, pair in done.items()}
            if changes:
                found[train, like] = Cell(changes)
    return found


def _changes(alone: Path, together: Path) -> list[float]:
    mine, theirs = losses(alone), losses(together)
    return [theirs[peer] - mine[peer] for peer in theirs]


def table(found: Mapping[tuple[int, int], Cell]) -> list[str]:
    """Change of perplexity against training alone; standard deviation over seeds; in brackets the worst tenth."""
    lines = [f"| training tokens a peer | {' | '.join(f'{like} like' for like in LIKE)} | seeds |"]
    lines.append("|---:|" + "---:|" * (len(LIKE) + 1))
    for train in TEXTS:
        row = [found.get((train, like)) for like in LIKE]
        if not any(row):
            continue
        seeds = {len(cell.changes) for cell in row if cell}
        told = " | ".join(_told(cell) if cell else "-" for cell in row)
        lines.append(f"| {train:,} | {told} | {'-'.join(map(str, sorted(seeds)))} |")
    return lines


def _told(cell: Cell) -> str:
    spread = f" ± {100 * cell.spread:.1f}" if len(cell.changes) > 1 else ""
    return f"{100 * as_change(cell.mean):+.1f}{spread} % ({100 * as_change(cell.worst):+.1f} %)"


def draw_picture(found: Mapping[tuple[int, int], Cell], path: Path) -> None:
    """A line for each amount of text: how much lower perplexity is with so many like peers."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5.2, 3.4), layout="constrained")
    for place, train in enumerate(text for text in TEXTS if any((text, like) in found for like in LIKE)):
        likes = [like for like in LIKE if (train, like) in found]
        means = [-100 * as_change(found[train, like].mean) for like in likes]
        spreads = [100 * found[train, like].spread for like in likes]
        look = {"marker": "osD^"[place], "linestyle": ("-", "--", "-.", ":")[place], "capsize": 2}
        axes.errorbar([math.log2(like) for like in likes], means, yerr=spreads, label=f"{train:,} tokens", **look)
    axes.set_xticks([math.log2(like) for like in LIKE], [str(like) for like in LIKE])
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.set_xlabel("other peers with text of the same kind")
    axes.set_ylabel("lower perplexity than alone, %")
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.legend(title="own text", frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    plt.close(figure)


def put(page: Path, figures: Sequence[str]) -> None:
    """Between the marks, leaving what people wrote around them."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(figures) + f"\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


def main() -> None:
    """Parse the command line, run what is missing, print or write the table, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the raw text")
    parser.add_argument("--model", default="", help="base model; without, stories260k of the data folder")
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--page", type=Path, help="whose figures are replaced; its picture goes to plots/worth-it.png")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only the figures")
    parser.add_argument("--texts", type=int, nargs="+", choices=TEXTS, default=TEXTS, help="training tokens a peer")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    model = options.model or str(options.data / "stories260k")
    run(options.out.resolve(), options.data.resolve(), model, options.seeds, options.texts)
    found = cells(options.out)
    if options.page:
        put(options.page, table(found))
        draw_picture(found, options.page.parent / "plots" / "worth-it.png")
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()
