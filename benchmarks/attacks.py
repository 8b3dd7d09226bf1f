"""What attackers do to honest peers, by scheme and defence. `python -m benchmarks.attacks --data DIR`.

Attackers are added to the nine peers of `languages` (three of each kind), so that the same network without them is
known: 1, 2, 4 and 6 of them are 10, 18, 31 and 40 % of all. Scenarios: everybody hears everybody (full); a ring of five
honest peers in a row and ten attackers, where each honest peer has an honest majority, itself counted (ring); nobody
hears anybody honest (surrounded); the six peers of two kinds, to see a phrase spread (two-kinds). Of the honest peers,
on the test split: perplexity, what is left of the gain over training alone that the same arm has without attackers, and
the share of (peer, seed) pairs that end more than 0.5 % worse than alone. Complete
runs in --out are not run again; --report shows what is there.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.compare.plan import Task, small
from p2pfinetune.compare.schemes import applied
from p2pfinetune.compare.summary import better_and_worse, wilson
from p2pfinetune.compare.sweep import Told, sweep
from p2pfinetune.simulation.config import SettingText, SimulationConfig
from p2pfinetune.simulation.hostile.attacks import KINDS, PHRASED, Attack, is_attacker
from p2pfinetune.simulation.topology import Topology

ARMS: Mapping[str, Mapping[str, Any]] = {
    "default": {"guarded": True, "public_reference": False},
    "one-look": {"guarded": True, "public_reference": False, "second_look": False},
    "unguarded": {"guarded": False, "public_reference": False},
    "validation": {"trust": "validation", "guarded": True},
    "weight-similarity": {"trust": "weight-similarity", "guarded": True},
    "mixture": {"trust": "mixture", "guarded": True},
    "unbounded": {"guarded": True, "public_reference": False, "max_share": 1.0},
    "unbounded-mixture": {"trust": "mixture", "trust_options": {"own": 0.0}, "guarded": True, "max_share": 1.0},
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
LOCAL = "local"
PEACE = "none"
FARMING = "trust-farming"  # honest for half of the merging rounds, then sign flip
ATTACKS: Mapping[str, Attack] = {
    **{kind: Attack(kind=kind) for kind in KINDS},
    FARMING: Attack(kind="sign-flip", strength=5.0, honest_for=4),
}
SOME: Mapping[str, tuple[str, ...]] = {
    "two-kinds": ("fr-1", "fr-2", "fr-3", "de-1", "de-2", "de-3"),
    "ring": ("fr-1", "fr-2", "fr-3", "de-1", "de-2"),
}
"""Honest peers of scenarios that do without some."""
SCENARIOS = ("full", "two-kinds", "ring", "surrounded")


@dataclass(frozen=True, slots=True)
class Case:
    """What was tried, over seeds."""

    arm: str
    attack: str
    attackers: int
    scenario: str = "full"

    @property
    def folder(self) -> str:
        """Of its seeds."""
        return ("" if self.scenario == "full" else f"{self.scenario}-") + f"{self.attack}-{self.attackers}"

    @property
    def peaceful(self) -> Case:
        """The same network without attackers."""
        attack = "backdoor" if self.attack in PHRASED else PEACE  # its peaceful models are probed, too
        return Case(self.arm, attack, 0, self.scenario)


ALONE = Case(LOCAL, PEACE, 0)


@dataclass(frozen=True, slots=True)
class Found:
    """One case, honest peers only."""

    case: Case
    seeds: list[int]
    perplexity: float
    perplexity_std: float
    kept: list[float]
    """By seed, of the gain over local that the arm has without attackers, in nats; empty where it gains nothing."""
    gain: float
    """Over local, in nats a token."""
    worse: int
    pairs: int
    target: float | None
    """Probability of a token of the backdoor's target, behind the trigger."""
    refused: float
    """Part of the merges that the guard refused."""
    trusted: float
    """Mean weight of all attackers together in the rows of the merges that were kept."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attacks", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--data", type=Path)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--setting", choices=["ag-news", "languages", "code-wiki"], default="languages")
    parser.add_argument("--scenario", choices=SCENARIOS, default="full")
    parser.add_argument("--arms", nargs="+", choices=sorted(ARMS), default=["default", "average", "median"])
    parser.add_argument("--attacks", nargs="*", choices=sorted(ATTACKS), default=sorted(ATTACKS))
    parser.add_argument("--attackers", type=int, nargs="+", default=[4])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/attacks"))
    parser.add_argument("--report", action="store_true", help="run nothing, show every complete run in --out")
    given = parser.parse_args(arguments)

    if not given.report:
        if given.data is None:
            parser.error("--data is needed to run anything")
        start = shorter(small(SettingText(name=given.setting, data=str(given.data)), given.model))
        seeds = range(given.first_seed, given.first_seed + given.seeds)
        attacked = [
            Case(arm, kind, n, given.scenario) for n in given.attackers for kind in given.attacks for arm in given.arms
        ]
        wanted = dict.fromkeys([ALONE, *(c.peaceful for c in attacked if c.scenario != "surrounded"), *attacked])
        sweep(
            [task(start, case, seed) for seed in seeds for case in wanted], given.out, workers=given.workers, tell=say
        )
    rows = report(given.out)
    show(rows)
    (given.out / "attacks.json").write_text(json.dumps([msgspec.to_builtins(row) for row in rows], indent=1) + "\n")
    return 0


def shorter(config: SimulationConfig) -> SimulationConfig:
    """Half of the training and five merges: there are many runs."""
    return msgspec.structs.replace(config, rounds=7, steps=8)


def task(start: SimulationConfig, case: Case, seed: int) -> Task:
    """One simulation."""
    attack = msgspec.structs.replace(
        ATTACKS.get(case.attack, Attack()), attackers=case.attackers, surround=case.scenario == "surrounded"
    )
    config = applied(start, LOCAL) if case.arm == LOCAL else msgspec.structs.replace(start, **ARMS[case.arm])
    if case.scenario in SOME:
        setting = msgspec.structs.replace(start.setting, peers=SOME[case.scenario])
        config = msgspec.structs.replace(config, setting=setting)
    if case.scenario == "ring":
        config = msgspec.structs.replace(config, topology=Topology(kind="ring"))
    config = msgspec.structs.replace(config, seed=seed, attack=attack)
    return Task(config, case.arm, seed, Path(case.folder) / f"seed-{seed}" / case.arm)


def say(told: Told) -> None:
    """Progress."""
    if told.visits == told.total:
        print(told.task.folder, file=sys.stderr, flush=True)


def report(out: Path) -> list[Found]:
    """Every case that has a complete run beside one of training alone with the same seed."""
    runs: dict[Case, dict[int, Path]] = {}
    for path in sorted(out.glob("*/seed-*/*/result.json")):
        runs.setdefault(_case(path.parents[2].name, path.parent.name), {})[int(path.parents[1].name[5:])] = path.parent
    alone = {seed: losses(folder) for seed, folder in runs.get(ALONE, {}).items()}
    peaceful = {case: {seed: losses(folder) for seed, folder in seeds.items()} for case, seeds in runs.items()}
    cases = sorted(runs, key=lambda c: (SCENARIOS.index(c.scenario), c.arm, c.attackers, c.attack))
    found = [_found(case, runs[case], alone, peaceful.get(case.peaceful, {})) for case in cases]
    return [row for row in found if row is not None]


def _case(name: str, arm: str) -> Case:
    scenario = next((s for s in SCENARIOS if name.startswith(f"{s}-")), "full")
    attack, _, attackers = name.removeprefix(f"{scenario}-").rpartition("-")
    return Case(arm, attack, int(attackers), scenario)


def losses(folder: Path) -> dict[str, float]:
    """Test losses of the honest."""
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {peer: found["loss"]["best"] for peer, found in result["peers"].items() if not is_attacker(peer)}


def _found(
    case: Case,
    folders: Mapping[int, Path],
    alone: Mapping[int, Mapping[str, float]],
    peaceful: Mapping[int, Mapping[str, float]],
) -> Found | None:
    ended = {seed: losses(folder) for seed, folder in folders.items() if seed in alone}
    if not ended:
        return None
    nats = {seed: statistics.fmean(found.values()) for seed, found in ended.items()}
    gains = {s: statistics.fmean(alone[s][peer] - loss for peer, loss in found.items()) for s, found in ended.items()}
    possible = {
        s: statistics.fmean(alone[s][peer] - loss for peer, loss in peaceful[s].items()) for s in gains if s in peaceful
    }
    pairs = [(alone[seed][peer], loss) for seed, found in ended.items() for peer, loss in found.items()]
    perplexities = [math.exp(loss) for loss in nats.values()]
    merges = [line for seed in ended for line in _merges(folders[seed])]
    targets = [p for seed in ended for p in _targets(folders[seed])]
    return Found(
        case=case,
        seeds=sorted(ended),
        perplexity=statistics.fmean(perplexities),
        perplexity_std=statistics.stdev(perplexities) if len(perplexities) > 1 else 0.0,
        kept=[gains[s] / possible[s] for s in sorted(possible) if possible[s] > 0.0 and case.attackers],
        gain=statistics.fmean(gains.values()),
        worse=better_and_worse(pairs)[1],
        pairs=len(pairs),
        target=statistics.fmean(targets) if targets else None,
        refused=_share(not line["accepted"] for line in merges),
        trusted=_mean(sum(w for p, w in line["row"].items() if is_attacker(p)) for line in merges if line["accepted"]),
    )


def _merges(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["heard"] and not is_attacker(line["peer"])]


def _targets(folder: Path) -> list[float]:
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return [math.exp(-found["target"]["best"]) for found in result["peers"].values() if "target" in found]


def _share(values: Iterable[bool]) -> float:
    return _mean(float(value) for value in values)


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return statistics.fmean(known) if known else 0.0


def show(rows: Sequence[Found]) -> None:
    """Markdown."""
    for scenario in SCENARIOS:
        if chosen := [row for row in rows if row.case.scenario == scenario]:
            print(f"\n{scenario}\n")
            print("\n".join(table(chosen)))


COLUMNS = (
    "defence", "attack", "attackers", "seeds", "perplexity of the honest", "gain kept", "worse than alone [95 %]",
    "weight of attackers", "refused", "target",
)  # fmt: skip


def table(rows: Sequence[Found]) -> list[str]:
    """Lines of Markdown."""
    lines = [
        f"| {' | '.join(COLUMNS)} |",
        f"|---|---|{'---:|' * (len(COLUMNS) - 2)}",
    ]
    for row in rows:
        low, high = wilson(row.worse, row.pairs)
        lines.append(
            f"| {row.case.arm} | {row.case.attack} | {row.case.attackers} | {len(row.seeds)} "
            f"| {row.perplexity:.2f}{f' ± {row.perplexity_std:.2f}' if len(row.seeds) > 1 else ''} | {kept(row)} "
            f"| {row.worse} of {row.pairs} [{low:.0%}, {high:.0%}] | {row.trusted:.2f} | {row.refused:.0%} "
            f"| {'-' if row.target is None else f'{row.target:.4f}'} |"
        )
    return lines


def kept(row: Found) -> str:
    """Mean and range over seeds."""
    if not row.kept:
        return "-"
    spread = f" ({min(row.kept):.0%} to {max(row.kept):.0%})" if len(row.kept) > 1 else ""
    return f"{statistics.fmean(row.kept):.0%}{spread}"


if __name__ == "__main__":
    sys.exit(main())
