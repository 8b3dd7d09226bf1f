"""Two real daemons; one of them is attacked by everybody at once and goes on finishing rounds."""

import json
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # starting daemons takes seconds of CPU time each

SECONDS = 20.0
MAX_GROWTH_MIB = 96  # 64 of the network (tests/contract/test_libp2p_floods.py), and what the rounds themselves add
ATTACKS = ("slow-loris", "stream-flood", "window-flood", "huge-prefix", "announcement-flood", "connection-flood")


@pytest.mark.slow
def test_rounds_go_on_and_memory_stays_bounded_under_every_flood_at_once(alice, bob):
    before = alice.until(lambda status: any(n.trust > 0 for n in status.neighbours))
    address = next(a for a in before.addresses if a.startswith("/ip4/127.0.0.1/"))
    daemon = psutil.Process(alice.process.pid)
    resting, most, done = daemon.memory_info().rss, 0, {}
    attackers = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.attackers", name, address, "--seconds", str(SECONDS)),
                *("--network", before.network, "--source", f"127.0.0.{number}"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        for number, name in enumerate(ATTACKS, start=2)
    ]
    try:
        while any(attacker.poll() is None for attacker in attackers):
            most = max(most, daemon.memory_info().rss)
            time.sleep(0.1)
        during = alice.until(lambda _: True)
        for name, attacker in zip(ATTACKS, attackers, strict=True):
            done[name] = json.loads(attacker.stdout.read())
    finally:
        for attacker in attackers:
            attacker.kill()
            attacker.stdout.close()
            attacker.wait()

    assert all(set(counts) - {"cut"} for counts in done.values()), f"not all attacked: {done}"
    assert during.round > before.round
    assert during.turned_away["connections-refused"] > 0
    assert during.turned_away["streams-refused"] > 0
    assert "turned away" in alice.run("status").stdout
    assert (most - resting) / 2**20 <= MAX_GROWTH_MIB
    after = alice.until(lambda status: status.round >= during.round + 2)
    assert any(neighbour.name == "bob" and neighbour.trust > 0 for neighbour in after.neighbours)
    assert after.worker.restarts == 0
