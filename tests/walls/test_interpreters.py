"""Every Python that the project starts is started by `p2pfinetune.system.interpreter`, so that none looks into the current folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = [path for package in ("p2pfinetune", "peerd", "bootstrap") for path in sorted((ROOT / package).rglob("*.py"))]
TOOLS = [path for folder in ("benchmarks", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
STARTS = {"Popen", "create_subprocess_exec", "create_subprocess_shell", "run_process", "open_process"}
STARTS_IN_SUBPROCESS = {"run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
STARTS_IN_OS = re.compile(r"\bos\.(exec\w+|spawn\w+|posix_spawn\w*|system|popen|fork\w*)\b")
UNDER_ANOTHER_NAME = re.compile(r"from (subprocess|sys|os|multiprocessing)\b.* import ")
STARTED_BY_A_LIBRARY = re.compile(r"\bmultiprocessing\.\w|\bProcessPoolExecutor\(")


def starts(tree: ast.Module) -> list[ast.Call]:
    """Calls that start a process."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called, of = node.func.attr, ast.unparse(node.func.value)
            if called in STARTS or (of == "subprocess" and called in STARTS_IN_SUBPROCESS):
                found.append(node)
    return found


def wrong(text: str) -> str:
    """What of a source file could start a Python that these walls do not see; empty where there is nothing."""
    if UNDER_ANOTHER_NAME.search(text):
        return "what starts a process is called by its full name, so that it is seen here"
    if STARTS_IN_OS.search(text):
        return "a process without a folder and an environment of its own"
    if STARTED_BY_A_LIBRARY.search(text) and "interpreter.guard_children()" not in text:
        return "children that a library starts, and nobody guarded them"
    return ""


def test_nothing_starts_a_process_unseen() -> None:
    found = {str(path.relative_to(ROOT)): fault for path in [*OURS, *TOOLS] if (fault := wrong(path.read_text()))}

    assert found == {}


@pytest.mark.parametrize(
    "code",
    [
        "from sys import executable",
        "from subprocess import run",
        "    from subprocess import Popen as start",
        "from multiprocessing import Process",
        "from multiprocessing.pool import Pool",
        "multiprocessing.Pool(2)",
        "concurrent.futures.ProcessPoolExecutor(2)",
        "os.execv(python, words)",
        "os.fork()",
    ],
)
def test_the_wall_sees_what_starts_a_process(code: str) -> None:
    assert wrong(code)


def test_the_command_line_of_an_interpreter_is_made_in_one_place() -> None:
    guilty = [
        str(path.relative_to(ROOT))
        for path in [*OURS, *TOOLS]
        if "sys.executable" in path.read_text() and path.name != "interpreter.py"
    ]

    assert guilty == []


def test_every_process_of_ours_has_a_folder_and_an_environment_of_its_own() -> None:
    places = []
    for path in OURS:
        for call in starts(ast.parse(path.read_text())):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            places.append(path.name)
            assert given.get("cwd") == "interpreter.FOLDER", f"{path}:{call.lineno}"
            assert "environment" in given.get("env", ""), f"{path}:{call.lineno}"

    assert sorted(places) == ["from_gguf.py", "models_command.py", "process.py", "processes.py", "start.py"]


def test_tests_start_the_product_as_the_product_starts_itself() -> None:
    bare = re.compile(r"""executable\}?(, |\s)["']?-m["']?(, |\s)["']?(peerd|bootstrap|p2pfinetune)\b""")
    guilty = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if bare.search(line)
    ]

    assert guilty == []
