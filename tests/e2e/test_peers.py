"""Two peers of one network and one of another, as real processes over libp2p."""

import json
import os
import signal
import stat
import time
from pathlib import Path

import pytest

from tests.support.processes import is_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # starting daemons takes seconds of CPU time each


@pytest.fixture(scope="module")
def stranger(town, alice):
    return town.home("stranger", "stone", seed=3, group="elsewhere", peer=tuple(alice.status().addresses)).start()


def test_two_peers_join_fetch_trust_and_merge(alice, bob, stranger):
    bob.until(lambda status: any(n.trust > 0 for n in status.neighbours))
    alice.until(lambda status: any(n.trust > 0 for n in status.neighbours))

    (known,) = [n for n in alice.status().neighbours if n.trust > 0]
    assert (known.name, known.peer_id) == ("bob", bob.status().peer_id)
    assert known.bytes_in > 0
    assert known.age_seconds is not None
    merged = [record for record in alice.rounds() if len(record.row) == 2]
    assert sum(merged[-1].row.values()) == pytest.approx(1.0)


def test_a_peer_of_another_network_is_refused(alice, stranger):
    status = stranger.until(lambda status: status.round >= 2)

    assert status.network != alice.status().network
    assert [n for n in status.neighbours if n.connected] == []
    assert stranger.status().peer_id not in {n.peer_id for n in alice.status().neighbours if n.connected}
    told = stranger.until(lambda status: not status.health.ok).health.reasons
    in_words = ("is in another group. Both need the same --group", "is of another network. Compare")  # once in 256
    assert any(words in reason for words in in_words for reason in told), told
    assert stranger.run("status").returncode == 5
    assert {"met-group", "met-network"} & set(alice.status().turned_away)


def test_status_answers_within_half_a_second_while_training_goes_on(alice):
    alice.until(lambda status: status.worker.state in {"training", "collaborating"})
    seconds = []
    with alice.client() as client:
        for _ in range(20):
            begun = time.monotonic()
            client.status()
            seconds.append(time.monotonic() - begun)

    assert max(seconds) < 0.5


def test_the_loop_is_never_held_for_long(alice):
    assert alice.status().loop.max_callback_cpu_ms < 100


def test_the_daemon_loads_no_torch(alice):
    assert "libtorch" not in Path(f"/proc/{alice.process.pid}/maps").read_text()


def test_the_control_socket_is_the_owner_s_alone(alice):
    assert stat.S_IMODE(alice.paths.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(alice.paths.socket.parent.stat().st_mode) == 0o700


def test_a_second_instance_is_refused_with_pid_and_start_time(alice):
    again = alice.run("start", "--json")

    assert again.returncode == 4
    error = json.loads(again.stdout)["error"]
    assert str(alice.process.pid) in error["message"]
    assert time.strftime("%Y-") in error["message"]
    assert alice.status() is not None


def test_a_killed_worker_is_replaced_and_seen(alice):
    (worker,) = alice.children()
    os.kill(worker, signal.SIGKILL)

    status = alice.until(lambda status: status.worker.restarts == 1 and status.worker.state != "restarting")
    assert "SIGKILL" in status.worker.last_error
    done = len(alice.rounds())
    alice.until(lambda status: len(alice.rounds()) > done)


def test_generate_and_export_work_while_training_goes_on(alice):
    alice.ready()
    alice.until(lambda status: status.worker.state != "starting")
    texts = alice.json("generate", "The river", "--max-tokens", "4", "--temperature", "0")["data"]
    files = alice.json("export", str(alice.folder / "exported"))["data"]["files"]

    assert {"base", "own", "personal"} <= texts.keys()
    assert {Path(file).name for file in files} >= {"adapter_config.json", "adapter_model.safetensors"}


def test_a_stopped_peer_holds_nobody_up_and_sigterm_ends_within_fifteen_seconds(alice, bob):
    os.kill(bob.process.pid, signal.SIGSTOP)
    children = alice.children()
    begun = time.monotonic()

    assert alice.stop() == 0
    assert time.monotonic() - begun < 15
    assert all(is_gone(child) for child in children)
    assert not alice.paths.socket.exists()
    os.kill(bob.process.pid, signal.SIGCONT)


def test_a_second_signal_ends_at_once_and_leaves_no_child(bob):
    (child,) = bob.children()
    bob.process.send_signal(signal.SIGTERM)
    begun = time.monotonic()
    while bob.process.poll() is None and time.monotonic() < begun + 15:
        bob.process.send_signal(signal.SIGTERM)
        time.sleep(0.1)

    assert bob.process.returncode in {0, 1}
    assert time.monotonic() - begun < 10  # sooner than the fourteen seconds that an orderly end may take
    assert is_gone(child)


def test_peerd_stop_ends_a_daemon(stranger):
    assert stranger.run("stop").returncode == 0
    assert stranger.process.wait(60) == 0
    assert stranger.run("status").returncode == 3
