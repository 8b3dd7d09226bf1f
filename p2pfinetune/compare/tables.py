"""A summary as Markdown, CSV and JSON. It formats; every figure is computed in `summary`.

The lowest perplexity is bold. Above the table stand seeds and tokens, below it what is missing and why: a figure that
could not be computed is a dash, and never a blank or a zero.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.compare.summary import SchemeSummary, Summary, rank

NOTHING = "-"
HEADINGS = (
    "scheme",
    "test perplexity",
    "worst tenth",
    "last adapter",
    "gain over local, nats",
    "gap closed",
    "better than local",
    "worse than local [95 %]",
    "clearly better / worse",
    "worst tenth against local",
    "own category",
    "refused",
    "MB",
    "s",
    "MB of memory",
)
NAME_COLUMNS = 1  # stand to the left; figures to the right


def rows(summary: Summary) -> list[list[str]]:
    """The cells below `HEADINGS`."""
    return [_cells(scheme, summary) for scheme in summary.schemes]


def best(summary: Summary) -> str | None:
    """The scheme with the lowest mean perplexity; None if nothing is complete."""
    found = min(summary.schemes, key=lambda scheme: scheme.perplexity_mean, default=None)
    return found.name if found else None


def markdown(summary: Summary) -> str:
    """Heading, table with the lowest perplexity in bold, and what a reader needs to know beside it."""
    lines = [f"### {title(summary)}", "", *notes(summary), ""]
    lines += ["| " + " | ".join(HEADINGS) + " |"]
    lines += ["|" + "|".join("---" if i < NAME_COLUMNS else "---:" for i in range(len(HEADINGS))) + "|"]
    winner = best(summary)
    for cells in rows(summary):
        if cells[0].split(" ")[0] == winner:
            cells[1] = f"**{cells[1]}**"
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    lines += ["", *(f"- {sentence}" for sentence in remarks(summary))]
    return "\n".join(lines).rstrip() + "\n"


def ablation_markdown(what: str, summaries: Mapping[str, Summary]) -> str:
    """Test perplexity by value (a row) and scheme (a column); in each row the lowest in bold."""
    schemes = sorted({scheme.name for summary in summaries.values() for scheme in summary.schemes}, key=rank)
    first = next(iter(summaries.values()), None)
    heading = f"{first.setting} {first.mix}: test perplexity by {what}".replace(" :", ":") if first else what
    lines = [f"### {heading}", "", "| " + " | ".join((what, *schemes)) + " |"]
    lines.append("|---|" + "---:|" * len(schemes))
    for name, summary in summaries.items():
        by_name = {scheme.name: scheme for scheme in summary.schemes}
        cells = [_perplexity(by_name[scheme]) if scheme in by_name else NOTHING for scheme in schemes]
        winner = best(summary)
        cells = [f"**{cell}**" if scheme == winner else cell for scheme, cell in zip(schemes, cells, strict=True)]
        lines.append("| " + " | ".join((name.removeprefix(f"{what}-"), *cells)) + " |")
    return "\n".join(lines) + "\n"


def title(summary: Summary) -> str:
    """What was compared."""
    return f"{summary.setting} {summary.mix}, {summary.model}".replace("  ", " ").replace(" ,", ",")


def notes(summary: Summary) -> list[str]:
    """Seeds and text, in a sentence each."""
    seeds = ", ".join(map(str, summary.seeds)) or "none complete"
    tokens = ", ".join(
        f"{split} {spread.mean:,.0f} ({spread.min:,} to {spread.max:,})"
        for split, spread in summary.tokens_per_peer.items()
    )
    return [f"Seeds: {seeds}. Tokens a peer: {tokens}."]


def remarks(summary: Summary) -> list[str]:
    """What the table leaves out."""
    said = []
    reasons = {scheme.gap_closed_absent for scheme in summary.schemes if scheme.gap_closed_absent}
    said += [f"No share of the gap closed: {reason}." for reason in sorted(reasons)]
    said += [
        f"{scheme.name} has seeds {', '.join(map(str, scheme.seeds))} only."
        for scheme in summary.schemes
        if scheme.seeds != summary.seeds
    ]
    if summary.missing:
        said.append(f"Not complete and not counted: {', '.join(summary.missing)}.")
    return said


def as_csv(summary: Summary) -> str:
    """Every figure in full, a line a scheme."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    plain = [_flat(msgspec.to_builtins(scheme)) for scheme in summary.schemes]
    names = list(plain[0]) if plain else ["name"]
    writer.writerow(["setting", "mix", "model", *names])
    for cells in plain:
        writer.writerow([summary.setting, summary.mix, summary.model, *(cells[name] for name in names)])
    return out.getvalue()


def as_json(summary: Summary) -> bytes:
    """Every figure in full."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def write_tables(summary: Summary, folder: Path) -> tuple[Path, ...]:
    """`summary.md`, `summary.csv` and `summary.json`."""
    texts = {"md": markdown(summary).encode(), "csv": as_csv(summary).encode(), "json": as_json(summary)}
    paths = {suffix: folder / f"summary.{suffix}" for suffix in texts}
    for suffix, path in paths.items():
        path.write_bytes(texts[suffix])
    return tuple(paths.values())


def _cells(scheme: SchemeSummary, summary: Summary) -> list[str]:
    low, high = scheme.worse_than_local_interval or (0.0, 0.0)
    worse = NOTHING if scheme.worse_than_local is None else f"{_share(scheme.worse_than_local)} [{low:.0%}, {high:.0%}]"
    gain = "" if scheme.gain_nats_mean is None else f"{scheme.gain_nats_mean:+.4f}"
    return [
        scheme.name if scheme.seeds == summary.seeds else f"{scheme.name} ({len(scheme.seeds)} seeds)",
        _perplexity(scheme),
        f"{scheme.worst_tenth_perplexity:.2f}",
        NOTHING if scheme.last_perplexity_mean is None else f"{scheme.last_perplexity_mean:.2f}",
        _with_spread(gain, scheme.gain_nats_std, ".4f"),
        _closed(scheme),
        _share(scheme.better_than_local),
        worse,
        NOTHING
        if scheme.clearly_better is None or scheme.clearly_worse is None
        else f"{_share(scheme.clearly_better)} / {_share(scheme.clearly_worse)}",
        NOTHING if scheme.worst_tenth_change is None else f"{100 * scheme.worst_tenth_change:+.1f} %",
        _own_category(scheme),
        f"{scheme.merges_refused} of {scheme.merges}" if scheme.merges else NOTHING,
        f"{scheme.bytes / 1e6:.1f}",
        f"{scheme.seconds:,.0f}",
        NOTHING if scheme.peak_bytes is None else f"{scheme.peak_bytes / 1e6:,.0f}",
    ]


def _perplexity(scheme: SchemeSummary) -> str:
    return _with_spread(f"{scheme.perplexity_mean:.2f}", scheme.perplexity_std, ".2f")


def _closed(scheme: SchemeSummary) -> str:
    if scheme.gap_closed is None:
        return NOTHING
    spread = "" if scheme.gap_closed_std is None else f" ± {100 * scheme.gap_closed_std:.0f}"
    return f"{100 * scheme.gap_closed:.0f}{spread} %"


def _own_category(scheme: SchemeSummary) -> str:
    if scheme.own_category_trust is None or scheme.own_category_by_chance is None:
        return NOTHING
    return f"{scheme.own_category_trust:.0%} (chance {scheme.own_category_by_chance:.0%})"


def _with_spread(value: str, std: float | None, form: str) -> str:
    return value or NOTHING if std is None or not value else f"{value} ± {std:{form}}"


def _share(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.0%}"


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    """Lists as text with blanks, an interval as two columns, null as nothing."""
    cells: dict[str, Any] = {}
    for name, value in plain.items():
        if name.endswith("_interval"):
            low, high = value or (None, None)
            cells |= {f"{name}_low": _blank(low), f"{name}_high": _blank(high)}
        else:
            cells[name] = " ".join(map(str, value)) if isinstance(value, Sequence) and not _is_text(value) else value
            cells[name] = _blank(cells[name])
    return cells


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _blank(value: Any) -> Any:
    return "" if value is None else value
