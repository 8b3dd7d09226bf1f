"""Reading what simulations left behind: run folders, and the sweep folders they stand in. It computes nothing.

In Ditto (a config with `twin_pull`) what a peer goes on to use is the twin: there it stands as the personal adapter.
With `serve = "mixture"` it is what is served, which is no checkpoint: that stands for the one with the best guard loss.
A sweep is OUT/<setting>-<mix>/<model>/seed-<k>/<scheme>/; each innermost folder is the run folder of one simulation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.errors import RunError
from p2pfinetune.names import PeerId, Round, Serve
from p2pfinetune.scoring.perplexity import MAX_LOSS

SEED = re.compile(r"seed-(\d+)")
MIXES = ("specific", "mixed")


class PeerShape(msgspec.Struct, frozen=True, kw_only=True):
    """What one peer held."""

    shares: tuple[float, ...]
    """The declared part of each category."""
    tokens: dict[str, int]
    """By split."""


class PopulationShape(msgspec.Struct, frozen=True, kw_only=True):
    """`population.json`."""

    categories: tuple[str, ...]
    peers: dict[PeerId, PeerShape]


class RoundLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line of `metrics.jsonl`: one round of one peer. Losses are nats a token; null if one was not measured."""

    round: Round
    peer: PeerId
    guard_own: float | None = None
    guard_personal: float | None = None
    guard_local: float | None = None
    accepted: bool = False
    reason: str | None = None
    row: dict[PeerId, float] | None = None

    @property
    def guard(self) -> float | None:
        """Of the model that the peer goes on with."""
        return self.guard_own if self.guard_personal is None else self.guard_personal

    @property
    def is_merge(self) -> bool:
        """Whether anybody else was listened to."""
        return self.row is not None and any(w > 0 for peer, w in self.row.items() if peer != self.peer)


class SplitLosses(msgspec.Struct, frozen=True, kw_only=True):
    """Of one peer on its test split, in nats a token."""

    base: float | None = None
    personal: float | None = None
    """The last adapter."""
    best: float | None = None
    """The checkpoint with the best guard loss."""
    served: float | None = None
    """What the peer would be given: of the two and the twin, by guard loss."""
    local: float | None = None
    local_best: float | None = None


class PeerResult(msgspec.Struct, frozen=True, kw_only=True):
    """One peer in `result.json`."""

    tokens: int
    loss: SplitLosses
    documents: dict[str, tuple[tuple[float, int], ...]] = {}
    """Of `best` and `local_best`, and `served` if it may be a mixture: nats and tokens of each document of the test
    split; of older runs nothing."""


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """`result.json`."""

    seconds: float
    bytes: int
    peak_bytes: int | None = None
    """Of the process that ran all peers; null if the system does not say, or of an older run."""
    peers: dict[PeerId, PeerResult]


class _Chosen(msgspec.Struct, frozen=True):
    """What of `config.toml` changes how figures are read."""

    twin_pull: float = 0.0
    serve: Serve = "adapter"


@dataclass(frozen=True, slots=True)
class Run:
    """One finished or unfinished simulation."""

    population: PopulationShape
    lines: tuple[RoundLine, ...]
    result: RunResult | None
    """None until the run is complete."""

    @property
    def peers(self) -> tuple[PeerId, ...]:
        """In the order of matrices and plots."""
        return tuple(self.population.peers)


@dataclass(frozen=True, slots=True)
class Sweep:
    """All runs of one setting and model, complete or not."""

    setting: str
    mix: str
    model: str
    runs: Mapping[tuple[int, str], Run]
    """By seed and scheme, in the order of seeds and names."""
    unreadable: tuple[str, ...] = ()
    """Folders that hold no run yet."""


def read_run(folder: Path) -> Run:
    """Raises RunError if the folder is not one of a simulation."""
    try:
        config = folder / "config.toml"
        chosen = msgspec.toml.decode(config.read_bytes(), type=_Chosen) if config.exists() else _Chosen()
        population = msgspec.convert(_json((folder / "population.json").read_bytes()), PopulationShape)
        metrics, result = folder / "metrics.jsonl", folder / "result.json"
        lines = tuple(_lines(metrics)) if metrics.exists() else ()
        done = msgspec.convert(_json(result.read_bytes()), RunResult) if result.exists() else None
    except OSError as error:
        raise RunError(f"{folder} is not the folder of a simulation: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError) as error:
        raise RunError(f"a file of {folder} does not have the form of a simulation's: {error}") from error
    if chosen.twin_pull > 0:
        return Run(population, tuple(map(_line_of_twin, lines)), done and _result_of_twin(done))
    if chosen.serve == "mixture":
        return Run(population, lines, done and _result_as_served(done))
    return Run(population, lines, done)


def _json(text: bytes) -> Any:
    """With the bound of losses for NaN and infinities, which Python writes although JSON has none."""
    return json.loads(text, parse_constant=lambda _: MAX_LOSS)


def _lines(path: Path) -> Iterator[RoundLine]:
    """Whole lines only: the last one of a run that was killed may be cut off."""
    for line in path.read_bytes().split(b"\n")[:-1]:
        yield msgspec.convert(_json(line), RoundLine)


def _line_of_twin(line: RoundLine) -> RoundLine:
    return msgspec.structs.replace(line, guard_personal=line.guard_local, guard_local=None)


def _result_of_twin(result: RunResult) -> RunResult:
    def turned(found: PeerResult) -> PeerResult:
        loss = found.loss
        return PeerResult(
            tokens=found.tokens,
            loss=SplitLosses(base=loss.base, personal=loss.local, best=loss.local_best),
            documents={"best": found.documents["local_best"]} if "local_best" in found.documents else {},
        )

    return msgspec.structs.replace(result, peers={peer: turned(found) for peer, found in result.peers.items()})


def _result_as_served(result: RunResult) -> RunResult:
    def given(found: PeerResult) -> PeerResult:
        documents = dict(found.documents)
        if "served" in documents:
            documents["best"] = documents.pop("served")
        loss = msgspec.structs.replace(found.loss, best=found.loss.served)
        return msgspec.structs.replace(found, loss=loss, documents=documents)

    return msgspec.structs.replace(result, peers={peer: given(found) for peer, found in result.peers.items()})


def read_sweep(folder: Path) -> Sweep:
    """OUT/<setting>-<mix>/<model>/ with everything below it. Raises RunError if no run lies there."""
    setting, _, mix = folder.absolute().parent.name.rpartition("-")
    if mix not in MIXES:
        setting, mix = folder.absolute().parent.name, ""
    runs: dict[tuple[int, str], Run] = {}
    unreadable = []
    for seed, path in _run_folders(folder):
        if (path / "population.json").exists():
            runs[seed, path.name] = read_run(path)
        else:
            unreadable.append(f"seed-{seed}/{path.name}")
    if not runs:
        raise RunError(f"no run lies in {folder}", "a sweep holds folders like seed-0/validation")
    return Sweep(setting, mix, folder.absolute().name, runs, tuple(unreadable))


def _run_folders(folder: Path) -> list[tuple[int, Path]]:
    found = []
    for above in folder.iterdir() if folder.is_dir() else ():
        if above.is_dir() and (match := SEED.fullmatch(above.name)):
            found += [(int(match[1]), path) for path in above.iterdir() if path.is_dir()]
    return sorted(found)
