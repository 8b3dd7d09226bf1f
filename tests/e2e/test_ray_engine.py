"""Simulations on a Ray cluster of two machines (two nodes on loopback, a CPU each) are those of one process.

Slow tests: Ray is an extra, and its two nodes take half a minute of processor time. The plan that both engines carry out, and the shards
that Ray only spreads, are those of one process, which tests/p2pfinetune/simulation has in every run of the tests.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
import torch

from p2pfinetune.errors import CheckpointError, ClusterError, OptionError
from p2pfinetune.simulation import ray_engine
from p2pfinetune.simulation import run as run_module
from p2pfinetune.simulation.config import AdapterChoice, PeerText, SimulationConfig, TrainingChoice
from p2pfinetune.simulation.ray_engine import TaskShare, ray_cluster
from p2pfinetune.simulation.run import base_of, population_of, simulate
from p2pfinetune.simulation.timetable import Churn, Timing
from p2pfinetune.simulation.topology import Topology
from p2pfinetune.system import interpreter

pytestmark = [
    pytest.mark.slow,
    pytest.mark.e2e,
    pytest.mark.timeout(300),  # on a machine that is busy with other things
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is not installed, so simulations on a cluster are NOT tested: pip install 'peerd[ray]'",
    ),
]

torch.set_num_threads(1)  # as in the processes of the cluster

SMALL = 100 * 2**20  # bytes of each node's object store
WORDS = {
    "water": ["river", "boat", "lake", "rain", "tide", "harbour", "wave", "sail", "fish", "net", "shore", "storm"],
    "stone": ["granite", "quarry", "wall", "arch", "tower", "chisel", "marble", "slab", "gravel", "road", "brick"],
}
ROUNDING = 1e-4  # nats; what the peers learn from one another is some hundredths
EXACT = {"round", "time", "peer", "heard", "bytes_in", "bytes_out", "accepted", "reason"}


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Five peers: three of water, two of stone."""
    made, root = [], tmp_path_factory.mktemp("texts")
    for number, kind in enumerate(["water", "stone", "water", "stone", "water"]):
        dice, folder = random.Random(number), root / f"{kind}-{number}"
        folder.mkdir()
        for page in range(20):
            lines = (" ".join(dice.choices(WORDS[kind], k=9)).capitalize() + "." for _ in range(12))
            (folder / f"{page}.txt").write_text("\n".join(lines))
        made.append(PeerText(name=folder.name, data=(str(folder),)))
    return tuple(made)


@pytest.fixture(scope="module")
def configured(texts, tiny_model):
    def make(**options):
        few = {"rounds": 4, "steps": 2, "warmup_rounds": 1, "trust_tokens": 256, "guard_tokens": 256, "guarded": False}
        training = TrainingChoice(batch_size=2, context=32, lr=2e-2)
        return SimulationConfig(
            **{
                "model": str(tiny_model),
                "peers": texts,
                "adapter": AdapterChoice(rank=2, alpha=4),
                "training": training,
                **few,
                **options,
            }
        )

    return make


@pytest.fixture(scope="module")
def machines():
    """Two nodes, and us joined to them; at the end all is stopped and removed."""
    before, scratch = dict(os.environ), tempfile.mkdtemp(prefix="ray-")
    os.environ |= ray_engine._environment(is_ours=True) | {"RAY_TMPDIR": scratch}
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": SMALL}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=SMALL)
        with ray_cluster(cluster.address) as joined:
            yield joined
    finally:
        cluster.shutdown()
        shutil.rmtree(scratch, ignore_errors=True)
        os.environ.clear()
        os.environ.update(before)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(one, other):
    """What does not depend on grouping is equal, and losses and weights are but for rounding."""
    for mine, others in zip(lines(one), lines(other), strict=True):
        assert {name: mine[name] for name in EXACT} == {name: others[name] for name in EXACT}
        for name in mine.keys() - EXACT:
            assert others[name] == pytest.approx(mine[name], abs=ROUNDING), name
    results = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    assert results[0]["bytes"] == results[1]["bytes"]
    for peer, found in results[0]["peers"].items():
        assert results[1]["peers"][peer]["tokens"] == found["tokens"]
        assert results[1]["peers"][peer]["loss"] == pytest.approx(found["loss"], abs=ROUNDING)
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    assert (one / "population.json").read_text() == (other / "population.json").read_text()


def test_peers_on_two_machines_learn_what_they_learn_in_one_process(machines, configured, tmp_path):
    config, engines = configured(), []

    def engine(*given):
        engines.append(machines.engine(*given))
        return engines[0]

    simulate(config, tmp_path / "here")
    simulate(config, tmp_path / "there", make_engine=engine)

    assert len(set(engines[0].machines())) == 2
    assert any(len(line["row"] or ()) > 1 and line["accepted"] for line in lines(tmp_path / "there"))
    assert_same_run(tmp_path / "here", tmp_path / "there")


def test_so_they_do_out_of_step_with_churn_twins_and_few_neighbours(machines, configured, tmp_path):
    config = configured(
        timing=Timing(kind="asynchronous", spread=0.8, jitter=0.2, delay=0.3, max_age=3.0),
        churn=Churn(leave=0.2, back=0.6),
        topology=Topology(kind="k-regular", degree=2),
        twin=True,
        trust="prediction-similarity",
        seed=3,
    )
    simulate(config, tmp_path / "here")
    simulate(config, tmp_path / "there", make_engine=machines.engine)

    assert_same_run(tmp_path / "here", tmp_path / "there")


class Interrupted(Exception):
    """As if by the keyboard."""


def test_an_interrupted_run_goes_on_from_its_checkpoint(machines, configured, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "CHECKPOINT_SECONDS", 0.0)
    config = configured(rounds=3)

    def interrupt(progress):
        if progress.visits == 2 * len(config.peers):
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate(config, tmp_path / "there", make_engine=machines.engine, on_progress=interrupt)
    with pytest.raises(CheckpointError):  # one process has no such shards
        simulate(config, tmp_path / "there")
    assert (tmp_path / "there" / "state" / "shard-1").is_dir()
    simulate(config, tmp_path / "there", make_engine=machines.engine)
    simulate(config, tmp_path / "here")

    assert_same_run(tmp_path / "here", tmp_path / "there")


def test_machines_with_another_model_by_that_name_are_refused(machines, configured):
    config = configured()
    other = dataclasses.replace(base_of(config.model, config.device), tensors_digest="another")

    with pytest.raises(ClusterError, match="different models"):
        machines.engine(config, population_of(config), other)


def test_an_error_of_ours_arrives_as_itself_and_a_lost_machine_as_one_of_the_cluster(machines, configured):
    config = configured()
    base, population = base_of(config.model, config.device), population_of(config)
    engine = machines.engine(config, population, base)
    with pytest.raises(CheckpointError):
        engine._all(lambda shard, mine: shard.restore.remote({}))

    machines._ray.kill(next(iter(engine._shards.values())))
    with pytest.raises(ClusterError, match=r"lost: .*killed") as caught:
        engine.train(population.peers)
    assert "goes on from the last checkpoint" in caught.value.hint


def test_a_share_that_no_machine_has_is_refused(machines, configured):
    with pytest.raises(ClusterError, match="room"):
        ray_engine.RayCluster(machines._ray, TaskShare(cpus=2))._room(configured())
    with pytest.raises(OptionError):
        TaskShare(cpus=0)
    with pytest.raises(OptionError):
        TaskShare(gpus=0.0)


def test_a_sweep_runs_simulations_side_by_side_and_never_twice(machines, configured, tmp_path):
    schemes = ("local", "uniform", "validation")
    jobs = [(configured(trust=trust, rounds=2), tmp_path / "there" / trust) for trust in schemes]
    for config, folder in jobs:
        simulate(config, tmp_path / "here" / folder.name)
    done = []

    machines.sweep(jobs, done.append)
    stamps = [(folder / "result.json").stat().st_mtime_ns for _, folder in jobs]
    machines.sweep(jobs)

    assert sorted(done) == [0, 1, 2]
    assert [(folder / "result.json").stat().st_mtime_ns for _, folder in jobs] == stamps
    for _, folder in jobs:  # nobody was grouped otherwise than here, so the numbers are the same to the last digit
        here = tmp_path / "here" / folder.name
        results = [json.loads((path / "result.json").read_text()) for path in (here, folder)]
        assert lines(here) == lines(folder)
        assert results[0] | {"seconds": 0} == results[1] | {"seconds": 0}


OWN_CLUSTER = """
import os, psutil, sys
from p2pfinetune.simulation.ray_engine import ray_cluster
import p2pfinetune.simulation.run
assert "ray" not in sys.modules
with ray_cluster() as cluster:
    children = psutil.Process().children(recursive=True)
    ours = [c for p in [psutil.Process(), *children] for c in p.net_connections() if c.status == psutil.CONN_LISTEN]
    print(sorted({c.laddr.ip.removeprefix("::ffff:") for c in ours}))
    look = cluster._ray.remote(num_cpus=0)(lambda: sys.path)
    print([where for where in cluster._ray.get(look.remote()) if where in {"", os.getcwd()}])
print(psutil.wait_procs(children, timeout=10)[1])
"""


def test_a_cluster_of_our_own_listens_on_loopback_is_quiet_and_leaves_nothing(tmp_path):
    (here := tmp_path.with_name("here")).mkdir()  # whose code is nobody's business
    environment = {**os.environ, "TMPDIR": str(short := tempfile.mkdtemp(prefix="t-")), "HOME": str(tmp_path)}
    try:
        done = subprocess.run(
            interpreter.command("-W", "error", "-c", OWN_CLUSTER), cwd=here,
            capture_output=True, text=True, timeout=90, env=environment, check=False,
        )  # fmt: skip

        assert (done.stdout.split("\n"), done.stderr) == (["['127.0.0.1']", "[]", "[]", ""], "")
        assert [*Path(short).iterdir(), *tmp_path.iterdir()] == []
    finally:
        shutil.rmtree(short)
