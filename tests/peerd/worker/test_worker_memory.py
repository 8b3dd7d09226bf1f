"""What the worker may take of the machine's memory, on real processes."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from p2pfinetune.model.memory import MemoryPlan
from p2pfinetune.names import Round
from peerd.config import Config
from peerd.errors import UsageError, WorkerError
from peerd.pacing import Backoff
from peerd.status import MemoryNow
from peerd.worker import ram_limit
from peerd.worker.messages import Generate, Open, Stepped, TrainSteps
from peerd.worker.planned import Planned
from peerd.worker.process import child_command, child_environment, describe
from peerd.worker.shortage import Shortage
from peerd.worker.supervisor import Worker

TRAIN = TrainSteps(id=0, round=Round(1), steps=1)


def say(prompt):
    return Generate(id=0, prompt=prompt, max_tokens=1, temperature=0.0, seed=0)


def score(process):
    return int(Path(f"/proc/{process}/oom_score_adj").read_text())


def in_loop(scenario):
    asyncio.run(scenario())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits data")
def test_a_child_that_takes_more_than_it_may_ends_and_says_so(fake_worker):
    async def scenario():
        async with fake_worker(worker_memory=256) as running:
            with pytest.raises(WorkerError):
                await running.worker.call(say("fill"))
            await running.until("opened", times=2)

            assert running.worker.now().last_error == "out of memory; it may take 256 MiB: --worker-memory"
            assert (await running.worker.call(say("again"))).base == "again"

    in_loop(scenario)


async def dies_training(running, times):
    with pytest.raises(WorkerError):
        await running.worker.call(TRAIN)
    await running.until("opened", times=times)


def test_workers_that_die_twice_of_memory_doing_the_same_are_followed_by_one_that_takes_a_lighter_way(fake_worker):
    async def scenario():
        async with fake_worker(model="hungry") as running:
            await dies_training(running, 2)
            assert running.worker.now().memory.said == "needs 5 of 6"
            await dies_training(running, 3)

            assert isinstance(await running.worker.call(TRAIN), Stepped)
            assert running.worker.now().memory.advice == ""

    in_loop(scenario)


def test_if_no_lighter_way_is_left_workers_are_started_again_and_a_person_is_told_what_to_do(fake_worker):
    async def scenario():
        async with fake_worker(model="starving") as running:
            for times in (2, 3, 4, 5):
                await dies_training(running, times)

            told = running.worker.now().memory.advice
            assert told.startswith("2 workers in a row ran out of memory while training. Next: peerd stop, then ")
            assert told.endswith("peerd start --context 128")

    in_loop(scenario)


def test_deaths_of_other_causes_and_in_conversations_change_no_plan():
    planned = Planned(plan=MemoryPlan(), memory=MemoryNow(), is_last=False)
    shortage = Shortage(planned=planned)
    for reason, doing in [("killed by SIGKILL", "training"), ("out of memory", "generating"), ("exit code 1", "")] * 2:
        shortage = shortage.after_death(reason, doing)

    assert shortage == Shortage(planned=planned)


def test_a_job_that_was_done_forgets_the_deaths_of_its_kind_alone():
    shortage = Shortage(planned=Planned(plan=MemoryPlan(), memory=MemoryNow(), is_last=False))
    for doing in ("training", "collaborating"):
        shortage = shortage.after_death("out of memory", doing)

    assert shortage.after_job("training").deaths == {"collaborating": 1}
    assert shortage.after_job("training").after_death("out of memory", "training").avoid is None
    assert shortage.after_job("training").after_death("out of memory", "collaborating").avoid == MemoryPlan()


def test_a_kill_is_of_memory_if_the_kernel_says_so_and_else_perhaps(tmp_path, monkeypatch):
    monkeypatch.setattr(ram_limit, "VMSTAT", tmp_path / "vmstat")
    assert ram_limit.kernel_kills() == 0
    (tmp_path / "vmstat").write_text("oom_kill_disable 3\noom_kill 7\n")

    assert ram_limit.kernel_kills() == 7
    assert describe(-9, "", for_memory=True) == "out of memory: killed by the kernel"
    assert describe(-9, "") == "killed by SIGKILL, perhaps for lack of memory"


@pytest.mark.skipif(sys.platform != "linux", reason="the score is Linux's")
def test_the_kernel_is_offered_the_child_before_the_daemon(fake_worker):
    async def scenario():
        async with fake_worker() as running:
            assert score(running.worker._life.pid) > score("self")

    in_loop(scenario)


def real_worker(folder, *command):
    async def make_open():
        where = {"cache": str(folder), "scratch": str(folder), "splits": f"{folder}/splits"}
        nothing = {"checkpoint": None, "best": None, "best_guard": None}
        return Open(id=0, config=Config(worker_memory=100, threads=1), me="me", **where, **nothing)

    environment = child_environment(os.environ, 1)
    return Worker(make_open, command=command, environment=environment, pauses=Backoff(first=0.0))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits data")
def test_a_real_worker_that_may_take_too_little_refuses_in_words_and_the_daemon_is_not_started(tmp_path):
    async def scenario():
        with pytest.raises(UsageError, match="training may take 100 MiB, and its libraries alone need"):
            await real_worker(tmp_path, *child_command()).run(lambda _: None, lambda _: None)

    in_loop(scenario)


UNWARNED = "from peerd.worker import child, fits; fits.LEAST = 0; child.main()"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits data")
def test_a_real_worker_that_takes_more_than_was_computed_dies_in_words_each_time_and_is_started_again(tmp_path):
    told = []

    async def scenario():
        worker = real_worker(tmp_path, sys.executable, "-c", UNWARNED, str(os.getpid()))

        async def died(reason):
            told.append((reason, worker.now()))
            if len(told) == 2:
                await worker.stop(0.0)

        await worker.run(lambda _: None, died)

    in_loop(scenario)

    (reason, now), (again, later) = told
    assert reason.startswith("out of memory")
    assert again.startswith("out of memory")
    assert now.state == "restarting"
    assert now.last_error == reason
    assert later.memory.advice.startswith(
        "2 workers in a row ran out of memory while starting. Next: peerd stop, then "
    )


def test_what_a_job_has_freed_goes_back_to_the_system():
    pages = 100_000_000

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not ram_limit.give_back() and not Path("/proc/self/statm").exists():
        pytest.skip("there is no way to")
    held = [bytearray(10_000) for _ in range(pages // 10_000)]  # too small to be mapped by themselves
    between = [bytearray(10_000)]  # keeps what lies below it from being the end of the heap
    full = resident()
    del held
    ram_limit.give_back()

    assert resident() < full - pages // 2
    assert between


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits data")
def test_a_limit_is_lifted_for_a_mapped_file_and_stands_again_afterwards():
    import resource

    def limit():
        return resource.getrlimit(resource.RLIMIT_DATA)[0]

    before = limit()
    with ram_limit.lifted(5):
        assert limit() == (before if before == resource.RLIM_INFINITY else before + 5)
    ram_limit.hold_to(1 << 30)
    held = limit()
    with ram_limit.lifted(5):
        assert limit() == held + 5

    assert limit() == held
    resource.setrlimit(resource.RLIMIT_DATA, (before, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def test_what_is_not_said_is_a_share_of_the_machine():
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / ram_limit.MIB

    assert ram_limit.limit_mib(512) == 512
    assert ram_limit.limit_mib(0) == pytest.approx(0.75 * physical, rel=0.01)


@pytest.mark.parametrize(
    ("own", "limits", "least"),
    [
        ("0::/a/b\n", {"memory.max": "max", "a/memory.max": "3000", "a/b/memory.max": "5000"}, 3000),
        ("0::/\n", {"memory.max": "7000\n"}, 7000),
        ("4:memory:/a\n2:cpu:/b\n", {"memory/a/memory.limit_in_bytes": "900", "b/memory.max": "1"}, 900),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": str(2**63 - 4096)}, 0),
        ("", {}, 0),
    ],
)
def test_the_least_limit_of_the_containers_around_counts(tmp_path, own, limits, least):
    (tmp_path / "own").write_text(own)
    for path, said in limits.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(said)

    assert ram_limit.contained(tmp_path, tmp_path / "own") == least


@pytest.mark.parametrize(
    ("code", "last_line", "told"),
    [
        (12, "out of memory; it may take 5 MiB: --worker-memory", "out of memory; it may take 5 MiB: --worker-memory"),
        (12, "something else", "out of memory"),
        (-6, "memory allocation of 1024 bytes failed", "out of memory: memory allocation of 1024 bytes failed"),
        (-6, "what():  std::bad_alloc", "out of memory: what():  std::bad_alloc"),
        (-9, "", "killed by SIGKILL, perhaps for lack of memory"),
        (1, "no such file", "exit code 1: no such file"),
    ],
)
def test_an_end_for_lack_of_memory_is_told_as_that(code, last_line, told):
    assert describe(code, last_line) == told


def test_lack_of_memory_is_known_in_all_its_words():
    assert ram_limit.is_lack_of(MemoryError())
    assert ram_limit.is_lack_of(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert ram_limit.is_lack_of(ImportError("x.so: failed to map segment from shared object"))
    assert not ram_limit.is_lack_of(RuntimeError("surprise"))
