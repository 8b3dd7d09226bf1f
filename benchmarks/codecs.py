"""What fewer bytes cost: `python -m benchmarks.codecs --data DIR --out RUNS`.

The six settings of arXiv 2404.09753, small, by the daemon's defaults in the simulator, once for each codec; text,
splits, batches and steps are the same, so that rows differ in nothing but how updates are written. Each is compared
with `bf16` in the same setting and seed. What is complete in RUNS is not run again, an interrupted simulation goes on.

Bytes are of one update as a neighbour fetches it, key frames counted where they were fetched, so they depend on how
many rounds there are: the first update of a run is a key frame. Perplexity is of two adapters: the personal one after
the last round, whoever is ahead, and the one with the best guard loss, which is what a peer keeps.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import msgspec

from benchmarks.never_worse import SETTINGS, setting_config
from p2pfinetune.codec import CODECS
from p2pfinetune.scoring.difference import worst_tenth
from p2pfinetune.scoring.perplexity import as_change
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.record import RESULT

AGAINST = "bf16"
NAMES = tuple(f"{name}-{mix}" for name, mix in SETTINGS)
ROUNDS, WARMUP_ROUNDS = 8, 1
TEST_TOKENS = 8_000  # of each peer's test split: the same tokens for all codecs, so that few tell them apart
ADAPTERS = ("best", "personal")


@dataclass(frozen=True, slots=True)
class Run:
    """One codec in one setting with one seed."""

    bytes_an_update: float
    losses: Mapping[str, Mapping[str, float]]
    """By adapter and peer, nats a token of the test splits."""


def config_of(setting: str, codec: str, seed: int, data: Path, model: str) -> SimulationConfig:
    """Without a twin, which hears nothing and costs as much as all the rest."""
    name, mix = SETTINGS[NAMES.index(setting)]
    config = setting_config(name, mix, data, seed)
    assert config.setting is not None
    text = msgspec.structs.replace(config.setting, test_tokens=TEST_TOKENS)
    return msgspec.structs.replace(
        config,
        setting=text,
        codec=codec,
        rounds=ROUNDS,
        warmup_rounds=WARMUP_ROUNDS,
        twin=False,
        model=model or config.model,
    )


def folder_of(out: Path, setting: str, codec: str, seed: int) -> Path:
    """Of one run."""
    return out / setting / f"seed-{seed}" / codec


def run(
    out: Path, data: Path, model: str, settings: Sequence[str], codecs: Sequence[str], seeds: Sequence[int]
) -> None:
    """What is missing; a seed after the other, and text is read once for all codecs."""
    from p2pfinetune.simulation.run import simulate

    for seed in seeds:
        for setting in settings:
            for codec in codecs:
                simulate(config_of(setting, codec, seed, data, model), folder_of(out, setting, codec, seed))
                print(f"{codec}, {setting}, seed {seed}: done", file=sys.stderr, flush=True)


def read(folder: Path) -> Run:
    """From `result.json`."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    peers = result["peers"]
    heard = len(peers) * (len(peers) - 1) * (ROUNDS - WARMUP_ROUNDS)
    losses = {which: {name: found["loss"][which] for name, found in peers.items()} for which in ADAPTERS}
    return Run(result["bytes"] / heard, losses)


def complete(out: Path) -> dict[str, dict[str, Run]]:
    """By codec, then by setting and seed: those for which there is also a run to compare with."""
    found: dict[str, dict[str, Run]] = {}
    for path in sorted(out.glob(f"*/seed-*/*/{RESULT}")):
        setting, seed, codec = path.parts[-4:-1]
        if (folder_of(out, setting, AGAINST, int(seed.removeprefix("seed-"))) / RESULT).exists():
            found.setdefault(codec, {})[f"{setting} {seed}"] = read(path.parent)
    return found


def changes(mine: Run, theirs: Run, adapter: str) -> list[float]:
    """Nats a token more than theirs, by peer."""
    return [loss - theirs.losses[adapter][peer] for peer, loss in mine.losses[adapter].items()]


def row(codec: str, runs: Mapping[str, Run], against: Mapping[str, Run]) -> str:
    """Means over settings and seeds, each of the mean over peers; in brackets the standard error."""
    sizes = fmean(found.bytes_an_update for found in runs.values())
    part = sizes / fmean(against[key].bytes_an_update for key in runs)
    cells = [f"`{codec}`", f"{sizes / 1e3:.1f}", f"1/{1 / part:.1f}"]
    for adapter in ADAPTERS:
        by_run = [changes(found, against[key], adapter) for key, found in runs.items()]
        means = [100 * as_change(fmean(one)) for one in by_run]
        error = f" ± {stdev(means) / math.sqrt(len(means)):.2f}" if len(means) > 1 else ""
        cells += [
            f"{fmean(means):+.2f}{error}",
            f"{100 * as_change(worst_tenth([x for one in by_run for x in one])):+.2f}",
        ]
    return f"| {' | '.join((*cells, str(len(runs))))} |"


def table(found: Mapping[str, Mapping[str, Run]]) -> list[str]:
    """A line for each codec, the longest updates first."""
    head = ("codec", "kB an update", f"of {AGAINST}'s")
    head += tuple(f"perplexity of {adapter}, %{of}" for adapter in ADAPTERS for of in ("", ", worst tenth"))
    lines = [f"| {' | '.join((*head, 'runs'))} |", "|---|" + "---:|" * len(head)]
    by_size = sorted(found, key=lambda codec: -fmean(one.bytes_an_update for one in found[codec].values()))
    return lines + [row(codec, found[codec], found[AGAINST]) for codec in by_size]


def main() -> None:
    """Parse the command line, run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the raw text")
    parser.add_argument("--model", default="", help="base model; without, the embedded one")
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--settings", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--codecs", nargs="+", choices=CODECS.names(), help=f"default: all; {AGAINST} is run first")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2], help="none: only the table")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    out, data = options.out.resolve(), options.data.resolve()
    codecs = (AGAINST, *(codec for codec in options.codecs or CODECS.names() if codec != AGAINST))
    run(out, data, options.model, options.settings, codecs, options.seeds)
    print("\n".join(table(complete(out))))


if __name__ == "__main__":
    main()
