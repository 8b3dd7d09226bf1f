"""Dead children of the first process: strangers are buried, our own are left to those who wait for them."""

import os
import shutil
import subprocess
import sys

import pytest

from p2pfinetune.system import interpreter
from peerd.machine.orphans import Undertaker, bury_strangers, dead_children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux alone gives orphans to the first")


def dead_child():
    """A child that has ended, and for which nobody has waited."""
    child = os.fork()
    if child == 0:
        os._exit(7)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    return child


def test_a_dead_stranger_is_buried_at_the_second_look():
    child = dead_child()
    undertaker = Undertaker(list)

    assert child in dead_children(os.getpid())
    assert undertaker.look() == []
    assert undertaker.look() == [child]
    assert child not in dead_children(os.getpid())


def test_the_exit_status_of_a_child_of_ours_is_never_taken():
    child = dead_child()
    undertaker = Undertaker(lambda: [child])

    assert [undertaker.look() for _ in range(3)] == [[], [], []]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_who_was_buried_by_somebody_else_between_two_looks_is_no_trouble():
    child = dead_child()
    undertaker = Undertaker(list)
    undertaker.look()
    os.waitpid(child, 0)

    assert undertaker.look() == []


def test_a_process_that_is_not_the_first_buries_nobody():
    assert bury_strangers(list) is False


AS_FIRST = """
import os, subprocess, sys, time
from peerd.machine.orphans import bury_strangers, dead_children
assert os.getpid() == 1
ours = subprocess.Popen([sys.executable, '-P', '-c', 'raise SystemExit(9)'])
assert bury_strangers(lambda: [ours.pid], look_seconds=0.02)
grandchild = "import os, time; print(os.getppid()) if os.fork() else time.sleep(0.05)"
for _ in range(3):
    subprocess.run([sys.executable, '-P', '-c', grandchild], check=True, stdout=subprocess.DEVNULL)
there, deadline = lambda: {int(name) for name in os.listdir('/proc') if name.isdecimal()}, time.monotonic() + 30
while there() != {1, ours.pid} and time.monotonic() < deadline:
    time.sleep(0.02)
print(there() == {1, ours.pid}, dead_children(1) == [ours.pid], ours.wait())
"""


def test_the_first_process_of_a_namespace_buries_orphans_and_waits_for_its_own():
    unshare = shutil.which("unshare")
    command = [unshare or "unshare", "--pid", "--fork", "--mount-proc"]
    if unshare is None or subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a namespace of processes: unshare --pid --fork --mount-proc")
    done = subprocess.run(
        [*command, *interpreter.command("-c", AS_FIRST)], capture_output=True, text=True, check=False, timeout=60
    )

    assert (done.stdout, done.stderr) == ("True True 9\n", "")
