"""Peers that hold one base in fp32, train it in bf16, or hold it in 8 and 4 bits: what they gain from one another.

`python -m benchmarks.mixed_bases`: each peer has another share of the same kind of text, found in the installed
packages, and a twin that trains alone with the same seed, batches and steps on the base as that peer holds it. After
some rounds both are measured on the peer's test split, by the base as it holds it. A gain is how much better the
personal model is than the better of the twin at its end and at its best, in nats a token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from p2pfinetune.data import partition
from p2pfinetune.data.corpus import Corpus, prepare
from p2pfinetune.model.base import Base, load_base
from p2pfinetune.names import PeerId
from p2pfinetune.options import AdapterSpec, LearnerOptions, TrainingOptions
from p2pfinetune.round.learner import Learner
from p2pfinetune.round.update import LoraUpdate
from peerd.demo.deal import short_documents

HELD = ("fp32", "bf16", "8bit", "4bit")
KIND = "python"
SHARE_BYTES = 24_000
STEPS, CODEC = 8, "bf16"
TRAINING = TrainingOptions(lr=4e-3, batch_size=4, context=128)


@dataclass(frozen=True, slots=True)
class Found:
    """One peer with one seed; losses in nats a token on its test split."""

    held: str
    seed: int
    base: float
    alone: float
    personal: float
    merges: int
    """That were taken."""

    @property
    def gain(self) -> float:
        """Positive if the neighbours brought something."""
        return self.alone - self.personal


def base_held(held: str) -> Base:
    """The embedded model as that peer holds it."""
    if held == "bf16":
        return replace(load_base("nano", device="cpu"), precision="bf16")
    return load_base("nano", device="cpu", quantize="none" if held == "fp32" else held)  # type: ignore[arg-type]


def corpora(base: Base, held: Sequence[str], seed: int, scratch: Path) -> dict[str, Corpus]:
    """A share of the text for each."""
    shares = partition.deal(short_documents(KIND), shares=len(held), share_bytes=SHARE_BYTES, seed=seed)
    found = {}
    for name, share in zip(held, shares, strict=True):
        folder = partition.write_folder(scratch / name, share).parent
        found[name] = prepare(
            [folder], base.tokenizer, tokenizer_digest=base.tokenizer_digest, cache=scratch / "tokens",
            context=TRAINING.context, salt=f"{seed} {name}",
        )  # fmt: skip
    return found


def run(held: Sequence[str], seed: int, rounds: int) -> list[Found]:
    """All rounds with one seed; AssertionError if the peers are not of one network."""
    bases = {name: base_held(name) for name in held}
    with tempfile.TemporaryDirectory() as scratch:
        texts = corpora(bases[held[0]], held, seed, Path(scratch))
        peers = {PeerId(name): learner(bases[name], text, name, seed) for name, text in texts.items()}
        assert len({one.network for one in peers.values()}) == 1
        merges = dict.fromkeys(peers, 0)
        for number in range(rounds):
            for one in peers.values():
                one.train(STEPS)
            said = {peer: one.encode(CODEC) for peer, one in peers.items()}
            for peer, one in peers.items() if number else ():
                merges[peer] += one.collaborate(heard(one, peer, said)).accepted
        return [result(one, str(peer), seed, merges[peer]) for peer, one in peers.items()]


def learner(base: Base, text: Corpus, name: str, seed: int) -> Learner:
    """With a twin."""
    options = LearnerOptions(spec=AdapterSpec(), training=TRAINING, twin=True)
    return Learner(base, text, options, me=PeerId(name), group=f"mixed {seed}")


def heard(one: Learner, me: PeerId, said: Mapping[PeerId, bytes]) -> dict[PeerId, LoraUpdate]:
    """What the others published, as this one admits it."""
    found = {peer: one.admit(blob, CODEC) for peer, blob in said.items() if peer != me}
    return {peer: update for peer, update in found.items() if isinstance(update, LoraUpdate)}


def result(one: Learner, name: str, seed: int, merges: int) -> Found:
    """Measured on the test split."""
    loss = {which: one.evaluate("test", which).loss for which in ("base", "local", "local_best", "personal")}
    return Found(name, seed, loss["base"], min(loss["local"], loss["local_best"]), loss["personal"], merges)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table, write it as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mixed_bases", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--held", nargs="+", default=list(HELD), choices=HELD)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("reports/mixed_bases.json"))
    given = parser.parse_args(arguments)

    torch.set_num_threads(1)
    found = [one for seed in range(given.seeds) for one in run(given.held, seed, given.rounds)]
    print("held    base    alone   personal   gain by seed, nats a token")
    for name in given.held:
        own = [one for one in found if one.held == name]
        base, alone, personal = (
            statistics.fmean(getattr(one, w) for one in own) for w in ("base", "alone", "personal")
        )
        gains = ", ".join(f"{one.gain:+.4f}" for one in own)
        print(f"{name:6} {base:.4f}  {alone:.4f}  {personal:.4f}    {gains}")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
