"""Which tests cover which file: `python scripts/covers.py [FILE...]`, every file of the program if none is named.

A test covers a module that it imports, or names in a string, as one that is patched; what stands in tests/support and
in the conftest beside a test counts for the test. A module that no test names is covered through those that import it,
which is said. The map is made when it is asked for, so it is never old; a wall holds that every file has a test.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("p2pfinetune", "peerd", "bootstrap")
PATCHED = re.compile(r"\b(?:p2pfinetune|peerd|bootstrap)(?:\.[a-z_0-9]\w*)+")
IMPORTED = re.compile(r"^ *from ([a-z]\w+(?:\.\w+)*) import (?:\(([^)]*)\)|([^\n#]*))", re.MULTILINE)
PAGE = re.compile(r"[\w-]+\.(?:js|css|html)\b")
STATIC = (".js", ".css", ".html")


def main() -> int:
    """Print the map; the exit code is 1 if a file that was named is covered by nothing."""
    known = covered()
    named = [str((Path.cwd() / name).resolve().relative_to(ROOT)) for name in sys.argv[1:]]
    bare = False
    for file in named or sorted(known):
        lines = known.get(file, [])
        bare = bare or not lines
        print(f"{file}\n" + "".join(f"    {line}\n" for line in lines or ["nothing"]), end="")
    return 1 if named and bare else 0


def covered() -> Mapping[str, list[str]]:
    """Every file of the program, and the tests of it: `tests/...`, or `through FILE` if none names it itself."""
    sources = {str(path.relative_to(ROOT)): path for path in program()}
    tests = {str(path.relative_to(ROOT)): names_with_helpers(path) for path in sorted(ROOT.glob("tests/**/test_*.py"))}
    found = {file: [test for test, names in tests.items() if reaches(names, path)] for file, path in sources.items()}
    bare = [file for file, lines in found.items() if not lines]
    while bare:  # further from the tests with each step
        new = {file: through(sources[file], file, sources, found) for file in bare}
        found |= {file: lines for file, lines in new.items() if lines}
        bare, before = [file for file in bare if not found[file]], bare
        if bare == before:
            break
    return found


def through(path: Path, file: str, sources: Mapping[str, Path], found: Mapping[str, list[str]]) -> list[str]:
    """Files that use this one, and are covered; plug-ins are used by the package that finds them."""
    users = [other for other, at in sources.items() if other != file and found[other] and reaches(names_in(at), path)]
    package = str(path.with_name("__init__.py").relative_to(ROOT))
    if not users and found.get(package):
        users = [package]
    return [f"through {user}" for user in users]


def program() -> list[Path]:
    """Files of the program that do something: packages that only say what they are for are left out."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    pages = [path for path in sorted((ROOT / "peerd").rglob("*")) if path.suffix in STATIC]
    return [path for path in files if has_code(path)] + pages


def has_code(path: Path) -> bool:
    """Whether there is more in a file than its docstring and imports."""
    body = ast.parse(path.read_text()).body
    return any(not isinstance(node, ast.Expr | ast.Import | ast.ImportFrom | ast.If) for node in body)


def reaches(names: frozenset[str], path: Path) -> bool:
    """Whether names that a file uses reach this one, or something in it."""
    if path.suffix in STATIC:
        return path.name in names
    if path.name == "__init__.py":
        return not defined(path).isdisjoint(names)
    return dotted(path) in beginnings(names)


@cache
def dotted(path: Path) -> str:
    """As it is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def beginnings(names: frozenset[str]) -> frozenset[str]:
    """Of dotted names, themselves included: `a.b.c` begins with `a`, `a.b` and `a.b.c`."""
    parts = [name.split(".") for name in names]
    return frozenset(".".join(some[:length]) for some in parts for length in range(1, len(some) + 1))


@cache
def defined(path: Path) -> frozenset[str]:
    """Dotted names of what a package offers itself."""
    package = ".".join(path.relative_to(ROOT).parent.parts)
    found = set()
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.ImportFrom(names=names):
                found |= {name.asname or name.name for name in names}
    return frozenset({package, *(f"{package}.{name}" for name in found)})


def names_with_helpers(path: Path) -> frozenset[str]:
    """What a test names, its helpers and conftest files included."""
    names = set(names_in(path))
    conftests = [folder / "conftest.py" for folder in path.parents if (folder / "conftest.py").is_file()]
    seen: set[Path] = set()
    left = [*conftests, *helpers(names)]
    while left:
        helper = left.pop()
        if helper not in seen:
            seen.add(helper)
            names |= names_in(helper)
            left += helpers(names_in(helper))
    return frozenset(names)


def helpers(names: Iterable[str]) -> list[Path]:
    """Files of tests that are imported."""
    parts = [name.split(".") for name in names if name.startswith("tests.")]
    places = [ROOT.joinpath(*some[:length]).with_suffix(".py") for some in parts for length in range(2, len(some) + 1)]
    return [place for place in places if place.is_file() and not place.name.startswith("test_")]


@cache
def names_in(path: Path) -> frozenset[str]:
    """Dotted names that a file imports or has in its text; names of pages and scripts that it mentions."""
    text = path.read_text()
    found = set(PAGE.findall(text))
    if path.suffix in STATIC:
        return frozenset(found)
    found |= set(PATCHED.findall(text))
    for package, several, one in IMPORTED.findall(text):
        names = (name.split(" as ")[0].strip() for line in (several or one).splitlines() for name in line.split(","))
        found |= {f"{package}.{name}" for name in names if name.isidentifier()}
    return frozenset(found)


if __name__ == "__main__":
    sys.exit(main())
