"""Run folders as a simulation leaves them, written by hand: figures that tests choose."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

CATEGORIES = ("de", "fr")
PEERS = ("de-1", "de-2", "fr-1", "fr-2")


def population(peers: Sequence[str], categories: Sequence[str]) -> dict[str, Any]:
    def shares(peer: str) -> list[float]:
        return [float(peer.startswith(category)) for category in categories]

    tokens = {"train": 12_000, "trust": 1000, "guard": 1500, "test": 2000}
    return {
        "categories": list(categories),
        "peers": {peer: {"shares": shares(peer), "tokens": tokens} for peer in peers},
    }


def round_line(
    number: int, peer: str, guard: float, row: Mapping[str, float] | None, accepted: bool, local: float | None
) -> dict[str, Any]:
    heard = {other: number for other in row or {} if other != peer}
    return {
        "round": number,
        "time": float(number),
        "peer": peer,
        "loss_train": guard - 0.1,
        "loss_trust": guard,
        "guard_own": guard + 0.01,
        "guard_personal": guard,
        "guard_local": local,
        "best_guard": guard,
        "accepted": accepted,
        "reason": None if accepted else "guard",
        "heard": heard,
        "row": None if row is None else dict(row),
        "bytes_in": 1000 * len(heard),
        "bytes_out": 1000,
    }


@pytest.fixture
def write_run() -> Callable[..., Path]:
    """Writes one run folder: `best` gives each peer's test loss, None leaves the run incomplete."""

    def write(
        folder: Path,
        best: Sequence[float] | None,
        *,
        own: float | None = None,
        rounds: int = 8,
        peers: Sequence[str] = PEERS,
        categories: Sequence[str] = CATEGORIES,
        refused: frozenset[tuple[int, str]] = frozenset(),
        twin: Sequence[float] | None = None,
        noise: float = 0.0,
        floor: float = 3.0,
    ) -> Path:
        dice = random.Random(str(folder.name))
        folder.mkdir(parents=True)
        (folder / "population.json").write_text(json.dumps(population(peers, categories)))
        (folder / "config.toml").write_text("")
        lines = []
        for number in range(1, rounds + 1):
            for i, peer in enumerate(peers):
                end = best[i] if best is not None else floor
                guard = end + 1.2 * math.exp(-number / 3) + dice.gauss(0, noise)
                row = None
                if own is not None and number > 2:
                    kin = [p for p in peers if p.split("-")[0] == peer.split("-")[0] and p != peer]
                    row = dict.fromkeys(peers, 0.0) | {peer: own} | {p: (1 - own) / len(kin) for p in kin}
                local = None if twin is None else twin[i] + 1.2 * math.exp(-number / 3)
                lines.append(round_line(number, peer, guard, row, (number, peer) not in refused, local))
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if best is not None:
            losses = {
                peer: {
                    "tokens": 2000,
                    "loss": {
                        "base": loss + 1.5,
                        "personal": loss + 0.02,
                        "best": loss,
                        "local": None if twin is None else twin[i] + 0.03,
                        "local_best": None if twin is None else twin[i],
                    },
                }
                for i, (peer, loss) in enumerate(zip(peers, best, strict=True))
            }
            document = {"schema_version": 1, "seconds": 12.5, "bytes": 4_000_000, "peers": losses}
            (folder / "result.json").write_text(json.dumps(document))
        return folder

    return write


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    """Where a sweep of languages specific on nano lies."""
    return tmp_path / "languages-specific" / "nano"
