"""Which trust scheme helps peers of three languages? `python -m benchmarks.languages --data DIR --seeds 3`.

Two peers each hold French, German and Italian sentences of DIR/wikineural (Wikipedia; neighbouring lines are no
article). All train the same base for the same steps on the same text; only whom they merge with differs. The measure is
the loss of the personal model on the own test split, in nats a token, averaged over peers; the spread is the standard
deviation over seeds, where a seed draws the sentences, the splits and the order of training.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import multiprocessing
import random
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from p2pfinetune.data.documents import Document, normalise
from p2pfinetune.data.partition import deal, write_folder
from p2pfinetune.names import PeerId, Refusal
from p2pfinetune.system import interpreter

if TYPE_CHECKING:
    from p2pfinetune.data.corpus import Corpus
    from p2pfinetune.model.base import Base
    from p2pfinetune.round.learner import Learner

LANGUAGES = ("fr", "de", "it")
PEERS_EACH = 2
SENTENCES = 10  # a document: about a kilobyte, so that a small share still has dozens to deal into splits
POOL = 1.3  # times the text that is dealt is drawn, since near-duplicates are taken out
CODEC = "bf16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The experiment."""

    data: Path
    model: str = "nano"
    schemes: tuple[str, ...] = ("local", "uniform", "validation", "prediction-similarity")
    share_bytes: int = 24_000  # little enough that text, and not the number of steps, is what a peer lacks
    rounds: int = 6
    warmup_rounds: int = 1
    steps: int = 8
    batch_size: int = 4
    context: int = 128
    lr: float = 4e-3  # all steps together are few
    merge: str = "factor-mean"


@dataclass(frozen=True, slots=True)
class Result:
    """One scheme with one seed; losses in nats a token by peer, weights averaged over the rounds that merged."""

    scheme: str
    seed: int
    base: dict[str, float]
    personal: dict[str, float]
    weight_on_own_language: dict[str, float]
    """Of what a peer gives to others, the part that goes to those of its language; by chance 0.2."""
    refused_merges: int

    @property
    def mean(self) -> float:
        """Mean loss of the personal models."""
        return statistics.fmean(self.personal.values())


def documents_of(path: Path, count_bytes: float, seed: int) -> list[Document]:
    """Documents of SENTENCES lines each, drawn without replacement from a file of sentences."""
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    random.Random(seed).shuffle(lines)
    documents: list[Document] = []
    total = 0
    for begin in range(0, len(lines), SENTENCES):
        if total > count_bytes:
            break
        text = normalise("\n".join(lines[begin : begin + SENTENCES]))
        documents.append(Document.of(text, f"{path.stem} {begin}"))
        total += len(text.encode())
    return documents


def corpora(plan: Plan, base: Base, seed: int, scratch: Path) -> dict[PeerId, Corpus]:
    """The text of every peer, called `fr-1`, `fr-2`, `de-1` ..."""
    from p2pfinetune.data.corpus import prepare

    found: dict[PeerId, Corpus] = {}
    for language in LANGUAGES:
        pool = documents_of(plan.data / "wikineural" / f"{language}.txt", POOL * PEERS_EACH * plan.share_bytes, seed)
        for number, share in enumerate(deal(pool, shares=PEERS_EACH, share_bytes=plan.share_bytes, seed=seed), 1):
            peer = PeerId(f"{language}-{number}")
            folder = write_folder(scratch / peer, share).parent
            found[peer] = prepare(
                [folder],
                base.tokenizer,
                tokenizer_digest=base.tokenizer_digest,
                cache=scratch / "tokens",
                context=plan.context,
                salt=f"{seed} {peer}",
            )
    return found


def learners(plan: Plan, base: Base, texts: Mapping[PeerId, Corpus], scheme: str, seed: int) -> dict[PeerId, Learner]:
    """One learner for each peer, all on one copy of the base."""
    from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
    from p2pfinetune.round.learner import Learner

    training = TrainingOptions(
        lr=plan.lr,
        batch_size=plan.batch_size,
        context=plan.context,
        total_steps=plan.rounds * plan.steps,
        seed=seed,
    )
    options = LearnerOptions(spec=AdapterSpec(), training=training, trust=scheme, merge=plan.merge)
    return {peer: Learner(base, text, options, me=peer, group="languages") for peer, text in texts.items()}


def run(plan: Plan, scheme: str, seed: int) -> Result:
    """All rounds of one scheme: everyone trains, then everyone merges what all had after training."""
    import torch

    from p2pfinetune.model.base import load_base

    torch.set_num_threads(1)
    base = load_base(plan.model, device="cpu")
    with tempfile.TemporaryDirectory() as scratch:
        peers = learners(plan, base, corpora(plan, base, seed, Path(scratch)), scheme, seed)
        weights: dict[PeerId, list[float]] = {peer: [] for peer in peers}
        refused = 0
        for number in range(1, plan.rounds + 1):
            guards = []
            for peer, row, accepted, guard in one_round(plan, peers, is_merging=number > plan.warmup_rounds):
                weights[peer] += own_language(peer, row)
                refused += not accepted
                guards.append(guard)
            say(f"seed {seed}  {scheme}: round {number}/{plan.rounds}, mean guard loss {statistics.fmean(guards):.4f}")
        return Result(
            scheme=scheme,
            seed=seed,
            base={peer: learner.evaluate("test", "base").loss for peer, learner in peers.items()},
            personal={peer: learner.evaluate("test", "personal").loss for peer, learner in peers.items()},
            weight_on_own_language={peer: statistics.fmean(found) for peer, found in weights.items() if found},
            refused_merges=refused,
        )


def one_round(
    plan: Plan, peers: Mapping[PeerId, Learner], *, is_merging: bool
) -> list[tuple[PeerId, Mapping[PeerId, float], bool, float]]:
    """Train, exchange, merge at once; each peer with its trust row, whether it kept the merge, and its guard loss."""
    for learner in peers.values():
        learner.train(plan.steps)
    blobs = {peer: learner.encode(CODEC) for peer, learner in peers.items()} if is_merging else {}
    ended = []
    for me, learner in peers.items():
        admitted = {peer: learner.admit(blob, CODEC) for peer, blob in blobs.items() if peer != me}
        updates = {peer: update for peer, update in admitted.items() if not isinstance(update, Refusal)}
        done = learner.collaborate(updates)
        ended.append((me, done.row.weights, done.accepted, done.figures.guard_personal))
    return ended


def own_language(me: PeerId, row: Mapping[PeerId, float]) -> list[float]:
    """Of the weight given to others, the part on the own language; nothing where all weight stayed at home."""
    others = {peer: weight for peer, weight in row.items() if peer != me}
    total = math.fsum(others.values())
    same = math.fsum(weight for peer, weight in others.items() if peer[:2] == me[:2])
    return [same / total] if total > 0 else []


def say(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def run_all(plan: Plan, seeds: Sequence[int], workers: int) -> list[Result]:
    """Every scheme with every seed, some at a time, each in a process of its own."""
    tasks = [(scheme, seed) for seed in seeds for scheme in plan.schemes]
    interpreter.guard_children()
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures = [pool.submit(run, plan, scheme, seed) for scheme, seed in tasks]
        results = []
        for done, future in enumerate(futures, start=1):
            results.append(future.result())
            say(f"{done} of {len(tasks)} runs done: {results[-1].scheme}, seed {results[-1].seed}")
    return results


def differences(results: Sequence[Result], scheme: str, baseline: str) -> list[float]:
    """For each seed, the mean over peers of the baseline's loss minus the scheme's: above zero the scheme is better."""
    by_seed = {result.seed: result.mean for result in results if result.scheme == baseline}
    return [by_seed[result.seed] - result.mean for result in results if result.scheme == scheme]


def table(results: Sequence[Result]) -> str:
    """A line a scheme: mean loss and spread over seeds, perplexity, gain over `local`, weight on the own language."""
    schemes = list(dict.fromkeys(result.scheme for result in results))
    base = statistics.fmean(loss for result in results for loss in result.base.values())
    lines = [
        f"{'scheme':<24}{'test loss':>18}{'perplexity':>12}{'gain over local':>20}{'own language':>14}{'refused':>9}",
        f"{'(base)':<24}{base:>18.4f}{math.exp(base):>12.2f}",
    ]
    for scheme in schemes:
        mine = [result for result in results if result.scheme == scheme]
        means = [result.mean for result in mine]
        gain = spread(differences(results, scheme, "local")) if "local" in schemes else ""
        own = [weight for result in mine for weight in result.weight_on_own_language.values()]
        lines.append(
            f"{scheme:<24}{spread(means):>18}{math.exp(statistics.fmean(means)):>12.2f}{gain:>20}"
            f"{(f'{statistics.fmean(own):.2f}' if own else '-'):>14}{sum(r.refused_merges for r in mine):>9}"
        )
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation over seeds."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.4f} +- {deviation:.4f}"


def main() -> None:
    """Parse the command line, run, print, and write the figures."""
    plan = Plan(data=Path())
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds wikineural/")
    parser.add_argument("--model", default=plan.model, help="base model: a name or folder")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--schemes", nargs="+", default=plan.schemes)
    parser.add_argument("--rounds", type=int, default=plan.rounds)
    parser.add_argument("--steps", type=int, default=plan.steps, help="optimizer steps a round")
    parser.add_argument("--share-bytes", type=int, default=plan.share_bytes, help="text of each peer")
    parser.add_argument("--merge", default=plan.merge)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--out", type=Path, default=Path("languages.json"), help="where the figures go")
    options = parser.parse_args()
    chosen = {name: getattr(options, name) for name in ("data", "model", "rounds", "steps", "share_bytes", "merge")}
    plan = replace(plan, schemes=tuple(options.schemes), **chosen)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    results = run_all(plan, seeds, options.workers)
    print(table(results))
    document = {"plan": asdict(plan) | {"data": str(plan.data)}, "results": [asdict(result) for result in results]}
    options.out.write_text(json.dumps(document, indent=1), encoding="utf-8")
    say(f"figures in {options.out}")


if __name__ == "__main__":
    main()
