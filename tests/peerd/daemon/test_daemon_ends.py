"""How a daemon begins and ends: exit codes, refusals, signals, and what is left behind."""

import asyncio
import logging
import os
import signal
import stat
import subprocess
import sys
import time

import pytest

from peerd.control.client import Client
from peerd.daemon.assembly import run
from peerd.errors import AlreadyRunning, TransportError, UsageError
from peerd.machine import lock
from peerd.machine.ending import ORDERLY_SECONDS
from peerd.wire.keys import PeerKey


def prepared(world, kind="text"):
    (world.folder / kind).mkdir(exist_ok=True)
    return world.paths("home"), world.config(kind)


def test_it_runs_until_the_first_signal_and_leaves_nothing_open(world):
    paths, config = prepared(world)
    seen = []

    def ready(status):
        seen.append((status.addresses, stat.S_IMODE(paths.socket.stat().st_mode), lock.holder(paths.lock).pid))
        os.kill(os.getpid(), signal.SIGTERM)

    code = asyncio.run(run(paths, config, ready=ready, ports=world.ports(signals=True)))

    assert code == 0
    assert seen == [([f"/memory/{seen[0][0][0].split('/')[2]}/p2p/{seen[0][0][0].split('/')[2]}"], 0o600, os.getpid())]
    assert lock.holder(paths.lock) is None
    assert not paths.socket.exists()


@pytest.mark.parametrize("kind", ["hangs", "slow"])
def test_a_busy_worker_does_not_hold_up_the_end(world, kind):
    paths, config = prepared(world, kind)
    began = []

    def ready(_):
        began.append(time.monotonic())
        asyncio.get_running_loop().call_later(0.1, os.kill, os.getpid(), signal.SIGTERM)  # once the training is on

    asyncio.run(run(paths, config, ready=ready, ports=world.ports(signals=True)))

    assert time.monotonic() - began[0] < ORDERLY_SECONDS


def test_what_the_worker_wrote_last_and_could_not_tell_of_is_gone_at_the_end(world):
    async def scenario():
        async with world.daemon(kind="slow") as running:
            await running.until(lambda: running.status().worker.state == "training")
            (running.paths.scratch / "123-1").write_bytes(b"a checkpoint")
            return running.paths.scratch

    assert list(asyncio.run(scenario()).iterdir()) == []


def test_too_little_text_is_an_error_of_the_user_and_starts_nothing(world):
    paths, config = prepared(world, "short")

    with pytest.raises(UsageError, match="too little text") as raised:
        asyncio.run(run(paths, config, ports=world.ports()))

    assert raised.value.exit_code == 2
    assert raised.value.hint == "add text"
    assert lock.holder(paths.lock) is None


def test_an_identity_that_lost_everything_it_learnt_is_said_once(world, caplog):
    caplog.set_level(logging.INFO)
    paths, config = prepared(world, "short")
    paths.prepare()
    PeerKey.load_or_create(paths.identity)

    for _ in range(2):
        with pytest.raises(UsageError):
            asyncio.run(run(paths, config, ports=world.ports()))

    assert caplog.text.count("training begins at round 1") == 1


def test_the_log_says_where_a_run_begins(world, caplog):
    caplog.set_level(logging.INFO)
    paths, config = prepared(world, "short")
    with pytest.raises(UsageError):
        asyncio.run(run(paths, config, ports=world.ports()))

    first = next(record for record in caplog.records if record.name == "peerd.daemon")
    assert (first.getMessage(), first.pid, first.home) == ("starting", os.getpid(), str(paths.home))


def test_a_second_daemon_in_the_same_home_is_refused(world):
    paths, config = prepared(world)

    with lock.hold(paths.lock, version="1", socket=paths.socket), pytest.raises(AlreadyRunning, match=str(os.getpid())):
        asyncio.run(run(paths, config, ports=world.ports()))


def test_a_network_that_cannot_start_is_told_and_no_worker_is_left(world):
    paths, config = prepared(world)

    class Taken:
        def answer(self, *_):
            pass

        async def start(self):
            raise TransportError("the port is taken", "choose another: --listen")

    with pytest.raises(TransportError, match="the port is taken"):
        asyncio.run(run(paths, config, ports=world.ports(transport=lambda *_: Taken())))


def test_a_damaged_identity_is_told_with_advice(world):
    paths, config = prepared(world)
    paths.identity.write_bytes(b"short")
    paths.identity.chmod(0o600)

    with pytest.raises(UsageError, match="damaged"):
        asyncio.run(run(paths, config, ports=world.ports()))


def test_a_base_model_that_changes_under_a_running_daemon_ends_it(world):
    async def scenario():
        async with world.daemon(kind="slow") as running:
            await running.until(lambda: running.status().worker.state == "training")
            running.daemon._performer.network_digest = "f" * 64
            running.worker.kill()
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        asyncio.run(scenario())

    assert ["base model on disk has changed" in str(error) for error in leaves(raised.value)] == [True]


def leaves(error):
    return (
        [leaf for part in error.exceptions for leaf in leaves(part)] if isinstance(error, ExceptionGroup) else [error]
    )


def test_the_control_interface_answers_over_the_socket(world):
    async def scenario():
        async with world.daemon(kind="slow") as running:
            await running.until(lambda: running.status().worker.state == "training")
            return await asyncio.to_thread(ask, running.paths)

    status, texts, refused = asyncio.run(scenario())

    assert status.state == "training"
    assert texts.base == "hello"
    assert refused == "choose another"


def ask(paths):
    with Client(socket_path=paths.socket) as client:
        try:
            client.export(paths.home / "out")
        except UsageError as error:
            refused = error.hint
        return client.status(), client.generate("hello"), refused


def test_the_daemon_does_not_load_torch():
    code = "import sys, peerd.daemon.assembly, peerd.net.libp2p.transport; print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert found.stdout.strip() == "[]"
