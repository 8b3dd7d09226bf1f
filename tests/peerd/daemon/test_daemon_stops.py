"""`peerd start` ends when it is told to, whatever it is doing, and leaves nothing behind."""

import contextlib
import os
import signal
import socket
import time

import pytest

from peerd.machine import lock
from peerd.machine.ending import ECHO_SECONDS, ORDERLY_SECONDS
from tests.support.processes import is_gone

PROMISED_SECONDS = 15.0

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def assert_nothing_is_left(daemon, children=()):
    assert all(is_gone(child) for child in children)
    assert daemon.left() == []
    assert lock.holder(daemon.paths.lock) is None
    assert "Traceback" not in daemon.said()


@pytest.mark.parametrize("kind", ["slow", "hangs", "hangs merging"])
def test_a_busy_worker_does_not_hold_up_the_end(process, kind):
    daemon = process(kind).start()
    daemon.until(lambda status: status.worker.state in {"training", "collaborating"} and status.round >= 1)
    children = daemon.children()

    code, seconds = daemon.end()

    assert (code, seconds < PROMISED_SECONDS) == (0, True)
    assert len(children) == 1
    assert_nothing_is_left(daemon, children)


def test_a_suspended_worker_does_not_hold_up_the_end(process):
    daemon = process("slow").start()
    daemon.until(lambda status: status.worker.state == "training")
    children = daemon.children()
    os.kill(children[0], signal.SIGSTOP)

    code, seconds = daemon.end()

    assert (code, seconds < PROMISED_SECONDS) == (0, True)
    assert_nothing_is_left(daemon, children)


def test_a_second_signal_ends_it_at_once_and_leaves_nothing_either(process):
    daemon = process("hangs").start()
    daemon.until(lambda status: status.worker.state == "training")
    children = daemon.children()
    os.kill(children[0], signal.SIGSTOP)
    daemon.process.send_signal(signal.SIGTERM)
    while "stopping" not in daemon.said():
        time.sleep(0.01)
    time.sleep(ECHO_SECONDS)

    code, seconds = daemon.end()

    assert (code, seconds < ORDERLY_SECONDS - 2) == (1, True)  # when it would have ended by itself
    assert_nothing_is_left(daemon, children)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_that_come_when_it_has_ended_change_neither_code_nor_last_words(process, number):
    daemon = process("slow").start()
    daemon.until(lambda status: status.worker.state == "training")
    daemon.process.send_signal(signal.SIGTERM)
    while "daemon: stopped" not in daemon.said():
        time.sleep(0.001)
    while daemon.process.poll() is None:
        daemon.process.send_signal(number)
        time.sleep(0.001)

    assert daemon.process.returncode == 0
    assert_nothing_is_left(daemon)


@pytest.mark.parametrize(
    "after", [0.0, 0.4, 0.8, *(pytest.param(later, marks=pytest.mark.slow) for later in (0.2, 0.6, 1.0, 1.3, 1.7))]
)
def test_a_signal_at_any_moment_of_the_start_ends_it(process, after):
    daemon = process("slow").start()
    time.sleep(after)
    children = daemon.children()

    _, seconds = daemon.end()

    assert seconds < PROMISED_SECONDS
    assert_nothing_is_left(daemon, children)


def test_half_open_connections_to_the_control_socket_do_not_hold_up_the_end(process):
    daemon = process("slow").start()
    daemon.until(lambda status: status.worker.state == "training")
    with contextlib.ExitStack() as callers:
        for half in (b"GET /v1/status HTTP/1.1\r\n", b"GET /v1/events HTTP/1.1\r\nHost: peerd\r\n\r\n") * 5:
            caller = callers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            caller.connect(str(daemon.paths.socket))
            caller.send(half)

        code, seconds = daemon.end()

    assert (code, seconds < PROMISED_SECONDS) == (0, True)
    assert_nothing_is_left(daemon)


def test_what_a_killed_daemon_left_is_tidied_by_the_next_start(process):
    daemon = process("slow").start()
    daemon.until(lambda status: status.worker.state == "training")
    children = daemon.children()
    daemon.end(signal.SIGKILL)
    (daemon.folder / ".config.toml.0badcafe.temp").write_text("name = ")
    (daemon.folder / ".identity.key.0badcafe.temp").write_bytes(b"half")
    for of_before in (".identity.key.a1b2c3d4", ".config-a1b2c3d4.toml", "splits.record.part"):
        (daemon.folder / of_before).write_bytes(b"half")
    (daemon.paths.scratch / "123-1.checkpoint").write_bytes(b"half")
    (daemon.paths.blobs / "half.temp").write_bytes(b"half")
    assert daemon.paths.socket.exists()
    assert all(is_gone(child) for child in children)

    daemon.start()
    daemon.until(lambda status: status.worker.state == "training")
    code, _ = daemon.end()

    assert not (daemon.folder / "splits.record.part").exists()
    assert code == 0
    assert_nothing_is_left(daemon)
