"""The demo's report: tables and a heat map for the terminal, and a folder with the same as files and pictures."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from p2pfinetune.scoring.perplexity import written
from peerd.demo.result import MANY, Change, DemoResult, verdict
from peerd.status import RoundRecord

COLUMNS = (
    "peer", "domain", "base", "local", "served", "against_alone", "low", "high", "test_tokens",
    "bytes_in", "bytes_out",
)  # fmt: skip


def show(result: DemoResult, console: Console) -> None:
    """The figures for a person."""
    console.print(perplexity_table(result))
    console.print(heat_map(result))
    total = sum(peer.bytes_out for peer in result.peers)
    refused = sum(sum(peer.refused.values()) for peer in result.peers)
    for sentence in verdict(result):
        console.print(sentence, soft_wrap=True, highlight=False)
    console.print(
        f"{total / 1e6:.1f} MB sent in all, {refused} refusals, {result.seconds:.0f} s. Only adapters travelled.",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"The report lies in {result.report}", soft_wrap=True, highlight=False)


def perplexity_table(result: DemoResult) -> Table:
    """Per peer: base, twin that trained alone, what is served, and what can be said of the last two."""
    grid = Table(title="Perplexity on text that no peer has (lower is better)", title_justify="left")
    grid.add_column("peer")
    for column in ("base", "twin", "served", "vs twin", "95 % interval", "tokens"):
        grid.add_column(column, justify="right")
    for peer in result.peers:
        p = peer.perplexity
        figures = (written(value) for value in (p.base, p.local, p.served))
        grid.add_row(peer.name, *figures, *change_cells(peer.against_alone), f"{peer.test_tokens:,}")
    return grid


def change_cells(change: Change) -> tuple[str, str]:
    """The change and its interval; no figure if none can be seen."""
    if change.is_none:
        return "the same", "-"
    if change.low is None or change.high is None:
        return "not seen", "-"
    if max(change.mean, change.high) > MANY:
        return "HIGHER", "-"
    return f"{change.mean:+.1%}" if change.is_seen else "not seen", f"{100 * change.low:+.1f} to {change.high:+.1%}"


def heat_map(result: DemoResult) -> Table:
    """Row: who trusts. Column: whom. Darker is more."""
    grid = Table(
        title="Who listens to whom (last merge kept)",
        title_justify="left",
        padding=(0, 0),
    )
    grid.add_column("")
    for peer in result.peers:
        grid.add_column(peer.name, justify="center")
    for peer in result.peers:
        weights = [peer.trust.get(other.peer_id, 0.0) for other in result.peers]
        grid.add_row(peer.name + " ", *(heat(weight) for weight in weights))
    return grid


def heat(weight: float) -> Text:
    """A cell whose background says how much."""
    shade = int(235 - 195 * min(1.0, weight * 1.5))
    ink = "black" if shade > 130 else "white"
    return Text(f"  {weight:.2f}  ", style=f"{ink} on rgb({shade},{min(255, shade + 15)},255)")


def write(result: DemoResult, rounds: dict[str, list[RoundRecord]], folder: Path) -> None:
    """`result.json`, `perplexity.csv`, `trust.csv`, `rounds.jsonl`, `trust.png`, `curves.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2))
    with (folder / "perplexity.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        for peer in result.peers:
            p, c = peer.perplexity, peer.against_alone
            figures = (p.base, p.local, p.served, c.mean, c.low, c.high, peer.test_tokens)
            out.writerow([peer.name, peer.domain, *figures, peer.bytes_in, peer.bytes_out])
    with (folder / "trust.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["", *(peer.name for peer in result.peers)])
        for peer in result.peers:
            out.writerow([peer.name, *(peer.trust.get(other.peer_id, 0.0) for other in result.peers)])
    with (folder / "rounds.jsonl").open("wb") as lines:
        for name, records in rounds.items():
            for record in records:
                lines.write(msgspec.json.encode({"peer": name, **msgspec.to_builtins(record)}) + b"\n")
    draw(result, rounds, folder)


def draw(result: DemoResult, rounds: dict[str, list[RoundRecord]], folder: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = [peer.name for peer in result.peers]
    figure, axes = plt.subplots(figsize=(1.6 + 0.75 * len(names), 1.2 + 0.7 * len(names)), layout="constrained")
    draw_trust(axes, result, names)
    figure.savefig(folder / "trust.png", dpi=130)
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    draw_curves(axes, rounds)
    figure.savefig(folder / "curves.png", dpi=130)
    plt.close(figure)


def draw_trust(axes: Any, result: DemoResult, names: list[str]) -> None:
    """The matrix with its numbers."""
    matrix = [[peer.trust.get(other.peer_id, 0.0) for other in result.peers] for peer in result.peers]
    axes.imshow(matrix, cmap="Blues", vmin=0, vmax=max(0.5, *map(max, matrix)))
    axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axes.set_yticks(range(len(names)), names)
    for i, row in enumerate(matrix):
        for j, weight in enumerate(row):
            axes.text(j, i, f"{weight:.2f}", ha="center", va="center", color="white" if weight > 0.35 else "black")
    axes.set_title(f"Who trusts whom ({result.trust_scheme})")


def draw_curves(axes: Any, rounds: dict[str, list[RoundRecord]]) -> None:
    """Guard loss by round: the personal model solid, the one trained alone dashed."""
    for name, records in rounds.items():
        xs = [record.round for record in records]
        (drawn,) = axes.plot(xs, [record.guard_personal for record in records], label=name)
        if any(record.guard_twin is not None for record in records):
            axes.plot(xs, [record.guard_twin for record in records], "--", color=drawn.get_color(), alpha=0.6)
    axes.set_xlabel("round")
    axes.set_ylabel("guard loss, nats a token")
    axes.set_title("Personal (solid) and trained alone (dashed)")
    axes.legend(ncols=2, fontsize="small")
