"""How another Python is started: what it imports never depends on the folder that somebody stands in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2pfinetune.system import interpreter

TRAP = "from pathlib import Path\nPath(__file__).with_suffix('.sprung').touch()\n"
NAMES = ("json", "torch", "typing", "multiprocessing", "random", "msgspec", "p2pfinetune", "peerd", "bootstrap")


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules that tell when they are run."""
    folder = tmp_path / "traps"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(TRAP)
    monkeypatch.chdir(folder)
    return folder


def sprung(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.sprung"))


def test_code_in_the_current_folder_is_not_run(traps: Path) -> None:
    code = "import json, typing, random, sys; sys.exit(9)"
    done = subprocess.run(interpreter.command("-c", code), check=False)

    assert (done.returncode, sprung(traps)) == (9, [])


def test_the_traps_of_these_tests_do_spring(traps: Path) -> None:
    subprocess.run([sys.executable, "-c", "import json"], check=True, env={**os.environ, interpreter.SAFE_PATH: ""})

    assert sprung(traps) == ["json.sprung"]


def test_children_that_a_library_starts_are_guarded_by_the_environment(traps: Path) -> None:
    child = interpreter.environment(os.environ)
    subprocess.run([sys.executable, "-c", "import json, multiprocessing.spawn"], check=True, env=child)

    assert sprung(traps) == []


def test_a_worker_of_a_process_pool_does_not_look_there(traps: Path) -> None:
    code = (
        "import multiprocessing, concurrent.futures; from p2pfinetune.system import interpreter\n"
        "interpreter.guard_children(); context = multiprocessing.get_context('spawn')\n"
        "with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool: print(pool.submit(abs, -4).result())"
    )
    done = subprocess.run(interpreter.command("-c", code), capture_output=True, text=True, check=True)

    assert (done.stdout, sprung(traps)) == ("4\n", [])


def test_an_empty_entry_of_the_search_path_is_dropped_and_a_relative_one_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert interpreter.fixed_path(":/opt/lib::") == "/opt/lib"
    assert interpreter.fixed_path("src:/opt/lib") == f"{tmp_path}/src:/opt/lib"
    assert "PYTHONPATH" not in interpreter.environment({"PYTHONPATH": ":"})


def test_folders_named_relative_to_the_current_one_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = interpreter.environment({"HF_HOME": "models", "TMPDIR": "/tmp", "XDG_CACHE_HOME": "~/c", "PATH": "bin"})

    assert found["HF_HOME"] == f"{tmp_path}/models"
    assert (found["TMPDIR"], found["XDG_CACHE_HOME"], found["PATH"]) == ("/tmp", "~/c", "bin")


def test_a_child_is_as_isolated_as_its_parent() -> None:
    code = "from p2pfinetune.system import interpreter; print(interpreter.command('x')[1:])"

    def flags(*given: str) -> str:
        done = subprocess.run([sys.executable, *given, "-c", code], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert flags() == "['-P', 'x']"
    assert flags("-I") == "['-I', 'x']"
    assert flags("-E", "-s") == "['-P', '-E', '-s', 'x']"


def test_what_python_dash_m_imports_once_ours_runs_is_not_looked_for_there(traps: Path) -> None:
    for name in ("peerd", "bootstrap", "p2pfinetune", "typing"):  # imported there, before a line of ours runs
        (traps / f"{name}.py").unlink()
    for program in ("peerd", "bootstrap", "p2pfinetune"):
        dash_m = [sys.executable, "-m"]  # as a person may type it
        done = subprocess.run([*dash_m, program, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    assert not {"json.sprung", "random.sprung", "msgspec.sprung"} & set(sprung(traps))
