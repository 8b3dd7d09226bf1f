"""`kill -9` at any moment: the daemon goes on by itself, with the same numbers as a twin that was never killed."""

import shutil

import pytest

from peerd.wire.keys import PeerKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]  # starting daemons takes seconds of CPU time each

ROUNDS = 4
STEPS = 80  # of a round: a second at least, so that a look in every fifth of one finds it training


@pytest.fixture(scope="module")
def poor(town):
    """Has next to no text."""
    home = town.home("poor")
    for file in list((town.folder / "poor-text").iterdir())[1:]:
        file.unlink()
    return home.start()


@pytest.fixture(scope="module")
def twin(town, poor):
    """Runs through; its only bootstrap node is dead, which must not matter."""
    nobody = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWD8C3E8c8sFpJ8TbvNjKniZFpCugjiD6HaGootVHnWU1R"
    home = town.home("twin", rounds=ROUNDS, steps_per_round=STEPS, bootstrap=(nobody,))
    PeerKey.load_or_create(home.paths.identity)
    return home.start()


@pytest.fixture(scope="module")
def killed(town, twin):
    """The same identity, text and options."""
    home = town.home("killed", rounds=ROUNDS, steps_per_round=STEPS)
    shutil.copy2(twin.paths.identity, home.paths.identity)
    home.change(data=twin.config.data)
    return home.start()


def numbers(records):
    """Everything that does not depend on the clock or the network."""
    return [(r.round, r.loss_train, r.loss_trust, r.guard_own, r.guard_personal, r.row, r.steps) for r in records]


def test_a_killed_daemon_ends_with_the_state_of_its_twin(twin, killed, is_gone):
    killed.until(lambda status: 2 <= status.round <= ROUNDS and status.worker.state == "training")
    (worker,) = killed.children()
    killed.kill()
    assert killed.paths.socket.exists()  # stale
    assert is_gone(worker)
    killed.start()
    killed.until(lambda status: status.state == "resting")
    twin.until(lambda status: status.state == "resting")

    assert numbers(killed.rounds()) == numbers(twin.rounds())
    assert killed.stop() == 0
    assert twin.stop() == 0
    assert killed.checkpoint() == twin.checkpoint()


def test_a_dead_bootstrap_node_is_said_and_does_not_matter(twin):
    assert "bootstrap node /ip4/127.0.0.1/tcp/9" in twin.said()
    assert "training rests: all 4 rounds are done" in twin.said()


def test_too_little_text_is_the_users_to_mend(poor):
    assert poor.process.wait(60) == 2
    assert "too little text" in poor.said()
    assert "Traceback" not in poor.said()
