"""Pictures of runs and sweeps, to be legible in print: at column width no letter is smaller than 8 points.

A scheme has the same colour, marker and line in every picture; the colours are Okabe and Ito's, which people with any
colour vision tell apart, and line and marker differ as well. Nothing is computed here but means and spreads.

A curve has a gap where a model has diverged: one point at e^50 would flatten all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import fmean
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from p2pfinetune.compare.folders import Run, Sweep, read_run, read_sweep
from p2pfinetune.compare.summary import LOCAL, ORDER, Summary, rank, summarise
from p2pfinetune.compare.tables import title
from p2pfinetune.compare.trust_matrices import Matrices, merged_rounds, trust_matrices, write_trust_matrices
from p2pfinetune.scoring.perplexity import has_diverged, perplexity

COLUMN, PAGE = 3.5, 7.1  # inches: widths of a column and of a page of most journals
FONT = 8  # points
DPI = 200
COLOURS = ("#000000", "#E69F00", "#009E73", "#56B4E9", "#D55E00", "#0072B2", "#CC79A7", "#8C8C8C")
MARKERS = "osD^vPX*<>hd"
LINES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
MARKERS_A_LINE = 6
MAX_NUMBERS = 9  # peers: with more, the numbers in a heat map are too small to read
MAX_TICKS = 16  # peers: with more, only categories are named
WHITE_ABOVE = 0.18  # a weight whose colour is too dark for black letters
GAMMA = 0.5  # of the colours of trust: with ten peers most weights are near 0.1 and have to be told apart
EDGE = 0.06  # of the range of values, left free around a curve


def plot_run(folder: Path, formats: Sequence[str] = ("png",)) -> tuple[Path, ...]:
    """`plots/curves.*` and, where peers merged, `plots/trust.*`, with `trust.npz` beside; returns the pictures."""
    run = read_run(folder)
    write_trust_matrices(folder)
    with styled() as plt:
        figure = plt.figure(figsize=(COLUMN, 3.2 + 0.16 * ((len(run.peers) + 2) // 3)), layout="constrained")
        draw_peer_curves(figure, run)
        written = [*save_figure(figure, folder / "plots", "curves", formats, plt)]
        if any(line.is_merge for line in run.lines):
            matrices = trust_matrices(run)
            written += save_figure(_trust_figure(plt, run, matrices, ""), folder / "plots", "trust", formats, plt)
    return tuple(written)


def plot_sweep(folder: Path, formats: Sequence[str] = ("png",)) -> tuple[Path, ...]:
    """`plots/curves.*`, `plots/bars.*` and a `plots/trust-SCHEME.*` for each that merged; returns the pictures."""
    sweep = read_sweep(folder)
    summary = summarise(sweep)
    written: list[Path] = []
    with styled() as plt:
        rows = (len({scheme for _, scheme in sweep.runs}) + 1) // 2
        figure = plt.figure(figsize=(COLUMN, 2.7 + 0.16 * rows), layout="constrained")
        draw_scheme_curves(figure, sweep, title(summary))
        written += save_figure(figure, folder / "plots", "curves", formats, plt)
        if summary.schemes:
            figure = plt.figure(figsize=(COLUMN, 1.0 + 0.24 * len(summary.schemes)), layout="constrained")
            draw_bars(figure, summary)
            written += save_figure(figure, folder / "plots", "bars", formats, plt)
        for scheme, runs in _by_scheme(sweep).items():
            first = next(iter(runs.values()))
            if any(line.is_merge for run in runs.values() for line in run.lines):
                matrices = mean_matrices([trust_matrices(run) for run in runs.values() if run.peers == first.peers])
                drawn = _trust_figure(plt, first, matrices, scheme)
                written += save_figure(drawn, folder / "plots", f"trust-{scheme}", formats, plt)
    return tuple(written)


def guard_curve(run: Run) -> tuple[list[int], list[float]]:
    """Rounds, and the perplexity of the peers' mean guard loss; only rounds that every peer has ended."""
    losses: dict[int, list[float]] = {}
    for line in run.lines:
        if _is_drawn(line.guard):
            losses.setdefault(line.round, []).append(line.guard)
    whole = sorted(number for number, found in losses.items() if len(found) == len(run.peers))
    return whole, [perplexity(fmean(losses[number])) for number in whole]


def _is_drawn(loss: float | None) -> TypeGuard[float]:
    """A curve has a gap if a model had diverged: the axis would show nothing else."""
    return loss is not None and not has_diverged(loss)


def mean_matrices(of_seeds: Sequence[Matrices]) -> Matrices:
    """Mean over seeds, as far as all have come; NaN only if nobody merged in any seed."""
    rounds = min(len(matrices) for matrices in of_seeds)
    stacked = np.stack([matrices[:rounds] for matrices in of_seeds])
    merged = ~np.isnan(stacked)
    counts = merged.sum(axis=0)
    sums = np.where(merged, stacked, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def draw_scheme_curves(figure: Any, sweep: Sweep, heading: str) -> None:
    """A line a scheme: mean over seeds, the band one standard deviation to either side."""
    axes = figure.add_subplot()
    by_scheme = _by_scheme(sweep)
    places = _places(list(by_scheme))
    found = {scheme: _by_seed_and_round(runs) for scheme, runs in by_scheme.items()}
    curves = {scheme: values for scheme, (rounds, values) in found.items() if rounds}
    same_seeds = len({tuple(runs) for runs in by_scheme.values()}) == 1
    parts = [curves] if same_seeds else [{scheme: values} for scheme, values in curves.items()]
    spreads = {scheme: spread for part in parts for scheme, spread in spread_over_seeds(part).items()}
    everything: list[npt.NDArray[np.float64]] = []
    for scheme, values in curves.items():
        rounds, middle, spread = found[scheme][0], values.mean(axis=0), spreads[scheme]
        style = _line_style(places[scheme], len(rounds))
        axes.plot(rounds, middle, label=scheme, **style)
        axes.fill_between(rounds, middle - spread, middle + spread, color=style["color"], alpha=0.18, linewidth=0)
        everything += [middle - spread, middle + spread]
    _label_curves(axes, everything)
    if any(len(values) > 1 for values in curves.values()):
        axes.set_xlabel("round (bands: one standard deviation over seeds)")
    axes.set_title(heading)
    _legend_below(figure, 2)


def spread_over_seeds(curves: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, npt.NDArray[np.float64]]:
    """Standard deviations by round of curves (seeds, rounds), without what a seed's text does to all schemes alike.

    Each seed deals other text, which is harder or easier for every scheme; that says nothing of how schemes compare. So
    the mean over schemes is taken out of each seed first (Cousineau 2005, with the factor of Morey 2008). Where not
    every scheme has all seeds and rounds, it is the plain deviation; with one seed it is zero.
    """
    shapes = {values.shape for values in curves.values()}
    if len(curves) > 1 and len(shapes) == 1:
        stacked = np.stack(list(curves.values()))  # (schemes, seeds, rounds)
        stacked = (stacked - stacked.mean(axis=0)) * np.sqrt(len(stacked) / (len(stacked) - 1))
        curves = dict(zip(curves, stacked, strict=True))
    return {
        scheme: values.std(axis=0, ddof=1) if len(values) > 1 else np.zeros(values.shape[1])
        for scheme, values in curves.items()
    }


def _by_seed_and_round(runs: Mapping[int, Run]) -> tuple[list[int], npt.NDArray[np.float64]]:
    """The rounds that all seeds have, and the guard perplexities (seeds, rounds)."""
    curves = [guard_curve(run) for run in runs.values()]
    rounds = [number for number in curves[0][0] if all(number in found for found, _ in curves)]
    return rounds, np.array([[dict(zip(*curve, strict=True))[number] for number in rounds] for curve in curves])


def draw_peer_curves(figure: Any, run: Run) -> None:
    """A line a peer, solid; dashed in the same colour the twin that trains alone, if there is one."""
    axes = figure.add_subplot()
    everything: list[npt.NDArray[np.float64]] = []
    has_twin = False
    for i, peer in enumerate(run.peers):
        lines = [line for line in run.lines if line.peer == peer and _is_drawn(line.guard)]
        if not lines:
            continue
        rounds = [line.round for line in lines]
        values = np.array([perplexity(line.guard) for line in lines])
        style = {**_line_style(i, len(rounds)), "linestyle": "-"}
        axes.plot(rounds, values, label=peer, **style)
        twins = [(line.round, perplexity(line.guard_local)) for line in lines if _is_drawn(line.guard_local)]
        if twins:
            has_twin = True
            axes.plot(*zip(*twins, strict=True), linestyle="--", color=style["color"], linewidth=0.9)
            everything.append(np.array([value for _, value in twins]))
        everything.append(values)
    _label_curves(axes, everything)
    axes.set_title("each peer; dashed: trained alone" if has_twin else "each peer")
    _legend_below(figure, 3)


def draw_bars(figure: Any, summary: Summary) -> None:
    """Test perplexity of every scheme, the bar one standard deviation over seeds; dashed the level of local.

    In brackets that of the worst tenth of peers.
    """
    axes = figure.add_subplot()
    schemes = summary.schemes
    at = range(len(schemes))
    values = [scheme.perplexity_mean for scheme in schemes]
    spreads = [scheme.perplexity_std or 0.0 for scheme in schemes]
    places = _places([scheme.name for scheme in schemes])
    colours = [COLOURS[place % len(COLOURS)] if place % len(COLOURS) else "#ffffff" for place in places.values()]
    whiskers = {"capsize": 2, "linewidth": 0.9}
    axes.barh(
        at, values, xerr=spreads, color=colours, edgecolor="#000000", linewidth=0.6, height=0.68, error_kw=whiskers
    )
    far = max(value + spread for value, spread in zip(values, spreads, strict=True))
    near = min(value - spread for value, spread in zip(values, spreads, strict=True))
    start = max(0.0, near - 0.5 * (far - near)) if far - near < 0.5 * far else 0.0
    room = far - start or 1.0
    for i, scheme in enumerate(schemes):
        figures = f"{scheme.perplexity_mean:.2f} ({scheme.worst_tenth_perplexity:.1f})"
        axes.text(1.02, i, figures, va="center", transform=axes.get_yaxis_transform())
    if (alone := next((s.perplexity_mean for s in schemes if s.name == LOCAL), None)) is not None:
        axes.axvline(alone, color="#000000", linestyle="--", linewidth=0.9, zorder=0)
    axes.set_xlim(start, far + 0.06 * room)
    axes.set_yticks(at, [scheme.name for scheme in schemes])
    axes.set_ylim(len(schemes) - 0.5, -0.5)
    note = "" if start == 0 else f" (axis starts at {start:.1f})"
    axes.set_xlabel(f"test perplexity{note}; right: mean (worst tenth)")
    axes.set_title(title(summary))


def draw_trust(figure: Any, run: Run, matrices: Matrices, heading: str) -> None:
    """The first, the middle and the last merge on one scale from 0 to 1; grey where a peer did not merge."""
    import matplotlib as mpl
    import matplotlib.colors

    order = _by_category(run)
    merged = merged_rounds(matrices)
    chosen = sorted({merged[0], merged[len(merged) // 2], merged[-1]})
    colours = mpl.colormaps["magma_r"].with_extremes(bad="#d9d9d9")
    panels = figure.subplots(1, len(chosen), squeeze=False)[0]
    scale = mpl.colors.PowerNorm(GAMMA, vmin=0, vmax=1)
    image = None
    for k, (axes, number) in enumerate(zip(panels, chosen, strict=True)):
        matrix = matrices[number][np.ix_(order, order)]
        image = axes.imshow(np.ma.masked_invalid(matrix), cmap=colours, norm=scale)
        axes.set_title(f"round {number + 1}")
        _name_peers(axes, run, order, with_rows=k == 0)
        if len(order) <= MAX_NUMBERS:
            _write_numbers(axes, matrix)
    figure.colorbar(image, ax=panels, shrink=0.8, label="trust weight", ticks=[0, 0.05, 0.2, 0.5, 1])
    figure.supylabel("who trusts", fontsize=FONT)
    figure.supxlabel("whom", fontsize=FONT)
    if heading:
        figure.suptitle(heading, fontsize=FONT + 1)


def _trust_figure(plt: Any, run: Run, matrices: Matrices, heading: str) -> Any:
    panels = len({0, *merged_rounds(matrices)} - {0}) or 1
    figure = plt.figure(figsize=(PAGE if panels > 1 else COLUMN, 3.1), layout="constrained")
    draw_trust(figure, run, matrices, heading)
    return figure


def _by_category(run: Run) -> list[int]:
    """Indices of peers, those with most of one category together."""
    shapes = list(run.population.peers.values())
    return sorted(range(len(shapes)), key=lambda i: (_main_category(shapes[i].shares), i))


def _main_category(shares: Sequence[float]) -> int:
    return max(range(len(shares)), key=lambda c: shares[c], default=0)


def _name_peers(axes: Any, run: Run, order: Sequence[int], *, with_rows: bool) -> None:
    """Names of few peers, categories of many; white lines between categories."""
    shapes = list(run.population.peers.values())
    of = [_main_category(shapes[i].shares) for i in order]
    for edge in (k for k in range(1, len(of)) if of[k] != of[k - 1]):
        axes.axhline(edge - 0.5, color="#ffffff", linewidth=1.5)
        axes.axvline(edge - 0.5, color="#ffffff", linewidth=1.5)
    if len(order) <= MAX_TICKS or not run.population.categories:
        ticks, names = list(map(float, range(len(order)))), [str(run.peers[i]) for i in order]
    else:
        present = sorted(set(of))
        ticks = [fmean(k for k, c in enumerate(of) if c == category) for category in present]
        names = [run.population.categories[category] for category in present]
    axes.set_xticks(ticks, names, rotation=90)
    axes.set_yticks(ticks, names if with_rows else [])
    axes.tick_params(length=2)


def _write_numbers(axes: Any, matrix: npt.NDArray[np.float64]) -> None:
    """A weight in each cell, without the zero before the point; nothing if it is less than a hundredth."""
    for (i, j), weight in np.ndenumerate(matrix):
        if not np.isnan(weight):
            text = f"{weight:.2f}".removeprefix("0") if weight >= 0.005 else ""
            axes.text(j, i, text, ha="center", va="center", color="#ffffff" if weight > WHITE_ABOVE else "#000000")


def _label_curves(axes: Any, curves: Sequence[npt.NDArray[np.float64]]) -> None:
    """Words, and a range that shows how the curves end: what the first rounds fall from may leave the top."""
    axes.set_xlabel("round")
    axes.set_ylabel("guard perplexity")
    axes.grid(visible=True, linewidth=0.4, alpha=0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if not curves:
        return
    low = min(float(values.min()) for values in curves)
    settled = max(float(np.percentile(values, 90)) for values in curves)
    room = (settled - low) or 1.0
    axes.set_ylim(low - EDGE * room, settled + EDGE * room)


def _legend_below(figure: Any, columns: int) -> None:
    axes = figure.axes[0]
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6)


def _line_style(place: int, points: int) -> dict[str, Any]:
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": LINES[(place + place // len(COLOURS)) % len(LINES)],
        "marker": MARKERS[place % len(MARKERS)],
        "markevery": (place % 3 if points > MARKERS_A_LINE else 0, max(1, points // MARKERS_A_LINE)),
        "markersize": 3.5,
        "linewidth": 1.2,
    }


def _places(schemes: Sequence[str]) -> dict[str, int]:
    """A known scheme looks the same in every picture; others take what comes after, in the order shown."""
    others = [scheme for scheme in schemes if scheme not in ORDER]
    return {scheme: ORDER.index(scheme) if scheme in ORDER else len(ORDER) + others.index(scheme) for scheme in schemes}


def _by_scheme(sweep: Sweep) -> Mapping[str, dict[int, Run]]:
    """Runs by seed, schemes in the order of the tables."""
    found: dict[str, dict[int, Run]] = {}
    for scheme in sorted({scheme for _, scheme in sweep.runs}, key=rank):
        found[scheme] = {seed: run for (seed, name), run in sweep.runs.items() if name == scheme}
    return found


class styled(AbstractContextManager[Any]):  # noqa: N801  # read as a verb
    """Matplotlib without a display and with our letters, put back afterwards."""

    def __enter__(self) -> Any:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        sizes = ("font.size", "axes.titlesize", "axes.labelsize", "xtick.labelsize", "ytick.labelsize")
        self._context = plt.rc_context(
            {**dict.fromkeys((*sizes, "legend.fontsize"), FONT), "pdf.fonttype": 42, "svg.fonttype": "none"}
        )
        self._context.__enter__()
        return plt

    def __exit__(self, *raised: object) -> None:
        self._context.__exit__(*raised)


def save_figure(figure: Any, folder: Path, name: str, formats: Sequence[str], plt: Any) -> list[Path]:
    """As `folder/name.*`; closes it."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.{suffix}" for suffix in formats]
    for path in paths:
        figure.savefig(path, dpi=DPI)
    plt.close(figure)
    return paths
