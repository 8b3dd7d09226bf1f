"""How much text does a validation row need? `python -m benchmarks.row_sampling --data DIR`.

The paper's code scores each adapter on 12 batches of 50 x 512 tokens. Here the peers of one setting learn with rows
measured on the whole of a large trust split, and on a few thousand tokens of it, everything else being equal, and what
they end with on the test split is compared. `benchmarks.validation_row` says what a row of each size costs.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import torch

from p2pfinetune.compare.plan import small
from p2pfinetune.compare.schemes import applied
from p2pfinetune.data.population import Population
from p2pfinetune.data.token_cache import TokenSplit
from p2pfinetune.paper.populations import populate
from p2pfinetune.simulation.config import SettingText
from p2pfinetune.simulation.run import base_of, simulate

TRAIN, GUARD, TEST = 12_000, 1_143, 8_192  # tokens a peer: those of the small settings, and a larger test split


def cut(split: TokenSplit, tokens: int) -> TokenSplit:
    """The first documents, up to so many tokens."""
    documents, left = [], tokens
    for i in range(split.documents):
        if left <= 0:
            break
        documents.append(np.array(split.document(i)[:left]))
        left -= len(documents[-1])
    return TokenSplit.of(documents)


def with_large_trust_split(large: Population) -> Population:
    """Trust splits as they are, everything else small."""
    texts = {
        peer: replace(
            corpus, train=cut(corpus.train, TRAIN), guard=cut(corpus.guard, GUARD), test=cut(corpus.test, TEST)
        )
        for peer, corpus in large.texts.items()
    }
    return replace(large, texts=texts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.row_sampling", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--setting", choices=["ag-news", "languages", "code-wiki"], default="ag-news")
    parser.add_argument("--scale", type=float, default=0.25, help="of the paper's text: 80,000 tokens of trust split")
    parser.add_argument("--tokens", type=int, nargs="+", default=[0, 4096, 1024], help="of a row; 0: the whole split")
    parser.add_argument("--scheme", default="validation")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/row_sampling.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(1)
    base = base_of(given.model, "cpu")
    setting = SettingText(name=given.setting, data=str(given.data), scale=given.scale)
    found: dict[int, list[float]] = {tokens: [] for tokens in given.tokens}
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        large = populate(given.setting, "specific", base=base, data=given.data, scale=given.scale, seed=seed)
        world = with_large_trust_split(large)
        held = statistics.fmean(len(corpus.trust.tokens) for corpus in world.texts.values())
        for tokens in given.tokens:
            config = applied(msgspec.structs.replace(small(setting, given.model), seed=seed), given.scheme)
            config = msgspec.structs.replace(config, trust_tokens=tokens)
            with tempfile.TemporaryDirectory() as folder:
                done = simulate(config, Path(folder), population=world)
                result = json.loads((done / "result.json").read_text(encoding="utf-8"))
            found[tokens].append(statistics.fmean(peer["loss"]["best"] for peer in result["peers"].values()))
            print(
                f"seed {seed}, rows on {tokens or round(held):,} tokens: perplexity {math.exp(found[tokens][-1]):.3f}",
                file=sys.stderr,
                flush=True,
            )
    whole = found[given.tokens[0]]
    print(f"{given.setting}, {given.scheme}, perplexity on the test split by the tokens of a row, {given.seeds} seeds")
    for tokens, losses in found.items():
        differences = [100 * (math.exp(loss - other) - 1) for loss, other in zip(losses, whole, strict=True)]
        print(
            f"{tokens or 'whole split':>12}  {statistics.fmean(map(math.exp, losses)):8.3f}"
            f"   {statistics.fmean(differences):+.2f} % ({min(differences):+.2f} to {max(differences):+.2f})"
        )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
