"""The folder of one simulation: config, metrics, checkpoints while it runs, and its result. Nothing here computes.

docs/how-to/simulate.md describes the files. A line of metrics counts once the checkpoint behind it is complete, so an
interrupted run goes on with exactly the lines that its checkpoint knows.

    config.toml       what was asked; a folder of another config is not written to
    population.json   who holds how much of what
    metrics.jsonl     a line for each visit, in the order of the timetable
    state             the last whole checkpoint, as long as there is no result
    result.json       what came of it, written last: its presence says that the run is complete
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from p2pfinetune.data.population import Population
from p2pfinetune.errors import CheckpointError, OptionError
from p2pfinetune.simulation.config import SimulationConfig, dump_config, load_config
from p2pfinetune.system.durable import write_whole

SCHEMA_VERSION = 1
CONFIG, POPULATION, METRICS, RESULT, STATE = "config.toml", "population.json", "metrics.jsonl", "result.json", "state"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come."""

    waves: int = 0
    seconds: float = 0.0
    total_bytes: int = 0


class RunFolder:
    """One run's folder, opened for writing."""

    def __init__(self, path: Path, config: SimulationConfig, *, fresh: bool = False) -> None:
        self.path, self._config = path, config
        if fresh:
            self._clear()
        elif (path / CONFIG).exists() and load_config(path / CONFIG) != config:
            raise OptionError(
                f"{path} holds a run with another configuration", "choose another --out, or overwrite it with --fresh"
            )
        path.mkdir(parents=True, exist_ok=True)
        (path / CONFIG).write_text(dump_config(config), encoding="utf-8")

    @property
    def is_complete(self) -> bool:
        """There is a result."""
        return (self.path / RESULT).exists()

    def describe(self, population: Population) -> None:
        """Write who holds what."""
        peers = {
            peer: {"shares": list(population.shares.get(peer, ())), "tokens": population.tokens(peer)}
            for peer in population.peers
        }
        _write_json(self.path / POPULATION, {"categories": list(population.categories), "peers": peers})

    def append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Add lines of metrics."""
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)

    def checkpoint(self, position: Position, save: Callable[[Path], None]) -> None:
        """Write all that `save` writes beside the last checkpoint, then put it in its place."""
        scratch, old = self.path / f"{STATE}.part", self.path / f"{STATE}.old"
        for leftover in (scratch, old):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch.mkdir()
        save(scratch)
        size = (self.path / METRICS).stat().st_size if (self.path / METRICS).exists() else 0
        values = {"waves": position.waves, "seconds": position.seconds, "bytes": position.total_bytes, "metrics": size}
        _write_json(scratch / "position.json", values)
        if (self.path / STATE).exists():
            (self.path / STATE).rename(old)
        scratch.rename(self.path / STATE)
        shutil.rmtree(old, ignore_errors=True)

    def resume(self, restore: Callable[[Path], None]) -> Position:
        """Go back to the last checkpoint, or to the beginning if there is none."""
        state, old = self.path / STATE, self.path / f"{STATE}.old"
        if not state.exists() and old.exists():  # interrupted between two renames
            old.rename(state)
        if not state.exists():
            (self.path / METRICS).unlink(missing_ok=True)
            return Position()
        try:
            values = json.loads((state / "position.json").read_text(encoding="utf-8"))
            position = Position(int(values["waves"]), float(values["seconds"]), int(values["bytes"]))
            if (self.path / METRICS).exists():
                with (self.path / METRICS).open("r+b") as file:
                    file.truncate(int(values["metrics"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{state} cannot be gone on from: {error}", "start anew with --fresh") from error
        restore(state)
        return position

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write the result and remove the checkpoint."""
        _write_json(self.path / RESULT, {"schema_version": SCHEMA_VERSION, **result})
        for leftover in (STATE, f"{STATE}.part", f"{STATE}.old"):
            shutil.rmtree(self.path / leftover, ignore_errors=True)

    def _clear(self) -> None:
        """Remove what a run writes, and nothing else that may lie there."""
        for name in (CONFIG, POPULATION, METRICS, RESULT):
            (self.path / name).unlink(missing_ok=True)
        for name in (STATE, f"{STATE}.part", f"{STATE}.old"):
            shutil.rmtree(self.path / name, ignore_errors=True)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_whole(path, f"{json.dumps(value, indent=1)}\n".encode(), mode=None)
