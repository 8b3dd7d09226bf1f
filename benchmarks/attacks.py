"""What attackers do to honest peers, by scheme and defence. `python -m benchmarks.attacks --data DIR`.

Attackers are added to the nine peers of `languages` (three of each kind), so that the same network without them is
known: 1, 2, 4 and 6 of them are 10, 18, 31 and 40 % of all. Of the honest peers, on the test split: perplexity, what is
left of the gain over training alone that the same arm has without attackers, and the share of (peer, seed) pairs that
end more than 0.5 % worse than alone. Complete runs in --out are not run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.reproduce.plan import Task, small
from p2pfinetune.reproduce.schemes import applied
from p2pfinetune.reproduce.summary import better_and_worse, wilson
from p2pfinetune.reproduce.sweep import Told, sweep
from p2pfinetune.simulation.attacks import KINDS, Attack, is_attacker
from p2pfinetune.simulation.config import SettingText, SimulationConfig

ARMS: Mapping[str, Mapping[str, Any]] = {
    "default": {"guarded": True, "public_reference": False},
    "default-unguarded": {"guarded": False, "public_reference": False},
    "validation": {"trust": "validation", "guarded": True},
    "mixture": {"trust": "mixture", "guarded": True},
    "average": {"trust": "uniform", "guarded": False},
    "average-guarded": {"trust": "uniform", "guarded": True},
    "median": {"trust": "uniform", "merge": "coordinate-median", "guarded": False},
    "trimmed": {"trust": "uniform", "merge": "trimmed-mean", "merge_options": {"trimmed": 0.35}, "guarded": False},
    "geometric-median": {"trust": "uniform", "merge": "geometric-median", "guarded": False},
    "krum": {"trust": "uniform", "merge": "krum", "merge_options": {"hostile": 0.4}, "guarded": False},
    "multi-krum": {"trust": "uniform", "merge": "multi-krum", "merge_options": {"hostile": 0.4}, "guarded": False},
    "centred-clipping": {"trust": "uniform", "merge": "centred-clipping", "guarded": False},
    "norm-clipping": {"trust": "uniform", "merge": "norm-clipping", "guarded": False},
    "default-median": {"merge": "coordinate-median", "guarded": True, "public_reference": False},
}
FARMING = "trust-farming"  # honest for half of the merging rounds, then sign flip
ATTACKS: Mapping[str, Attack] = {
    **{kind: Attack(kind=kind) for kind in KINDS},
    FARMING: Attack(kind="sign-flip", strength=5.0, honest_for=4),
}


@dataclass(frozen=True, slots=True)
class Found:
    """One arm under one attack, honest peers only."""

    arm: str
    attack: str
    attackers: int
    perplexity: float
    perplexity_std: float
    kept: float | None
    """Of the gain over local that the arm has without attackers, in nats; none where it gains nothing."""
    worse: float
    worse_interval: tuple[float, float]
    pairs: int


def losses(folder: Path) -> dict[str, float]:
    """Test losses of the honest."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {peer: found["loss"]["best"] for peer, found in result["peers"].items() if not is_attacker(peer)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--setting", choices=["ag-news", "languages", "code-wiki"], default="languages")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=["default", "average", "median"])
    parser.add_argument("--attacks", nargs="+", choices=sorted(ATTACKS), default=sorted(ATTACKS))
    parser.add_argument("--attackers", type=int, nargs="+", default=[4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/attacks"))
    given = parser.parse_args(arguments)

    setting = SettingText(name=given.setting, data=str(given.data))
    start = small(setting, given.model)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    wanted = [("local", "none", 0), *((arm, "none", 0) for arm in given.arms)]
    wanted += [(arm, kind, n) for n in given.attackers for kind in given.attacks for arm in given.arms]
    tasks = [task(start, arm, kind, n, seed) for seed in seeds for arm, kind, n in wanted]
    sweep(tasks, given.out, workers=given.workers, tell=say)
    rows = summarise(given.out, wanted, seeds)
    show(rows)
    (given.out / "attacks.json").write_text(json.dumps([msgspec.to_builtins(row) for row in rows], indent=1) + "\n")
    return 0


def task(start: SimulationConfig, arm: str, kind: str, attackers: int, seed: int) -> Task:
    """One simulation."""
    attack = msgspec.structs.replace(ATTACKS[kind], attackers=attackers) if attackers else Attack()
    config = applied(start, arm) if arm == "local" else msgspec.structs.replace(start, **ARMS[arm])
    config = msgspec.structs.replace(config, seed=seed, attack=attack)
    return Task(config, arm, seed, Path(f"{kind}-{attackers}") / f"seed-{seed}" / arm)


def say(told: Told) -> None:
    """Progress."""
    if told.visits == told.total:
        print(told.task.folder, file=sys.stderr, flush=True)


def summarise(out: Path, wanted: Sequence[tuple[str, str, int]], seeds: range) -> list[Found]:
    """Over seeds."""
    known = {
        (arm, kind, n, seed): losses(out / f"{kind}-{n}" / f"seed-{seed}" / arm)
        for arm, kind, n in wanted
        for seed in seeds
    }
    means = {key: statistics.fmean(found.values()) for key, found in known.items()}
    rows = []
    for arm, kind, n in wanted:
        nats = [means[arm, kind, n, seed] for seed in seeds]
        perplexities = [math.exp(loss) for loss in nats]
        alone = [means["local", "none", 0, seed] for seed in seeds]
        peaceful = statistics.fmean(a - means[arm, "none", 0, seed] for a, seed in zip(alone, seeds, strict=True))
        gain = statistics.fmean(a - loss for a, loss in zip(alone, nats, strict=True))
        pairs = [
            (known["local", "none", 0, seed][peer], loss)
            for seed in seeds
            for peer, loss in known[arm, kind, n, seed].items()
        ]
        _, worse = better_and_worse(pairs)
        rows.append(
            Found(
                arm,
                kind,
                n,
                statistics.fmean(perplexities),
                statistics.stdev(perplexities) if len(perplexities) > 1 else 0.0,
                gain / peaceful if peaceful > 0.0 else None,
                worse / len(pairs),
                wilson(worse, len(pairs)),
                len(pairs),
            )
        )
    return rows


def show(rows: Sequence[Found]) -> None:
    """Markdown."""
    print("| attack | attackers | defence | perplexity of the honest | gain kept | worse than alone [95 %] |")
    print("|---|---:|---|---:|---:|---:|")
    for row in rows:
        kept = "-" if row.kept is None else f"{row.kept:.0%}"
        low, high = row.worse_interval
        print(
            f"| {row.attack} | {row.attackers} | {row.arm} | {row.perplexity:.2f} ± {row.perplexity_std:.2f} "
            f"| {kept} | {row.worse:.0%} [{low:.0%}, {high:.0%}] |"
        )


if __name__ == "__main__":
    sys.exit(main())
