"""Make docs/reproduction/attacks.md anew: `python scripts/attacks.py RUNS`, the --out of `benchmarks.attacks`.

With names of tables behind RUNS, only these are made anew, and no picture is drawn.
Between `<!-- attacks: NAME -->` and `<!-- end -->` comes the table of that name; pictures are drawn beside the page.
What stands outside the marks is written by people.
"""

from __future__ import annotations

import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.attacks import ALONE, Found, report, table

PAGE = Path(__file__).parents[1] / "docs" / "reproduction" / "attacks.md"
MARK = re.compile(r"(?P<begin><!-- attacks: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL)
TELLING = ("none", "sign-flip", "shadow", "collude")
GOAL = 0.8  # of the gain without attackers
CHOSEN: Mapping[str, Callable[[Found], bool]] = {
    "default": lambda r: r.case.scenario == "full" and r.case.arm == "default" and r.case.attackers in {0, 4},
    "defences": lambda r: (
        r.case == ALONE or (r.case.scenario == "full" and r.case.attack in TELLING and r.case.attackers in {0, 4})
    ),
    "shares": lambda r: r.case.scenario == "full" and r.case.arm == "default" and r.case.attackers in {1, 2, 6},
    "phrases": lambda r: r.case.scenario == "two-kinds",
    "ring": lambda r: r.case.scenario == "ring",
    "surrounded": lambda r: r.case.scenario == "surrounded",
}


def main() -> int:
    """Rewrite the page; a table without a run stays as it is."""
    rows, named = report(Path(sys.argv[1])), sys.argv[2:]
    text = PAGE.read_text(encoding="utf-8")
    made = MARK.sub(lambda found: part(rows, found) if found["name"] in (named or CHOSEN) else found[0], text)
    PAGE.write_text(made, encoding="utf-8")
    if named:
        return 0
    plots = PAGE.parent / "plots"
    kept_by_attack([row for row in rows if CHOSEN["default"](row)], plots / "attacks-default.png")
    by_defence([row for row in rows if CHOSEN["defences"](row)], plots / "attacks-defences.png")
    return 0


def part(rows: Sequence[Found], found: re.Match[str]) -> str:
    """One table."""
    chosen = [row for row in rows if CHOSEN[found["name"]](row)]
    return found["begin"] + "\n" + "\n".join(table(chosen)) + "\n\n" + found["end"] if chosen else found[0]


def kept_by_attack(rows: Sequence[Found], path: Path) -> None:
    """Bars of the mean, a dot a seed."""
    from matplotlib.figure import Figure

    shown = sorted((row for row in rows if row.kept), key=lambda row: statistics.fmean(row.kept))
    figure = Figure(figsize=(7, 0.3 * len(shown) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(range(len(shown)), [statistics.fmean(row.kept) for row in shown], color="#9bb8d3")
    for place, row in enumerate(shown):
        axes.plot(row.kept, [place] * len(row.kept), "k.", markersize=4)
    axes.axvline(GOAL, color="#b03030", linewidth=1)
    axes.set_yticks(range(len(shown)), [row.case.attack for row in shown])
    axes.set_xlabel("of the gain without attackers; dots are seeds, the line is the aim")
    figure.savefig(path, dpi=110)


def by_defence(rows: Sequence[Found], path: Path) -> None:
    """Perplexity of the honest, a group a defence."""
    from matplotlib.figure import Figure

    alone = next((row.perplexity for row in rows if row.case == ALONE), None)
    arms = list(dict.fromkeys(row.case.arm for row in rows if row.case != ALONE))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, attack in enumerate(TELLING):
        known = {row.case.arm: row for row in rows if row.case.attack == attack and row.case != ALONE}
        places = [place + 0.2 * (number - 1.5) for place, arm in enumerate(arms) if arm in known]
        chosen = [known[arm] for arm in arms if arm in known]
        spread = [row.perplexity_std for row in chosen]
        axes.bar(places, [row.perplexity for row in chosen], 0.2, yerr=spread, label=attack, color=f"C{number}")
    if alone is not None:
        axes.axhline(alone, color="k", linewidth=1, linestyle=":", label="training alone")
    axes.set_xticks(range(len(arms)), arms, rotation=30, ha="right")
    axes.set_ylabel("test perplexity of the honest")
    axes.set_ylim(bottom=0.8 * min((row.perplexity for row in rows), default=1.0))
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
