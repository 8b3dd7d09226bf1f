"""What is it worth to keep factors to oneself? `python -m benchmarks.sharing --out RUNS`.

The demo's text and settings in the simulator, in lock-step, with both factors shared, with A alone (FedSA-LoRA), with B
alone (FFA-LoRA), and with devices that hold half of the network's rank, in turn with such that hold all of it; on the
very same text, splits and batches. Each at several learning rates, since what trains half of the numbers may want
another one. What is complete in RUNS is not run again.

Printed: what the served model gains over the better of training alone, mean over peers, in nats a token of text that no
peer has; its perplexity; and the bytes of one update.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec

from benchmarks.never_worse import BOUND, demo_config, over_seeds, say
from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.names import PeerId
from p2pfinetune.simulation.config import AdapterChoice, SimulationConfig
from p2pfinetune.simulation.record import RESULT

if TYPE_CHECKING:
    from peerd.demo.deal import DealtText

PEERS, ROUNDS, STEPS = 4, 4, 10
WARMUP_ROUNDS = 1  # as the demo has it
TEST_TOKENS = 5_000
"""Of each peer, in whole documents: a quarter of the demo's."""
ARMS: Mapping[str, AdapterChoice] = {
    "both": AdapterChoice(),
    "a": AdapterChoice(sharing="a"),
    "b": AdapterChoice(sharing="b"),
    "ranks 4 and 8": AdapterChoice(own_ranks=(4, 8)),
}


def config_of(dealt: list[DealtText], arm: str, rate: float, seed: int) -> SimulationConfig:
    """The demo's, shorter."""
    told = demo_config(dealt, BOUND, seed)
    return msgspec.structs.replace(
        told,
        adapter=ARMS[arm],
        training=msgspec.structs.replace(told.training, lr=rate),
        rounds=ROUNDS,
        warmup_rounds=WARMUP_ROUNDS,
        steps=STEPS,
    )


def shortened(split: TokenSplit) -> TokenSplit:
    """Its first documents."""
    documents = max(1, int((split.starts <= TEST_TOKENS).sum()) - 1)
    return TokenSplit.of([split.document(i) for i in range(documents)])


def run(out: Path, arms: list[str], rates: list[float], seed: int) -> None:
    """Some arms of a seed; the test splits are replaced by text that no peer has, as in the demo."""
    from p2pfinetune.simulation.own_text import population_from_folders
    from p2pfinetune.simulation.run import base_for, simulate
    from peerd.demo.deal import deal_installed
    from peerd.demo.measure import by_source

    dealt = deal_installed(PEERS, out / "text" / f"seed-{seed}", seed)
    base = base_for(config_of(dealt, "both", rates[0], seed))
    tests = {PeerId(share.name): shortened(by_source(base, share.test)[0]) for share in dealt}
    for rate in rates:
        for arm in arms:
            config = config_of(dealt, arm, rate, seed)
            read = population_from_folders(config, base)
            texts = {peer: replace(found, test=tests[peer]) for peer, found in read.texts.items()}
            simulate(config, folder_of(out, arm, rate, seed), population=replace(read, texts=texts))
            say(f"{arm}, rate {rate:g}, seed {seed}: done")


def folder_of(out: Path, arm: str, rate: float, seed: int) -> Path:
    """Of one run."""
    return out / arm.replace(" ", "-") / f"{rate:g}" / f"seed-{seed}"


def of_run(folder: Path) -> tuple[float, float, float]:
    """Gain of served over alone and loss of served, means over peers in nats a token; bytes of an update."""
    result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    peers = result["peers"].values()
    gain = fmean(-peer["against_alone"]["nats"] for peer in peers)
    heard = PEERS * (PEERS - 1) * (ROUNDS - WARMUP_ROUNDS)
    return gain, fmean(peer["loss"]["served"] for peer in peers), result["bytes"] / heard


def table(out: Path, rates: list[float], seeds: list[int]) -> str:
    """One line for each arm and rate."""
    head = ("shared", "rate", "gain over alone, nats (95 % over seeds)", "perplexity served", "kB of an update")
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|"]
    for arm in ARMS:
        for rate in rates:
            folders = [folder_of(out, arm, rate, seed) for seed in seeds]
            found = [of_run(folder) for folder in folders if (folder / RESULT).exists()]
            if not found:
                continue
            gain, reach = over_seeds([one[0] for one in found])
            cells = (
                arm,
                f"{rate:g}",
                f"{gain:.4f} ({gain - reach:.4f} to {gain + reach:.4f})",
                f"{math.exp(fmean(one[1] for one in found)):.2f}",
                f"{fmean(one[2] for one in found) / 1e3:.0f}",
            )
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, run what is missing, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", default=[6e-3])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    options = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    out = options.out.resolve()
    for seed in options.seeds:
        run(out, options.arms, options.rates, seed)
    print(table(out, options.rates, options.seeds))


if __name__ == "__main__":
    main()
