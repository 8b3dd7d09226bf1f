"""Several sweeps in one table: a row a scheme, a column a setting and model, so that what wins everywhere is seen.

Perplexities of settings and models are no numbers of one kind, so what a scheme brings is told as its change against
training alone in the same setting, with the worst tenth of peers beside the mean, and means over columns are of those
changes. Costs (bytes, time, memory) are of the whole run; time and memory are relative to training alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

import msgspec
from msgspec import Meta

from p2pfinetune.compare.summary import LOCAL, SchemeSummary, Summary, rank
from p2pfinetune.compare.tables import NOTHING, markdown, title
from p2pfinetune.scoring.perplexity import as_change


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """One scheme over all settings and models that it was run on."""

    name: str
    columns: Annotated[int, Meta(description="Settings and models that it was run on with a local run beside it.")]
    change: Annotated[float | None, Meta(description="Of test perplexity against local, as a part; mean over columns.")]
    least: Annotated[float | None, Meta(description="The same in the column in which it is worst.")]
    worst_tenth_change: Annotated[float | None, Meta(description="Of the worst tenth of peers; mean over columns.")]
    clearly_better: Annotated[float | None, Meta(description="Share of (peer, seed) beyond its interval; mean.")]
    clearly_worse: float | None
    megabytes: Annotated[float, Meta(description="All peers' traffic, mean over columns.")]
    times_local_seconds: float | None
    times_local_memory: float | None


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of `p2pfinetune compare --json`."""

    overall: list[Overall]
    summaries: list[Summary]
    files: list[str] = []


def overview(summaries: Sequence[Summary]) -> Overview:
    """All schemes, those that bring most in front."""
    names = {scheme.name for summary in summaries for scheme in summary.schemes}
    found = [_overall(name, summaries) for name in names]
    found.sort(key=lambda one: (math.inf if one.change is None else one.change, rank(one.name)))
    return Overview(overall=found, summaries=[*summaries])


def change_of(scheme: SchemeSummary) -> float | None:
    """Of perplexity against local, as a part: -0.05 is five percent less."""
    return None if scheme.gain_nats_mean is None else as_change(-scheme.gain_nats_mean)


def overview_markdown(found: Overview) -> str:
    """The table over all, then one for each setting and model."""
    heads = ["scheme", "all", "in its worst column", "worst tenth", "clearly better / worse", "MB", "time", "memory"]
    columns = [title(summary) for summary in found.summaries]
    lines = ["| " + " | ".join([*heads, *columns]) + " |"]
    lines.append("|---|" + "---:|" * (len(heads) + len(columns) - 1))
    for one in found.overall:
        cells = [
            one.name if one.columns == len(columns) or one.name == LOCAL else f"{one.name} ({one.columns} columns)",
            *map(_percent, (one.change, one.least, one.worst_tenth_change)),
            f"{_share(one.clearly_better)} / {_share(one.clearly_worse)}",
            f"{one.megabytes:.1f}",
            _times(one.times_local_seconds),
            _times(one.times_local_memory),
        ]
        lines.append("| " + " | ".join([*cells, *(_cell(one.name, summary) for summary in found.summaries)]) + " |")
    return "\n".join(lines) + "\n\n" + "\n".join(markdown(summary) for summary in found.summaries)


def write_overview(found: Overview, folder: Path) -> list[Path]:
    """`comparison.md` and `comparison.json`."""
    text, data = folder / "comparison.md", folder / "comparison.json"
    text.write_text(overview_markdown(found), encoding="utf-8")
    data.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2) + b"\n")
    return [text, data]


def _overall(name: str, summaries: Sequence[Summary]) -> Overall:
    pairs = [(scheme, _local(summary)) for summary in summaries for scheme in summary.schemes if scheme.name == name]
    compared = [(scheme, local) for scheme, local in pairs if scheme.gain_nats_mean is not None]
    changes = [change for scheme, _ in compared if (change := change_of(scheme)) is not None]
    return Overall(
        name=name,
        columns=len(compared),
        change=_mean(changes),
        least=max(changes, default=None),
        worst_tenth_change=_mean([s.worst_tenth_change for s, _ in compared]),
        clearly_better=_mean([s.clearly_better for s, _ in compared]),
        clearly_worse=_mean([s.clearly_worse for s, _ in compared]),
        megabytes=fmean(scheme.bytes for scheme, _ in pairs) / 1e6,
        times_local_seconds=_mean([s.seconds / local.seconds for s, local in pairs if local]),
        times_local_memory=_mean(
            [s.peak_bytes / local.peak_bytes for s, local in pairs if local and s.peak_bytes and local.peak_bytes]
        ),
    )


def _local(summary: Summary) -> SchemeSummary | None:
    return next((scheme for scheme in summary.schemes if scheme.name == LOCAL), None)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _cell(name: str, summary: Summary) -> str:
    for scheme in summary.schemes:
        if scheme.name == name:
            change = change_of(scheme)
            return f"{scheme.perplexity_mean:.2f}" + ("" if change is None else f" ({_percent(change)})")
    return NOTHING


def _percent(change: float | None) -> str:
    return NOTHING if change is None else f"{100 * change + 0.0:+.1f} %".replace("-0.0", "+0.0")


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.2f} x"
