"""The same simulation on a Ray cluster: peers sharded over its CPUs or GPUs; and sweeps, a whole simulation a task.

Ray is an extra and imported in here alone, when a cluster is asked for. Anybody who can reach a cluster can run
anything on it, so the one that we start listens on loopback only and asks for a token; see docs/adr/0009. Blobs and
texts travel through Ray's object store. The base model does not: every machine loads its own, and the digests are
compared, since another base would give numbers and no error.

A shard is an actor: it keeps its learners between calls, and calls to it are carried out in order. Peers are dealt to
shards once, and train in one call to every shard that has any of the wave. An actor that dies takes its peers' state
with it, so the run ends with an error and goes on from its checkpoint, as after any interruption: nothing is repaired
in flight.

A sweep needs none of this: simulations know nothing of each other, and each is a task of its own.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from p2pfinetune.data.population import Population
from p2pfinetune.errors import CheckpointError, ClusterError, LearningError, OptionError
from p2pfinetune.model.base import Base
from p2pfinetune.names import Digest, PeerId
from p2pfinetune.simulation.config import SimulationConfig
from p2pfinetune.simulation.engine import Held, Key, Size, bytes_of, heard_by, load_held, save_held
from p2pfinetune.simulation.record import RESULT, RunFolder
from p2pfinetune.simulation.run import base_for, population_of, simulate
from p2pfinetune.simulation.shard import Shard, SharedUpdate, Tested
from p2pfinetune.simulation.timetable import Visit, Wave
from p2pfinetune.system import interpreter
from p2pfinetune.system.durable import write_whole
from p2pfinetune.trust import SCHEMES

START_SECONDS = 300.0  # for every shard to have its place and model; a busy cluster is refused and not waited for
LONGEST_SCRATCH = 45  # characters; the paths of Ray's sockets are 61 longer, and a socket's path has at most 107


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskShare:
    """What one shard, or one simulation of a sweep, takes of a machine."""

    cpus: int = 1
    gpus: float = 1.0
    """Counts only where the config's device is not the CPU and the cluster has GPUs; half a GPU lets two share one."""

    def __post_init__(self) -> None:
        if self.cpus < 1 or not 0.0 < self.gpus <= 1.0:
            raise OptionError("a shard takes at least one CPU, and at most one GPU")


@contextmanager
def ray_cluster(address: str = "", share: TaskShare | None = None) -> Iterator[RayCluster]:
    """Join the cluster at the address (`auto`: the one that runs on this machine), or start one for as long as this.

    OptionError if Ray is not installed, ClusterError if there is no such cluster.
    """
    if address:
        with _joined(_environment(is_ours=False), address=address) as ray:
            yield RayCluster(ray, share or TaskShare())
        return
    scratch = tempfile.mkdtemp(prefix="ray-")  # mode 0700, unlike Ray's own folder
    try:
        where = {"_temp_dir": scratch} if len(scratch) <= LONGEST_SCRATCH else {}
        with _joined(_environment(is_ours=True), include_dashboard=False, **where) as ray:
            if any(not node["NodeManagerAddress"].startswith("127.") for node in ray.nodes()):
                raise ClusterError("the cluster would listen to the network", "Ray was imported before: do not do so")
            yield RayCluster(ray, share or TaskShare())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _joined(environment: Mapping[str, str], **options: Any) -> Iterator[Any]:
    before = dict(os.environ)
    os.environ.update(environment)  # Ray reads these when it is imported, and its processes inherit them
    try:
        ray = _import_ray()
        try:
            with chdir(interpreter.FOLDER):  # Ray has its workers import from where it is started
                ray.init(log_to_driver=False, logging_level="error", **options)
        except (ConnectionError, ValueError, RuntimeError, OSError, ray.exceptions.RayError) as error:
            raise ClusterError(f"no Ray cluster to work with: {_first_line(error)}", "check --ray-address") from error
        try:
            yield ray
        finally:
            ray.shutdown()
    finally:
        for name in environment.keys() - before.keys():
            del os.environ[name]
        os.environ.update({name: before[name] for name in environment.keys() & before.keys()})


def _environment(*, is_ours: bool) -> dict[str, str]:
    # nothing is told to anybody; and of several shards that fail alike, one is enough to hear of
    quiet = {interpreter.SAFE_PATH: "1", "RAY_USAGE_STATS_ENABLED": "0", "RAY_IGNORE_UNHANDLED_ERRORS": "1"}
    if not is_ours:
        return quiet
    # Ray's switch for systems where it has no clusters of several machines: it then binds to 127.0.0.1 alone
    loopback = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return quiet | loopback | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}


@cache
def _token() -> str:
    """One a process, since Ray remembers the first that it sees."""
    return secrets.token_hex(32)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise OptionError("the engine ray needs Ray, which is not installed", "pip install 'peerd[ray]'") from error
    return ray


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class RayCluster:
    """A cluster that we are connected to. `engine` has the form of `simulate`'s `make_engine`.

    It keeps the processes of its last engine, which have torch and the model loaded, for the next one; so one engine
    works at a time.
    """

    def __init__(self, ray: Any, share: TaskShare) -> None:
        self._ray, self._share = ray, share
        self._processes: list[Any] = []
        self._needed: dict[str, Any] = {}

    def engine(self, config: SimulationConfig, population: Population, base: Base) -> RayEngine:
        """The peers of one simulation on as many shards as there is room for."""
        count, needs = min(self._room(config), len(population.peers)), self._needs(config)
        if count > len(self._processes) or needs != self._needed or not self._are_alive():
            self._release()
            actor = self._ray.remote(**needs)(_ShardThere)
            self._processes, self._needed = [actor.remote() for _ in range(count)], needs
        return RayEngine(self._ray, self._processes[:count], config, population, base.tensors_digest)

    def _are_alive(self) -> bool:
        try:
            _get(self._ray, [process.machine.remote() for process in self._processes])
        except ClusterError:
            return False
        return True

    def _release(self) -> None:
        for process in self._processes:
            self._ray.kill(process)
        self._processes = []

    def sweep(
        self, jobs: Sequence[tuple[SimulationConfig, Path]], on_done: Callable[[int], None] = lambda _: None
    ) -> None:
        """Simulate all whose folder holds no result yet; `on_done` gets each one's place in the list.

        What is complete is on this disk at once; a simulation that was interrupted begins again.
        """
        self._release()  # their places are for the sweep's tasks
        ray = self._ray
        texts: dict[str, Any] = {}
        running: dict[Any, int] = {}
        for number, (config, folder) in enumerate(jobs):
            if RunFolder(folder, config).is_complete:
                on_done(number)
                continue
            text = config.text_digest()
            if text not in texts:
                texts[text] = ray.put(population_of(config))
            task = ray.remote(**self._needs(config))(_simulate_there)
            running[task.remote(config, texts[text])] = number
        while running:
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            number = running.pop(done)
            _write_run(jobs[number][1], _get(ray, done))
            on_done(number)

    def _needs(self, config: SimulationConfig) -> dict[str, Any]:
        needs: dict[str, Any] = {"num_cpus": self._share.cpus, "scheduling_strategy": "SPREAD"}
        return needs | ({"num_gpus": self._share.gpus} if self._on_gpus(config) else {})

    def _on_gpus(self, config: SimulationConfig) -> bool:
        return config.device != "cpu" and self._ray.cluster_resources().get("GPU", 0) > 0

    def _room(self, config: SimulationConfig) -> int:
        """How many shards find a place, each on one machine."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        places = [int(has.get("CPU", 0) / self._share.cpus) for has in machines]
        if self._on_gpus(config):
            on_gpus = [int(has.get("GPU", 0) / self._share.gpus) for has in machines]
            places = [min(pair) for pair in zip(places, on_gpus, strict=True)]
        if not sum(places):
            raise ClusterError("no machine of the cluster has room for a shard", "ask for fewer CPUs a shard")
        return sum(places)


@dataclass(frozen=True, slots=True)
class PublishedBlob:
    """An update in Ray's object store."""

    ref: Any
    size: Size


class RayEngine:
    """An `Engine` whose shards are Ray actors."""

    def __init__(
        self,
        ray: Any,
        processes: Sequence[Any],
        config: SimulationConfig,
        population: Population,
        digest: Digest,
    ) -> None:
        if config.attack.attackers:
            raise OptionError(
                "attackers see all peers at once, which no machine of a cluster does", "use the local engine"
            )
        if SCHEMES.make(config.trust, config.trust_options).pairing is not None:
            raise OptionError(
                f"the trust scheme {config.trust!r} asks neighbours for gradients, which other machines hold",
                "use the local engine",
            )
        self._ray = ray
        count = len(processes)
        self._shards = {population.peers[number::count]: process for number, process in enumerate(processes)}
        self._of = {peer: shard for mine, shard in self._shards.items() for peer in mine}
        places = {peer: place for place, peer in enumerate(population.peers)}
        begun = [
            shard.begin.remote(
                config, replace(population, texts={peer: population.texts[peer] for peer in mine}), places
            )
            for mine, shard in self._shards.items()
        ]
        if set(_get(ray, begun, START_SECONDS)) != {digest}:
            raise ClusterError(
                f"the machines of the cluster hold different models by the name of {config.model}",
                "give all of them the same files",
            )

    def machines(self) -> list[str]:
        """The id of the cluster node that each shard is on."""
        return self._all(lambda shard, _: shard.machine.remote())

    def train(self, peers: Sequence[PeerId]) -> None:
        """All shards at the same time."""
        wanted = set(peers)
        self._all(lambda shard, mine: shard.train.remote([peer for peer in mine if peer in wanted]))

    def publish(self, peers: Sequence[PeerId]) -> dict[PeerId, Any]:
        """The bytes stay where they were made until somebody hears them."""
        pairs = [self._of[peer].publish.options(num_returns=2).remote(peer) for peer in peers]
        sizes = _get(self._ray, [size for _, size in pairs])
        return {peer: PublishedBlob(ref, size) for peer, (ref, _), size in zip(peers, pairs, sizes, strict=True)}

    def size_of(self, handle: Any) -> Size:
        """As its shard told."""
        return Size(*handle.size)

    def merge(self, wave: Wave, held: Held) -> list[dict[str, Any]]:
        """Shards at the same time, the peers of each one after the other."""
        pending = []
        for visit in wave:
            heard = heard_by(visit, held)
            plain = replace(visit, hears=dict(visit.hears))
            refs = [update.ref for update in heard.values()]
            pending.append(self._of[visit.peer].merge.remote(plain, list(heard), *refs))
        return list(_get(self._ray, pending))

    def assemble(self) -> int:
        """Shards at the same time, once all have told."""
        parts = self._all(lambda shard, _: shard.told.remote())
        told = {peer: said for part in parts for peer, said in part.items()}
        everything = self._ray.put(told)
        self._all(lambda shard, _: shard.assemble.remote(everything))
        return bytes_of(told)

    def test(self, peers: Sequence[PeerId]) -> dict[PeerId, Tested]:
        """Shards at the same time."""
        found = _get(self._ray, [self._of[peer].test.remote(peer) for peer in peers])
        return dict(zip(peers, found, strict=True))

    def save(self, folder: Path, held: Held) -> None:
        """A folder a shard, on this machine's disk, and the updates."""
        kept = self._all(lambda shard, _: shard.save.remote())
        for number, files in enumerate(kept):
            _write_files(folder / f"shard-{number}", files)
        blobs = _get(self._ray, [update.ref for update in held.values()])
        save_held(folder, dict(zip(held, blobs, strict=True)))

    def restore(self, folder: Path) -> dict[Key, Any]:
        """The other half of `save`. CheckpointError if the shards were others."""
        parts = [folder / f"shard-{number}" for number in range(len(self._shards))]
        if sorted(parts) != sorted(folder.glob("shard-*")):
            raise CheckpointError(
                f"{folder} is the checkpoint of another engine or of a cluster of another size",
                "go on with the engine and the cluster that it began with, or start anew with --fresh",
            )
        files = dict(zip(self._shards, map(_read_files, parts), strict=True))
        self._all(lambda shard, mine: shard.restore.remote(files[mine]))
        return {key: PublishedBlob(self._ray.put(said), Size.of(said)) for key, said in load_held(folder).items()}

    def _all(self, ask: Callable[[Any, tuple[PeerId, ...]], Any]) -> list[Any]:
        """The answers of all shards, who work on them at the same time."""
        return list(_get(self._ray, [ask(shard, mine) for mine, shard in self._shards.items()]))


def _get(ray: Any, pending: Any, seconds: float | None = None) -> Any:
    """What Ray has for us; an error of ours as itself, and one of the cluster as ClusterError."""
    try:
        return ray.get(pending, timeout=seconds)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LearningError):
            raise error.cause from None
        raise
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError("the cluster has no room for all shards now", "wait for its other users to end") from error
    except ray.exceptions.RayError as error:
        why = str(error).strip().splitlines()[-1]  # Ray puts the cause last
        raise ClusterError(
            f"a part of the cluster was lost: {why}", "the same command goes on from the last checkpoint"
        ) from error


class _ShardThere:
    """A shard in a process of the cluster. What may fail is in `begin`, whose errors arrive as what they are."""

    _shard: Shard

    def begin(self, config: SimulationConfig, population: Population, places: Mapping[PeerId, int]) -> Digest:
        base = base_for(config)
        self._shard = Shard(config, population, population.peers, base, places)
        return base.tensors_digest

    def machine(self) -> str:
        return str(_import_ray().get_runtime_context().get_node_id())

    def train(self, peers: Sequence[PeerId]) -> None:
        if peers:
            self._shard.train(peers)

    def publish(self, peer: PeerId) -> tuple[SharedUpdate, Size]:
        said = self._shard.publish(peer)
        return said, Size.of(said)

    def merge(self, visit: Visit, speakers: Sequence[PeerId], *heard: SharedUpdate) -> dict[str, Any]:
        return self._shard.merge(visit, dict(zip(speakers, heard, strict=True)))

    def told(self) -> dict[PeerId, tuple[bytes, bytes]]:
        return self._shard.told()

    def assemble(self, told: Mapping[PeerId, tuple[bytes, bytes]]) -> None:
        self._shard.assemble(told)

    def test(self, peer: PeerId) -> Tested:
        return self._shard.test(peer)

    def save(self) -> dict[str, bytes]:
        with tempfile.TemporaryDirectory() as folder:
            self._shard.save(Path(folder))
            return _read_files(Path(folder))

    def restore(self, files: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            _write_files(Path(folder), files)
            self._shard.restore(Path(folder))


def _simulate_there(config: SimulationConfig, population: Population) -> dict[str, bytes]:
    """A whole simulation in a process of the cluster; the files of its folder."""
    with tempfile.TemporaryDirectory() as folder:
        return _read_files(simulate(config, Path(folder), population=population))


def _write_run(folder: Path, files: Mapping[str, bytes]) -> None:
    """The result goes last: with it the folder is complete."""
    _write_files(folder, {name: data for name, data in files.items() if name != RESULT})
    write_whole(folder / RESULT, files[RESULT], mode=None)


def _read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
