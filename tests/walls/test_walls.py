"""Rules of the tree that no linter of the trade knows. Each one reads the source as text or as a syntax tree."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("p2pfinetune", "peerd", "bootstrap")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# The outermost seams: a thread, process or task boundary, where an unknown error has to become a value or a log line. `peerd.machine.boundary` is the daemon's own.
# And `p2pfinetune.data.formats.seam`: whatever a library raises over a file of a stranger is a reason in the report.
BROAD_EXCEPTS_ALLOWED = 8

QUICK_MODULES = (
    "peerd",
    "peerd.cli",
    "peerd.control.api",
    "peerd.control.client",
    "peerd.status",
    "peerd.control.panels",
    "peerd.config",
    "p2pfinetune.cli",
    "p2pfinetune.options",
)


def trees() -> list[tuple[Path, ast.Module]]:
    return [(path.relative_to(ROOT), ast.parse(path.read_text())) for path in SOURCES]


def test_there_is_source_to_check() -> None:
    assert len(SOURCES) > 40


@pytest.mark.parametrize("module", QUICK_MODULES)
def test_a_quick_module_never_loads_torch(module: str) -> None:
    code = (
        f"import sys, {module}; print(sorted({{'torch', 'transformers', 'peft', 'libp2p', 'trio'}} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_broad_excepts_stand_at_the_outermost_seams_only_and_never_swallow() -> None:
    broad = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                kind = ast.unparse(node.type) if node.type else "everything"
                if kind in {"everything", "Exception", "BaseException"}:
                    broad.append(f"{path}:{node.lineno}")
                    assert not all(isinstance(line, ast.Pass) for line in node.body), f"{path}:{node.lineno} swallows"

    assert len(broad) <= BROAD_EXCEPTS_ALLOWED, broad


def test_nothing_is_pickled() -> None:
    pattern = re.compile(r"\b(pickle|torch\.load|torch\.save|joblib|shelve|marshal)\b")
    guilty = [f"{p.relative_to(ROOT)}" for p in SOURCES if pattern.search(strip_prose(p))]

    assert guilty == []


def strip_prose(path: Path) -> str:
    """The code without comments and docstrings, which may speak of what the code must not do."""
    return "\n".join(ast.unparse(node) for node in without_docstrings(ast.parse(path.read_text())).body)


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if (
            isinstance(body, list)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
        ):
            body[0] = ast.Pass()
    return tree


def test_an_envelope_is_made_by_whoever_verifies_it_and_by_nobody_else() -> None:
    """Holding one says that its signature was verified."""
    made = {str(p.relative_to(ROOT)) for p in SOURCES if re.search(r"\bEnvelope\(", strip_prose(p))}

    assert made == {"peerd/wire/envelope.py"}


def test_tasks_are_structured() -> None:
    pattern = re.compile(r"asyncio\.(create_task|gather|ensure_future)\b|loop\.create_task\b")
    guilty = [f"{p.relative_to(ROOT)}" for p in SOURCES if pattern.search(strip_prose(p))]

    assert guilty in ([], ["peerd/net/libp2p/bridge.py"])


PRIVATE_OF_TORCH = re.compile(
    r"\btorch(\.\w+)*\._[a-zA-Z]|getattr\(torch[\w.]*, '_|\bfrom torch[\w.]* import ([\w, ]*\b)?_"
)


def test_nothing_is_asked_of_torch_by_a_private_name() -> None:
    guilty = [f"{p.relative_to(ROOT)}" for p in SOURCES if PRIVATE_OF_TORCH.search(strip_prose(p))]

    assert guilty == []


@pytest.mark.parametrize(
    "code",
    [
        "torch.cpu._is_amx_tile_supported()",
        "torch._C.x",
        "getattr(torch.cpu, '_is_amx_tile_supported', None)",
        "from torch import _C",
        "from torch.cpu import is_available, _is_amx_tile_supported",
        "import torch._dynamo",
    ],
)
def test_the_wall_sees_a_private_name_of_torch(code: str) -> None:
    assert PRIVATE_OF_TORCH.search(code)


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_test_runs_what_multiplies_a_second_time_with_the_units_of_newer_processors_masked() -> None:
    done = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True)

    (masked,) = [line for line in done.stdout.splitlines() if '-m "numeric and not slow"' in line]
    assert "ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2" in masked


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path) for path, tree in trees() if not ast.get_docstring(tree) and tree.body]

    assert silent == []


def test_files_hold_one_idea() -> None:
    """What a file says at its head of how it works is no part of its length."""
    heads = {path: tree.body[0].end_lineno or 0 for path, tree in trees() if tree.body}
    long = [str(path) for path in heads if len((ROOT / path).read_text().splitlines()) - heads[path] > 450]

    assert long == []


def test_functions_stay_small() -> None:
    long = []
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno
                if length > 70:
                    long.append(f"{path}:{node.lineno} {node.name} ({length} lines)")

    assert long == []


def test_plug_ins_load_without_torch() -> None:
    code = (
        "import sys\n"
        "from p2pfinetune.codec import CODECS\nfrom p2pfinetune.merge import RULES\nfrom p2pfinetune.trust import SCHEMES\n"
        "found = [r.find(n) for r in (CODECS, RULES, SCHEMES) for n in r.names()]\n"
        "assert len(found) >= 11, found\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    found = subprocess.run(
        ["git", "grep", "-nIE", r"(^|[^A-Za-z0-9_.])/(work|farm|root|home/[a-z]+)/", "--", ".", ":!tests/walls"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert found.stdout == ""


PLUG_IN_PACKAGES = (
    "p2pfinetune/training/trainers",
    "p2pfinetune/trust",
    "p2pfinetune/merge",
    "p2pfinetune/codec",
    "peerd/discovery",
    "peerd/control/panels",
)


def imported(tree: ast.Module) -> set[str]:
    """Modules named by import statements anywhere in a file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", PLUG_IN_PACKAGES)
def test_a_plug_in_never_imports_another_plug_in(package: str) -> None:
    dotted = package.replace("/", ".")
    plug_ins = {path.stem for path in (ROOT / package).glob("*.py") if not path.stem.startswith("_")}
    assert plug_ins

    for name in plug_ins:
        others = {f"{dotted}.{other}" for other in plug_ins - {name}}
        assert not imported(ast.parse((ROOT / package / f"{name}.py").read_text())) & others


def test_the_core_imports_nothing_but_values() -> None:
    allowed = (
        "p2pfinetune.names",
        "p2pfinetune.options",
        "p2pfinetune.round.figures",
        "peerd.config",
        "peerd.wire.messages",
        "peerd.wire.places",
        "peerd.core",
        "peerd.pacing",
        "typing",
        "msgspec",
        "collections",
        "__future__",
        "enum",
        "hashlib",
        "ipaddress",
        "math",
        "functools",
        "dataclasses",
    )
    foreign = {
        f"{path.name}: {module}"
        for path in (ROOT / "peerd/core").glob("*.py")
        for module in imported(ast.parse(path.read_text()))
        if not module.startswith(allowed)
    }

    assert foreign == set()


def test_no_two_classes_have_one_name() -> None:
    names = [node.name for _, tree in trees() for node in tree.body if isinstance(node, ast.ClassDef)]

    assert {name for name in names if names.count(name) > 1} == set()
