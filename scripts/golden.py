"""Figures that a change of shape must not change: `python scripts/golden.py [--check FILE | --write FILE]`.

Two things are computed, on the embedded base model and text that is made here, so that nothing of the machine goes in:

* *simulations* of six peers with three kinds of text in pairs, by the default trust scheme and two others: every line
  of the metrics and every loss on the test splits, as the public simulator writes them;
* *a round of the demo*, twice over: its own dealing of text, and for each peer the daemon's own jobs, from opening to
  export, by the demo's settings. Losses, rows, verdicts, perplexities, and what the files of one peer look like.

`--check` compares: words, counts and the shape of all values have to be equal, and fractions nearly, since another
processor adds up in another order and training carries that on. If processor and torch are those that the figures
were made on, the bytes of an update and of a checkpoint have to be the same, too. Names in the simulations are those
of its files, which stay; names in the demo are chosen here, whatever the program calls the value.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEED = 5
TOLERANCE = 1e-5  # of a number, and at least of one: differences of losses come out near zero
TOLERANCE_ELSEWHERE = 1e-4  # without AVX-512 some are off by 5e-6

KINDS: Mapping[str, tuple[str, str, str]] = {  # things, what they do, and how
    "harbour": (
        "gull pilot anchor ferry lantern tide sailor rope deck storm captain mast cargo pier net",
        "drifts waits turns sinks sails shines rises creaks calls leaves",
        "slowly at-dawn before-the-rain under-the-bridge with-the-current far-out beyond-the-light in-silence",
    ),
    "market": (
        "baker coin apple basket clerk price bread cart honey cheese seller scale flour letter purse",
        "costs weighs sells opens counts changes closes bargains pays returns",
        "for-a-penny every-morning by-the-dozen without-a-word at-the-corner on-credit before-noon in-the-square",
    ),
    "engine": (
        "valve piston gear boiler pump needle wheel spring wire lever gauge belt crank bolt fuse",
        "spins heats stops leaks hums jams presses cools starts measures",
        "too-fast under-pressure after-repair at-full-load by-itself without-oil in-reverse during-the-test",
    ),
}
QUALITIES = "old new small grey heavy quick second painted narrow empty loud wet patient last broken clean"
JOINTS = ("and then", "because", "while", "so that", "although", "until", "and so", "whenever")
DOCUMENT_CHARACTERS = 700
PEER_BYTES = 24_000

SIMULATIONS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "validation, with a twin, in a ring": {"trust": "validation", "twin": True, "topology": {"kind": "ring"}},
    "uniform, trimmed mean": {"trust": "uniform", "merge": "trimmed-mean"},
}
SIMULATED = {
    "rounds": 3,
    "steps": 4,
    "warmup_rounds": 1,
    "training": {"batch_size": 4, "context": 64, "lr": 6e-3},
    "trust_tokens": 500,
    "guard_tokens": 600,
    "seed": SEED,
}
DEMO_PEERS = (
    "harbour-1",
    "harbour-2",
    "market-1",
    "market-2",
)  # each has a like one: who has none is accepted or refused by a hair
DEMO_ROUNDS = 2


@dataclass(frozen=True, slots=True)
class Golden:
    """What is compared, and the digests of bytes that are the same on one kind of machine alone."""

    figures: Mapping[str, Any]
    made_on: Mapping[str, str]
    bytes_there: Mapping[str, str]


def main() -> int:
    """Print the figures, write them, or compare them with a file; 1 if they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--check", type=Path, metavar="FILE", help="compare with what stands there")
    either.add_argument("--write", type=Path, metavar="FILE", help="replace what stands there")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1]))
    found = as_json(computed())
    if args.check:
        differing, note = compared(json.loads(args.check.read_text(encoding="utf-8")), found)
        print("\n".join([*differing, note, f"{len(differing)} figures differ" if differing else "the same figures"]))
        return 1 if differing else 0
    text = json.dumps(found, indent=1) + "\n"
    if args.write:
        args.write.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    return 0


def computed() -> Golden:
    """All of it, a minute or so of one core."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="golden-") as name:
        scratch = Path(name)
        text = {peer: written(scratch / "text" / peer, documents_of(peer)) for kind in KINDS for peer in peers_of(kind)}
        simulations = {name: simulated(scratch / "runs" / name, text, SIMULATIONS[name]) for name in SIMULATIONS}
        demo, blobs = demo_round(scratch / "demo", {peer: text[peer] for peer in DEMO_PEERS})
    figures = {"text": text_digest(), "simulations": simulations, "demo": demo}
    return Golden(figures, machine(), {name: digest(blob) for name, blob in blobs.items()})


def as_json(golden: Golden) -> dict[str, Any]:
    """As the file holds it."""
    return {"made_on": golden.made_on, "bytes_there": golden.bytes_there, "figures": golden.figures}


def compared(kept: Mapping[str, Any], found: Mapping[str, Any]) -> tuple[list[str], str]:
    """A line for each figure that is not what it was; and what was compared."""
    if kept["made_on"] != found["made_on"]:
        note = "bytes of files are not compared: the figures were made by another processor or torch"
        return list(differences(kept["figures"], found["figures"], TOLERANCE_ELSEWHERE)), note
    return list(differences(kept, found, TOLERANCE)), "bytes of files are compared"


def differences(kept: Any, found: Any, tolerance: float, at: str = "") -> Iterator[str]:
    """A line for every leaf that differs, with the way to it."""
    if isinstance(kept, Mapping) and isinstance(found, Mapping):
        for name in [*kept, *(name for name in found if name not in kept)]:
            there = f"{at} / {name}" if at else str(name)
            if name in kept and name in found:
                yield from differences(kept[name], found[name], tolerance, there)
            else:
                yield f"{there}: {'is gone' if name in kept else 'is new'}"
    elif isinstance(kept, list) and isinstance(found, list) and len(kept) == len(found):
        for number, (one, other) in enumerate(zip(kept, found, strict=True)):
            yield from differences(one, other, tolerance, f"{at} [{number}]")
    elif not is_same(kept, found, tolerance):
        yield f"{at}: was {kept!r}, is {found!r}"


def is_same(kept: Any, found: Any, tolerance: float) -> bool:
    """Only what is a fraction on both sides may differ, and by little."""
    if isinstance(kept, float) and isinstance(found, float):
        return math.isclose(kept, found, rel_tol=tolerance, abs_tol=tolerance)
    return type(kept) is type(found) and bool(kept == found)


def peers_of(kind: str) -> tuple[str, str]:
    """Two of each kind."""
    return f"{kind}-1", f"{kind}-2"


def documents_of(peer: str) -> list[str]:
    """Sentences by dice of its own; two peers of one kind share words and no text."""
    things, verbs, ways = (
        [word.replace("-", " ") for word in words.split()] for words in KINDS[peer.rpartition("-")[0]]
    )
    qualities = QUALITIES.split()
    dice = random.Random(f"golden {SEED} {peer}")
    documents, total = [], 0
    while total < PEER_BYTES:
        document = ""
        while len(document) < DOCUMENT_CHARACTERS:
            one, other = (
                f"the {dice.choice(qualities)} {dice.choice(things)} {dice.choice(verbs)} {dice.choice(ways)}"
                for _ in range(2)
            )
            document += f"{one[0].upper()}{one[1:]}, {dice.choice(JOINTS)} {other}.{dice.choice([' ', chr(10)])}"
        documents.append(document)
        total += len(document)
    return documents


def written(folder: Path, documents: list[str]) -> Path:
    """A file a document."""
    folder.mkdir(parents=True)
    for number, document in enumerate(documents):
        (folder / f"{number:03d}.txt").write_bytes(document.encode())
    return folder


def text_digest() -> str:
    """Of all that is written, whoever's it is."""
    return digest("\0".join(text for kind in KINDS for peer in peers_of(kind) for text in documents_of(peer)).encode())


def simulated(folder: Path, text: Mapping[str, Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """One run from a configuration to its folder, and what stands there but for the time it took."""
    import msgspec

    from p2pfinetune.simulation.config import SimulationConfig
    from p2pfinetune.simulation.run import simulate

    peers = [{"name": peer, "data": [str(path)]} for peer, path in text.items()]
    simulate(msgspec.convert({"peers": peers, **SIMULATED, **options}, SimulationConfig), folder)
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return {
        "population": json.loads((folder / "population.json").read_text(encoding="utf-8")),
        "bytes": result["bytes"],
        "peers": result["peers"],
        "metrics": [json.loads(line) for line in lines],
    }


def demo_round(scratch: Path, text: Mapping[str, Path]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The figures of every peer, and the bytes of the first one's last update and checkpoint."""
    from p2pfinetune.names import PeerId
    from peerd.demo.deal import deal_own
    from peerd.demo.plan import STEPS_PER_ROUND, DemoOptions, Member, config_of

    data = scratch / "data"
    data.mkdir(parents=True)
    for peer, path in text.items():
        path.rename(data / peer)
    dealt, copies = deal_own(data, scratch / "text", SEED)
    members = [
        Member(name=d.name, domain=d.domain, text=d.folder, home=scratch / d.name, peer_id=PeerId(d.name), test=d.test)
        for d in dealt
    ]
    options = DemoOptions(peers=len(members), rounds=DEMO_ROUNDS, seed=SEED)
    daemons = [Daemon(member, config_of(member, members, options, "none", "golden")) for member in members]
    rounds = []
    for number in range(1, DEMO_ROUNDS + 1):
        trained = {daemon.name: daemon.train(number, STEPS_PER_ROUND) for daemon in daemons}
        updates = {daemon.name: daemon.encode() for daemon in daemons}
        merged = {daemon.name: daemon.collaborate(number, updates) for daemon in daemons}
        rounds.append({"trained": trained, "merged": merged})
    first = daemons[0]
    blobs = {"update": updates[first.name].read_bytes(), "checkpoint": first.checkpoint.read_bytes()}
    figures = {
        "left out as near copies": copies,
        "opened": {daemon.name: daemon.opened for daemon in daemons},
        "rounds": rounds,
        "tested": {daemon.name: daemon.tested() for daemon in daemons},
        "says": first.says("The captain waits"),
        "files": {name: layout(blob) for name, blob in blobs.items()},
    }
    return figures, blobs


class Daemon:
    """What the daemon of one peer has its worker do, in this process; the values it gets, by names of this page."""

    def __init__(self, member: Any, config: Any) -> None:

        from peerd.worker.jobs import Jobs
        from peerd.worker.messages import Open

        self.name, self._member, self._codec = member.name, member, config.codec
        self.checkpoint = member.home
        self._jobs = Jobs(lambda _: None, lambda _: None)
        folders = {name: str(member.home / name) for name in ("cache", "scratch")}
        for folder in folders.values():
            Path(folder).mkdir(parents=True)
        opened: Any = self._jobs.perform(
            Open(
                id=0, config=config, splits=str(member.home / "splits"), me=member.peer_id,
                checkpoint=None, best=None, best_guard=None, **folders,
            )
        )  # fmt: skip
        self.opened = {
            "network": opened.network,
            "text": opened.fingerprint,
            "report": [line for line in opened.report if str(member.text) not in line],
            "parameters": [opened.parameters, opened.adapter_parameters],
            "largest update": opened.max_blob_bytes,
            "guard loss of the base": opened.base_guard,
            "twin": opened.twin,
        }

    def train(self, number: int, steps: int) -> dict[str, Any]:
        """The own part of a round."""
        from p2pfinetune.names import Round
        from peerd.worker.messages import TrainSteps

        done: Any = self._jobs.perform(TrainSteps(id=1, round=Round(number), steps=steps))
        return {"steps": done.steps, "tokens": done.tokens, "loss": done.loss_train}

    def encode(self) -> Path:
        """What the others fetch."""
        from peerd.worker.messages import Encode

        done: Any = self._jobs.perform(Encode(id=2, codec=self._codec))
        return Path(done.path)

    def collaborate(self, number: int, updates: Mapping[str, Path]) -> dict[str, Any]:
        """With all others: admit, score, merge, guard."""
        from p2pfinetune.names import PeerId, Round
        from peerd.worker.messages import AdmitUpdate, CollaborateWith, UpdateFile

        others = {peer: str(path) for peer, path in updates.items() if peer != self.name}
        for path in others.values():
            self._jobs.perform(AdmitUpdate(id=3, path=path, codec=self._codec))
        files = [UpdateFile(peer=PeerId(peer), path=path, codec=self._codec) for peer, path in others.items()]
        done: Any = self._jobs.perform(CollaborateWith(id=4, round=Round(number), updates=files))
        self.checkpoint = Path(done.checkpoint)
        return {
            "row": done.row,
            "verdict": done.reason or ("accepted" if done.accepted else "refused"),
            "served": done.served,
            "refused": done.refused,
            "copies": [list(pair) for pair in done.copies],
            "guard": {
                "base": done.figures.guard_base, "own": done.figures.guard_own, "personal": done.figures.guard_personal,
                "twin": done.figures.guard_twin, "best": done.best_guard,
            },
            "trust": done.figures.loss_trust,
        }  # fmt: skip

    def tested(self) -> dict[str, Any]:
        """As the demo ends: the exported models on text that no peer has."""
        from p2pfinetune.model.base import load_base
        from p2pfinetune.scoring.perplexity import perplexity
        from peerd.demo.measure import MEASURED, measured
        from peerd.demo.plan import MODEL
        from peerd.worker.messages import Export

        exports = self._member.home / "exports"
        for which in MEASURED:
            self._jobs.perform(Export(id=5, folder=str(exports / which), which=which))
        found = measured(load_base(MODEL, device="cpu"), self._member.test, exports)
        losses = {"base": found.base, "served": found.served, "alone": found.alone}
        return {
            "tokens": found.tokens,
            "loss": losses,
            "perplexity": {name: perplexity(loss) for name, loss in losses.items()},
            "served less alone": found.against_alone.nats,
        }

    def says(self, prompt: str) -> list[str]:
        """The likeliest words of the base and the personal model."""
        from peerd.worker.messages import Generate

        done: Any = self._jobs.perform(Generate(id=6, prompt=prompt, max_tokens=12, temperature=0.0, seed=0))
        return [done.base, done.personal]


def layout(blob: bytes) -> dict[str, Any]:
    """How long a file is, and which tensors and values stand in it under which names; not what they are."""
    length = int.from_bytes(blob[:8], "little")
    head = json.loads(blob[8 : 8 + length])
    values = json.loads(head.pop("__metadata__", {}).get("peerd", "{}")).get("values", {})
    tensors = sorted(f"{name} {tensor['dtype']} {tensor['shape']}" for name, tensor in head.items())
    return {
        "bytes of tensors": len(blob) - 8 - length,
        "tensors": digest("\n".join(tensors).encode()),
        "values": sorted(values),
    }


def digest(content: bytes) -> str:
    """Of bytes."""
    return hashlib.sha256(content).hexdigest()[:32]


def machine() -> dict[str, str]:
    """What decides in which order numbers are added up."""
    import torch

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = [platform.processor()]
    said = sorted({line for line in lines if line.startswith(("model", "cpu family", "stepping", "flags"))})
    masks = {name: os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "MKL_ENABLE_INSTRUCTIONS")}
    return {
        "processor": digest("\n".join([platform.machine(), *said]).encode()),
        "used of it": " ".join([torch.backends.cpu.get_cpu_capability(), *filter(None, masks.values())]),
        "torch": str(torch.__version__),
    }


if __name__ == "__main__":
    sys.exit(main())
