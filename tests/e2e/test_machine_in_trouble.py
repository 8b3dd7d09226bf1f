"""Real daemons, libp2p and torch included, on a machine in trouble: damaged files, a dead network, suspension.

Slow tests all of them: a silent peer at the end is in `test_peers` too, a dead bootstrap node in `test_crash`, damage in tests/peerd/state.
"""

import signal
import time

import pytest

from peerd.store.generations import Generations
from tests.support.processes import is_gone

pytestmark = [pytest.mark.slow, pytest.mark.e2e, pytest.mark.timeout(600)]

NOBODY = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD8C3E8c8sFpJ8TbvNjKniZFpCugjiD6HaGootVHnWU1R"
PROMISED_SECONDS = 15.0


@pytest.fixture(scope="module")
def alice(town):
    return town.home("alice", bootstrap=(NOBODY,)).start()


@pytest.fixture(scope="module")
def bob(town, alice):
    address = next(text for text in alice.ready().addresses if "127.0.0.1" in text)
    return town.home("bob", seed=1, peer=(address,)).start()


def together(alice, bob):
    for one in (alice, bob):
        one.until(lambda status: any(neighbour.connected and neighbour.trust > 0 for neighbour in status.neighbours))


def suspended(daemon, seconds):
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(seconds)
    daemon.process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("seconds", [8, 60])
def test_a_suspended_daemon_is_a_peer_again_and_nobody_is_banned(alice, bob, seconds):
    together(alice, bob)
    rounds = {one: one.status().round for one in (alice, bob)}
    worker = bob.children()

    suspended(bob, seconds)

    for one in (alice, bob):
        one.until(lambda status, one=one: status.round >= rounds[one] + 3)
    together(alice, bob)
    assert bob.children() == worker
    assert alice.status().banned == bob.status().banned == []
    assert bob.status().worker.restarts == 0


def test_a_dead_network_and_a_peer_that_says_nothing_do_not_hold_up_the_end(alice, bob):
    together(alice, bob)
    children = bob.children()
    alice.process.send_signal(signal.SIGSTOP)  # its side of every connection stays open and is silent
    time.sleep(1)
    try:
        began = time.monotonic()
        bob.process.send_signal(signal.SIGTERM)
        code = bob.process.wait(60)
        seconds = time.monotonic() - began
    finally:
        alice.process.send_signal(signal.SIGCONT)

    assert code in {0, 1}
    assert seconds < PROMISED_SECONDS + 1  # to be noticed by a busy machine
    assert all(is_gone(child) for child in children)
    assert not bob.paths.socket.exists()
    assert list(bob.paths.scratch.iterdir()) == []
    assert "Traceback" not in bob.said()


def test_a_lost_database_and_a_damaged_checkpoint_cost_at_most_a_round(alice):
    alice.until(lambda status: status.round >= 3)
    assert alice.stop() == 0
    newest, before = Generations(alice.paths.blobs).kept.checkpoints
    records = len(alice.folder.with_suffix(".out").read_text().split("round finished"))
    blob = alice.paths.blobs / newest.blob
    data = blob.read_bytes()
    blob.write_bytes(data[:150] + b"\xaa" * 200 + data[350:])
    alice.paths.database.write_bytes(bytes(alice.paths.database.stat().st_size))

    alice.start()
    alice.until(lambda status: status.round > before.round and status.state != "starting")

    said = alice.folder.with_suffix(".out").read_text()
    assert f"training goes on from the generation before, of round {before.round}" in said
    assert str(alice.paths.database.with_name("state.db.bak")) in said
    assert blob.with_suffix(".damaged").exists()
    assert alice.rounds()[0].round == before.round
    assert alice.rounds()[0].steps == alice.config.steps_per_round
    assert records > 1
    assert "Traceback" not in said
    assert alice.stop() == 0
