"""Carry out one simulation: `simulate(config, folder)`. Interrupt it at any time; the same call goes on.

The loop follows the timetable and keeps what may still be heard. Every CHECKPOINT_SECONDS it writes all that the rest
depends on; a line of metrics counts once the checkpoint behind it is complete, so lines written after it
are cut off when a run goes on, and written again with the same numbers.

The one file of the simulation, beside engines on other machines, that looks at a clock.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from p2pfinetune.data.population import Population
from p2pfinetune.errors import OptionError
from p2pfinetune.model.base import Base, choose_device, load_base
from p2pfinetune.model.memory import Quantize
from p2pfinetune.model.precision import Precision, quicker, settled
from p2pfinetune.model.processor import missing
from p2pfinetune.names import PeerId, Round
from p2pfinetune.simulation.config import SimulationConfig, load_config
from p2pfinetune.simulation.engine import Engine, Key, LocalEngine, Size
from p2pfinetune.simulation.hostile.attacks import is_attacker, surrounded, with_attackers
from p2pfinetune.simulation.record import CONFIG, Position, RunFolder
from p2pfinetune.simulation.shard import Tested
from p2pfinetune.simulation.timetable import Visit, Wave, timetable
from p2pfinetune.simulation.topology import neighbours
from p2pfinetune.system import peak_memory
from p2pfinetune.training.step_times import step_times
from p2pfinetune.training.trainers import chosen_kind

CHECKPOINT_SECONDS = 20.0  # at most so much is lost by an interruption, beside the wave that was running


@dataclass(frozen=True, slots=True)
class SimulationProgress:
    """How far a simulation is."""

    visits: int
    total: int
    guard_loss: float
    """Mean of the last wave."""


MakeEngine = Callable[[SimulationConfig, Population, Base], Engine]


def simulate(
    config: SimulationConfig,
    folder: Path,
    *,
    make_engine: MakeEngine = LocalEngine,
    on_progress: Callable[[SimulationProgress], None] | None = None,
    fresh: bool = False,
    population: Population | None = None,
) -> Path:
    """Run to the end, or go on where an interrupted run of the same config stopped; returns the folder.

    `population` spares reading the text if a caller has it already: that of `population_of` for this very config.
    Raises OptionError if the folder holds a run of another config, TextError if there is too little text.
    """
    config = in_one_precision(config, folder, fresh=fresh)
    record = RunFolder(folder, config, fresh=fresh)
    if record.is_complete:
        return folder
    base = base_for(config)
    population = with_attackers(population or population_of(config), config.attack, config.seed)
    _check(config, population)
    record.describe(population)
    graph = neighbours(config.topology, population.peers, config.seed)
    if config.attack.surround:
        graph = surrounded(graph)
    waves = timetable(population.peers, graph, config.rounds, config.timing, config.churn, config.seed)
    if config.newcomers:
        waves = (*waves, *lived_again(waves, config.rounds))
    run = _Simulation(config, population, make_engine(config, population, base), record, waves)
    run.go(on_progress)
    return folder


def in_one_precision(config: SimulationConfig, folder: Path, *, fresh: bool) -> SimulationConfig:
    """With `auto` replaced by what the folder's run began in, or else by what is quicker on this machine."""
    if config.precision == "auto" and not fresh and (folder / CONFIG).exists():
        return msgspec.structs.replace(config, precision=load_config(folder / CONFIG).precision)
    device = choose_device(config.device)
    chosen = settled(config.precision, device.type, missing(device), None)
    if chosen is None:
        peer, text = next(iter(population_of(config).texts.items()))
        options, base, clock = config.learner_options(peer), base_for(config), time.process_time
        chosen = quicker(step_times(base, text.train, options.training, options.spec, clock, chosen_kind(options)))
    return msgspec.structs.replace(config, precision=chosen.precision)


@lru_cache(maxsize=2)
def base_of(model: str, device: str, precision: Precision = "fp32", quantize: Quantize = "none") -> Base:
    """The base, once for all simulations of this process."""
    if precision != "fp32" and (same := base_of(model, device, quantize=quantize)).device.type == "cpu":
        return replace(same, precision=precision)  # the weights are no others there
    return load_base(model, device=device, precision=precision, quantize=quantize)


def base_for(config: SimulationConfig) -> Base:
    """That of a simulation whose precision is settled; in fp32 if it is not."""
    precision: Precision = "bf16" if config.precision == "bf16" else "fp32"
    base = base_of(config.model, config.device, precision, "none" if config.quantize == "auto" else config.quantize)
    return replace(base, checkpointing=True) if config.checkpointing == "on" else base


def population_of(config: SimulationConfig) -> Population:
    """The text of a simulation, once for all simulations of this process with the same text."""
    key = config.text_digest()
    if key not in _populations:
        while len(_populations) >= MOST_POPULATIONS:
            _populations.pop(next(iter(_populations)))
        _populations[key] = _populate(config)
    return _populations[key]


MOST_POPULATIONS = 3
_populations: dict[str, Population] = {}


def _populate(config: SimulationConfig) -> Population:
    base = base_for(config)
    if config.setting is not None:
        from p2pfinetune.paper.populations import populate

        chosen = config.setting
        found = populate(
            chosen.name, chosen.mix, base=base, data=Path(chosen.data), scale=chosen.scale, seed=config.seed,
            test_tokens=chosen.test_tokens,
        )  # fmt: skip
        return found.of([PeerId(name) for name in chosen.peers]) if chosen.peers else found
    from p2pfinetune.simulation.own_text import population_from_folders

    return population_from_folders(config, base)


def _check(config: SimulationConfig, population: Population) -> None:
    if config.trust == "oracle" and not all(population.shares.get(peer) for peer in population.peers):
        raise OptionError("trust scheme 'oracle' needs the shares of every peer", "declare them under [[peers]]")


def lived_again(waves: Sequence[Wave], rounds: int) -> tuple[Wave, ...]:
    """The same rounds once more behind the others, nobody heard: what newcomers do once they have assembled."""
    last = max(visit.time for wave in waves for visit in wave)
    return tuple(
        tuple(replace(v, round=Round(v.round + rounds), time=v.time + last, hears={}) for v in wave) for wave in waves
    )


class _Simulation:
    """One simulation on its way through the timetable."""

    def __init__(
        self,
        config: SimulationConfig,
        population: Population,
        engine: Engine,
        record: RunFolder,
        waves: tuple[Wave, ...],
    ) -> None:
        self._population, self._engine, self._record = population, engine, record
        self._waves = tuple(tuple(_as_configured(visit, config) for visit in wave) for wave in waves)
        self._at_work = {peer for peer in population.peers if config.attack.learns or not is_attacker(peer)}
        self._traffic = _Traffic(self._waves)
        self._first_of_newcomers = 1 + len(waves) // 2 if config.newcomers else 0
        self._held: dict[Key, Any] = {}
        self._bytes = 0

    def go(self, on_progress: Callable[[SimulationProgress], None] | None) -> None:
        """From the last checkpoint to the result."""
        peak_memory.forget()
        position = self._record.resume(self._restore)
        self._bytes = position.total_bytes
        began, saved = time.monotonic() - position.seconds, time.monotonic()
        total = sum(map(len, self._waves))
        done = sum(map(len, self._waves[: position.waves]))
        for number, wave in enumerate(self._waves[position.waves :], start=position.waves + 1):
            lines = self._one_wave(number, wave)
            self._record.append(lines)
            done += len(wave)
            if on_progress is not None:
                on_progress(SimulationProgress(done, total, statistics.fmean(line["guard_personal"] for line in lines)))
            if time.monotonic() - saved > CHECKPOINT_SECONDS and number < len(self._waves):
                here = Position(number, time.monotonic() - began, self._bytes)
                self._record.checkpoint(here, lambda path: self._engine.save(path, self._held))
                saved = time.monotonic()
        tested = self._engine.test([peer for peer in self._population.peers if not is_attacker(peer)])
        peers = {peer: _entry(found) for peer, found in tested.items()}
        seconds = round(time.monotonic() - began, 3)
        self._record.finish(
            {"seconds": seconds, "bytes": self._bytes, "peak_bytes": peak_memory.reached(), "peers": peers}
        )

    def _restore(self, folder: Path) -> None:
        self._held = self._engine.restore(folder)

    def _one_wave(self, number: int, wave: Wave) -> list[dict[str, Any]]:
        """`number` counts waves from 1."""
        if number == self._first_of_newcomers:
            self._bytes += self._engine.assemble()
        working = tuple(visit for visit in wave if visit.peer in self._at_work)
        self._engine.train([visit.peer for visit in working])
        heard = [visit for visit in wave if self._traffic.listeners.get((visit.peer, visit.round))]
        handles = self._engine.publish([visit.peer for visit in heard])
        self._held |= {(visit.peer, visit.round): handles[visit.peer] for visit in heard}
        sizes = {key: self._engine.size_of(handle) for key, handle in self._held.items()}
        lines = self._engine.merge(working, self._held)
        for visit, line in zip(working, lines, strict=True):
            key = (visit.peer, visit.round)
            line["bytes_in"] = sum(
                self._traffic.cost(said, sizes[said], had) for said, had in self._traffic.fetched[key]
            )
            line["bytes_out"] = sum(
                self._traffic.cost(key, sizes[key], had) for had in self._traffic.listeners.get(key, ())
            )
            self._bytes += line["bytes_in"]
        self._held = {key: handle for key, handle in self._held.items() if self._traffic.last_use[key] > number}
        return lines


def _entry(found: Tested) -> dict[str, Any]:
    entry: dict[str, Any] = {"tokens": found.tokens, "loss": dict(found.loss)}
    entry["documents"] = {
        which: [[round(nats, 4), tokens] for nats, tokens in documents]
        for which, documents in found.documents.items()
        if all(math.isfinite(nats) for nats, _ in documents)
    }
    if (seen := found.against_alone) is not None and math.isfinite(seen.standard_error + seen.nats):
        low, high = seen.interval
        entry["against_alone"] = {"nats": seen.nats, "low": low, "high": high, "texts": seen.texts}
    return entry | ({"target": dict(found.target)} if found.target else {})


def _as_configured(visit: Visit, config: SimulationConfig) -> Visit:
    """In rounds that do not merge nobody is heard."""
    return visit if config.merges_in(visit.round) else replace(visit, hears={})


class _Traffic:
    """Who fetches what and when: known before anything runs."""

    def __init__(self, waves: tuple[Wave, ...]) -> None:
        self.fetched: dict[Key, list[tuple[Key, Round]]] = {}
        """What a peer fetches in one of its rounds: updates that it hears and has not got yet.

        With each, of which round the one was that it fetched before of the same peer; 0 if there was none.
        """
        self.listeners: dict[Key, list[Round]] = {}
        """Of those who fetch an update, now or later: the round of what each fetched before of the same peer."""
        self.published: dict[PeerId, list[Round]] = {}
        """The rounds of which a peer publishes, since somebody listens."""
        self.last_use: dict[Key, int] = {}
        """The number of the last wave, counted from 1, in which an update is heard."""
        got: dict[PeerId, set[Key]] = {}
        last: dict[tuple[PeerId, PeerId], Round] = {}
        for number, wave in enumerate(waves, start=1):
            for visit in wave:
                mine = got.setdefault(visit.peer, set())
                heard = list(visit.hears.items())
                fresh = [key for key in heard if key not in mine]
                mine.update(fresh)
                had = [last.get((visit.peer, peer), Round(0)) for peer, _ in fresh]
                self.fetched[visit.peer, visit.round] = list(zip(fresh, had, strict=True))
                for key, before in self.fetched[visit.peer, visit.round]:
                    self.listeners.setdefault(key, []).append(before)
                    last[visit.peer, key[0]] = key[1]
                self.last_use |= dict.fromkeys(heard, number)
        for peer, round_ in sorted(self.listeners):
            self.published.setdefault(peer, []).append(round_)

    def cost(self, said: Key, size: Size, had: Round) -> int:
        """Bytes that fetching an update takes whoever fetched that of round `had` before: its base, too, if it is new.

        All from a key frame to the next are differences to it; so whoever has one of them has their base.
        """
        if not size.since_key:
            return size.blob
        peer, round_ = said
        key = self.published[peer][self.published[peer].index(round_) - size.since_key]
        return size.blob + (size.base if had < key else 0)
