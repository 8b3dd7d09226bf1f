"""All schemes over all settings and models in one picture: what each brings against training alone, and to whom least.

A line a scheme, best in front. The dot is the mean over settings and models of the change in perplexity against
training alone, small ticks are the single settings and models, and the open circle is the worst tenth of peers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2pfinetune.compare.overview import Overview, change_of
from p2pfinetune.compare.plots import COLOURS, PAGE, save_figure, styled
from p2pfinetune.compare.summary import LOCAL

FAR = 0.5  # of perplexity: what lies beyond would make a line of everything else


def plot_overview(found: Overview, folder: Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """`plots/comparison.*`; nothing if no scheme was run beside local."""
    shown = [one for one in found.overall if one.change is not None and one.name != LOCAL]
    if not shown:
        return []
    with styled() as plt:
        figure = plt.figure(figsize=(PAGE, 0.9 + 0.19 * len(shown)), layout="constrained")
        _draw(figure.add_subplot(), found, [one.name for one in shown])
        return save_figure(figure, folder / "plots", "comparison", formats, plt)


def _draw(axes: Any, found: Overview, names: Sequence[str]) -> None:
    by_name = {one.name: one for one in found.overall}
    for line, name in enumerate(names):
        one = by_name[name]
        single = [change_of(scheme) for summary in found.summaries for scheme in summary.schemes if scheme.name == name]
        axes.plot([100 * c for c in single if c is not None], [line] * sum(c is not None for c in single), "|",
                  color=COLOURS[7], markersize=6)  # fmt: skip
        axes.plot(100 * (one.change or 0.0), line, "o", color=COLOURS[5], markersize=4)
        if one.worst_tenth_change is not None:
            axes.plot(100 * one.worst_tenth_change, line, "o", color=COLOURS[4], markersize=4, fillstyle="none")
    axes.axvline(0.0, color=COLOURS[0], linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    low, high = axes.get_xlim()
    axes.set_xlim(max(low, -100 * FAR), min(high, 100 * FAR))
    axes.grid(visible=True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_xlabel("change of test perplexity against training alone, % (less is better)")
    handles = [
        axes.plot([], [], "o", color=COLOURS[5], markersize=4, label="mean over settings and models")[0],
        axes.plot([], [], "|", color=COLOURS[7], markersize=6, label="one setting and model")[0],
        axes.plot([], [], "o", color=COLOURS[4], markersize=4, fillstyle="none", label="worst tenth of peers")[0],
    ]
    axes.figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
