"""Every Python that the project starts is started by `p2pfinetune.interpreter`, so that none looks into the current folder."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
OURS = [path for package in ("p2pfinetune", "peerd", "bootstrap") for path in sorted((ROOT / package).rglob("*.py"))]
TOOLS = [path for folder in ("benchmarks", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
STARTS = {"Popen", "create_subprocess_exec", "create_subprocess_shell", "run_process", "open_process"}
STARTS_IN_SUBPROCESS = {"run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
STARTS_IN_OS = re.compile(r"\bos\.(exec\w+|spawn\w+|posix_spawn\w*|system|popen)\b")


def starts(tree: ast.Module) -> list[ast.Call]:
    """Calls that start a process."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called, of = node.func.attr, ast.unparse(node.func.value)
            if called in STARTS or (of == "subprocess" and called in STARTS_IN_SUBPROCESS):
                found.append(node)
    return found


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
        text = path.read_text()
        assert not STARTS_IN_OS.search(text), path
        for call in starts(ast.parse(text)):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            places.append(path.name)
            assert given.get("cwd") == "interpreter.FOLDER", f"{path}:{call.lineno}"
            assert "environment" in given.get("env", ""), f"{path}:{call.lineno}"

    assert sorted(places) == ["life.py", "processes.py", "start.py"]


def test_processes_that_a_library_starts_are_guarded_before() -> None:
    for path in [*OURS, *TOOLS]:
        text = path.read_text()
        if "ProcessPoolExecutor(" in text or "get_context(" in text:
            assert "interpreter.guard_children()" in text, path


def test_tests_start_the_product_as_the_product_starts_itself() -> None:
    bare = re.compile(r"""executable\}?(, |\s)["']?-m["']?(, |\s)["']?(peerd|bootstrap|p2pfinetune)\b""")
    guilty = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if bare.search(line)
    ]

    assert guilty == []
