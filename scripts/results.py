"""Make docs/reproduction/results.md anew: `python scripts/results.py RUNS`, RUNS being the --out of `reproduce`.

Between `<!-- results: SETTING-MIX MODEL -->` and `<!-- end -->` come the table of that sweep and its pictures, which
are copied beside the page. What stands outside the marks, the commands and what the figures mean, is written by people.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

from p2pfinetune.compare.folders import read_sweep
from p2pfinetune.compare.plots import plot_sweep
from p2pfinetune.compare.summary import summarise
from p2pfinetune.compare.tables import markdown, write_tables

PAGE = Path(__file__).parents[1] / "docs" / "reproduction" / "results.md"
MARK = re.compile(
    r"(?P<begin><!-- results: (?P<setting>[a-z-]+) (?P<model>[\w.-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)
PICTURES = ("bars", "curves", "trust-default")


def main() -> int:
    """Rewrite the page; a sweep that RUNS does not hold keeps the table it has."""
    runs = Path(sys.argv[1])
    PAGE.write_text(MARK.sub(lambda found: found["begin"] + part(runs, found) + found["end"], PAGE.read_text()))
    return 0


def part(runs: Path, found: re.Match[str]) -> str:
    """One sweep's heading, table, remarks and pictures."""
    folder = runs / found["setting"] / found["model"]
    if not any(folder.glob("seed-*/*/result.json")):
        print(f"{folder}: no complete run, left as it is")
        return found["body"]
    summary = summarise(read_sweep(folder))
    write_tables(summary, folder)
    pictures = {path.stem: path for path in plot_sweep(folder)}
    shown = []
    for name in PICTURES:
        if name in pictures:
            target = PAGE.parent / "plots" / f"{found['setting']}-{found['model']}-{name}.png"
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(pictures[name], target)
            shown.append(f"![{name.replace('-', ' ')}](plots/{target.name})")
    return f"\n{markdown(summary)}\n" + "\n".join(shown) + "\n\n"


if __name__ == "__main__":
    sys.exit(main())
