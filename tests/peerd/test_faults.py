"""Fault points: off unless armed, strictly parsed, and complete in the source."""

import ast
import errno
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfinetune.system import durable
from peerd.errors import UsageError
from peerd.machine import faults
from peerd.machine.faults import POINTS, STEPS, TRANSACTIONS, VARIABLE, around, of_successor, parsed, reached

PEERD = Path(faults.__file__).parents[1]
DURABLE = {"fsync", "replace", "link", "unlink", "rename", "truncate", "write_bytes", "copyfile", "touch"}


@pytest.fixture(autouse=True)
def disarmed():
    yield
    faults.arm({})


def arm(text):
    faults.arm({VARIABLE: text})


def run(code, text):
    """In a process of its own."""
    code = f"import os; from peerd.machine import faults; faults.arm(os.environ); {code}"
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, VARIABLE: text},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_happens_where_nothing_is_armed():
    faults.arm({})

    for point in POINTS:
        reached(point)
    assert faults.warning() == ""


@pytest.mark.parametrize(
    ("range_", "struck"),
    [("", [1]), ("@3", [3]), ("@2+", [2, 3, 4, 5]), ("@2-4", [2, 3, 4])],
)
def test_a_fault_strikes_at_its_times_and_at_no_other(range_, struck):
    arm(f"blob.rename.before=enospc{range_}")
    found = []
    for time in range(1, 6):
        reached("blob.rename.after")
        try:
            reached("blob.rename.before")
        except OSError as error:
            found.append((time, error.errno))

    assert found == [(time, errno.ENOSPC) for time in struck]


def test_the_points_of_a_pattern_are_counted_together():
    arm("blob.*=eio@3")
    reached("blob.rename.before")
    reached("config.rename.before")
    reached("blob.sync.after")
    with pytest.raises(OSError, match=r"injected at blob\.append\.before"), around("blob.append"):
        pytest.fail("the body ran")


def test_a_body_that_raises_has_no_after():
    arm("blob.rename.after=eio")
    with pytest.raises(KeyError), around("blob.rename"):
        raise KeyError


def test_a_process_says_that_it_will_fail_and_is_killed_at_the_point():
    done = run(
        "print(faults.warning(), flush=True); faults.reached('blob.sync.before'); print('went on')",
        "blob.sync.before=kill",
    )

    assert done.returncode == -signal.SIGKILL
    assert "blob.sync.before=kill" in done.stdout
    assert "went on" not in done.stdout


def test_a_process_is_stopped_at_the_point():
    code = "import os; from peerd.machine import faults; faults.arm(os.environ); faults.reached('blob.sync.before')"
    with subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, VARIABLE: "blob.sync.before=stop"}
    ) as process:
        seen = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        process.kill()

    assert seen.si_code == os.CLD_STOPPED


@pytest.mark.parametrize(
    "wrong",
    [
        "blob.rename.before",
        "blob.rename.before=explode",
        "blob.rename.before=kill@0",
        "blob.rename.before=kill@",
        "blob.rename.before=kill@two",
        "blob.rename.before=kill,",
        "blob.renam.before=kill",
        "blob.rename=kill",
        "Blob.rename.before=kill",
        " blob.rename.before=kill",
    ],
)
def test_a_fault_that_is_not_understood_is_an_error_of_the_user(wrong):
    with pytest.raises(UsageError, match=VARIABLE):
        parsed(wrong)


def test_a_fault_of_the_daemon_never_strikes_in_the_worker_nor_the_other_way_round():
    daemons = {point for point in POINTS if not point.startswith("worker.")}

    assert parsed("*=kill")[0].points == daemons
    assert parsed("*.before=kill")[0].points == {point for point in daemons if point.endswith(".before")}
    assert parsed("worker.*=kill")[0].points == POINTS - daemons


def test_the_successor_of_a_dead_worker_meets_only_faults_that_last():
    text = "worker.answer.before=kill@2,worker.best.before=enospc@1+,blob.sync.after=kill"

    assert of_successor({VARIABLE: text, "HOME": "h"}) == {VARIABLE: "worker.best.before=enospc@1+", "HOME": "h"}
    assert of_successor({"HOME": "h"}) == {"HOME": "h"}


def sources():
    return [(path.relative_to(PEERD), ast.parse(path.read_text())) for path in sorted(PEERD.rglob("*.py"))]


WHOLE = {"write_whole": durable.WRITE_STEPS, "create_whole": durable.CREATE_STEPS, "settle": durable.SETTLE_STEPS}


def steps_in(tree):
    """Literal names given to `around`, and those of a file that is written whole; `*`: what an f-string puts in."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (steps := WHOLE.get(ast.unparse(node.func))):
            for keyword in node.keywords:
                if keyword.arg == "step":
                    assert ast.unparse(keyword.value.func) == "within"
                    yield from (f"{keyword.value.args[0].value}.{step}" for step in steps)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"around", "faults.around"}:
            (name,) = node.args
            if isinstance(name, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "*" for part in name.values)
            else:
                yield name.value


def test_every_step_that_is_declared_stands_in_the_source_and_no_other_does():
    found = {step for path, tree in sources() for step in steps_in(tree)}
    transactions = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            is_write = isinstance(node, ast.Call) and ast.unparse(node.func) in {"self._writing", "self._save_document"}
            if is_write and node.args and isinstance(node.args[0], ast.Constant):
                transactions.add(node.args[0].value)

    assert transactions == set(TRANSACTIONS)
    assert {s for s in found if "*" in s} == {"rows.*.begin", "rows.*.commit", "*.*"}
    assert {s for s in found if "*" not in s} == {s for s in STEPS if not s.startswith("rows.")}


def test_points_are_reached_in_pairs_alone():
    calls = [
        (path, ast.unparse(node.func))
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("reached")
    ]

    assert calls == [(Path("machine/faults.py"), "reached")] * 2


def test_points_of_the_worker_stand_in_the_worker_process_alone():
    places = {path for path, tree in sources() if any(step.startswith("worker.") for step in steps_in(tree))}

    assert places == {Path("worker/child.py"), Path("worker/jobs.py")}


def test_whatever_the_store_does_for_good_stands_between_two_points():
    naked = []
    for path, tree in sources():
        if path.parts[0] != "store":
            continue
        covered = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.With) and any("around(" in ast.unparse(item) for item in node.items):
                covered |= {id(inner) for inner in itertools.chain.from_iterable(map(ast.walk, node.body))}
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and id(node) not in covered]
        naked += [f"{path}: {ast.unparse(call)}" for call in calls if is_durable(call)]

    assert sorted(naked) == [
        "store/blobs.py: target.replace(file)",  # cleaning up
    ]


def is_durable(call):
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "execute":
        return bool(re.match(r"'(COMMIT|BEGIN|PRAGMA wal_checkpoint)", ast.unparse(call.args[0])))
    if name == "replace" and call.keywords:
        return False  # of fields of a record
    if name in WHOLE:
        return all(keyword.arg != "step" for keyword in call.keywords)
    return name in DURABLE or name == "sync_folder"
