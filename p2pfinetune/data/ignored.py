"""What a folder of code says is not its text: ignore files, what was built, and what others wrote. Reads ignore files.

`.gitignore` is obeyed in any folder, in a git repository or not: whoever wrote it meant that these files are made or
private. Nested ones, negations and `.git/info/exclude` work as git has it; what stands above a folder that somebody
named, or is ignored on the whole machine, does not reach into it. `.peerdignore` has the same form, for text that is
to be kept out of training alone; `.ignore`, which is made for searching, is not obeyed.

A repository may come from a stranger, and a glob with many stars takes for ever, so lines with more than a few are not
obeyed, nor is what is too long.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError
from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

IGNORED, BUILT, INSTALLED = "ignored by .gitignore", "build outputs", "installed packages"
IGNORE_FILES = (".gitignore", ".peerdignore")
OF_A_REPOSITORY = Path(".git/info/exclude")
MAX_BYTES, MAX_LINES, MAX_LINE = 1 << 20, 5000, 250  # of an ignore file
MOST_STARS = 2  # in one segment of a line: each more takes as many times as long as a name has characters
SEVERAL_STARS = re.compile(r"\*\*+")
ANYWHERE: Mapping[str, str] = {
    "node_modules": INSTALLED, "site-packages": INSTALLED, "bower_components": INSTALLED, "jspm_packages": INSTALLED,
    "__pypackages__": INSTALLED, "elm-stuff": INSTALLED, "__pycache__": INSTALLED,
    "dist-newstyle": BUILT, "zig-out": BUILT, "zig-cache": BUILT, "bazel-out": BUILT, "DerivedData": BUILT,
    "htmlcov": BUILT,
}  # fmt: skip
"""Folders that are called so for nothing else, with the reason."""
BESIDE: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("target", BUILT, re.compile(r"Cargo\.toml|pom\.xml|build\.sbt|project\.clj")),
    ("build", BUILT, re.compile(
        r"(build|settings)\.gradle(\.kts)?|CMakeLists\.txt|setup\.(py|cfg)|pyproject\.toml|package\.json|pubspec\.yaml"
    )),
    ("dist", BUILT, re.compile(r"package\.json|pyproject\.toml|setup\.(py|cfg)|[\w.-]+\.cabal")),
    ("out", BUILT, re.compile(r"package\.json|[\w.-]+\.iml|tsconfig\.json")),
    ("coverage", BUILT, re.compile(r"package\.json")),
    ("bin", BUILT, re.compile(r"[\w.-]+\.(cs|fs|vb)proj")),
    ("obj", BUILT, re.compile(r"[\w.-]+\.(cs|fs|vb)proj")),
    ("_build", BUILT, re.compile(r"mix\.exs|rebar\.config|dune-project|conf\.py|_config\.yml")),
    ("_site", BUILT, re.compile(r"_config\.yml")),
    ("deps", INSTALLED, re.compile(r"mix\.exs|rebar\.config")),
    ("vendor", INSTALLED, re.compile(r"go\.mod|composer\.json|Gemfile|Cargo\.toml|package\.json")),
    ("packages", INSTALLED, re.compile(r"[\w.-]+\.sln")),
    ("Pods", INSTALLED, re.compile(r"Podfile")),
    ("Carthage", INSTALLED, re.compile(r"Cartfile")),
    ("renv", INSTALLED, re.compile(r"renv\.lock")),
)  # fmt: skip
"""Folders that are so if such a file lies beside them."""
EGG = re.compile(r"[\w.-]+\.(egg-info|dist-info|egg)")
VIRTUAL_ENVIRONMENT = "pyvenv.cfg"  # its folder is a Python environment (PEP 405)


def made_or_installed(names: Collection[str]) -> dict[str, str]:
    """Of the names in one folder those that are not read if they are folders, with the reason."""
    found = {name: ANYWHERE[name] for name in names if name in ANYWHERE}
    found |= {name: INSTALLED for name in names if EGG.fullmatch(name)}
    for name, reason, sign in BESIDE:
        if name in names and any(sign.fullmatch(other) for other in names):
            found[name] = reason
    return found


@dataclass(frozen=True, slots=True)
class IgnoreRules:
    """What the ignore files of a folder and of those around it say, the outermost first."""

    rules: tuple[tuple[str, GitIgnoreSpec], ...] = ()
    """The folder with a slash behind it, and what is said in it."""

    def below(self, folder: Path, names: Collection[str]) -> IgnoreRules:
        """With what the ignore files in this folder add. Never raises: a file that cannot be read says nothing."""
        files = [folder / name for name in IGNORE_FILES if name in names]
        if ".git" in names:
            files.insert(0, folder / OF_A_REPOSITORY)
        said = [(f"{folder}/", spec) for file in files if (spec := _read(file)) is not None]
        return IgnoreRules((*self.rules, *said)) if said else self

    def ignores(self, path: Path, *, is_folder: bool) -> bool:
        """Whether the innermost file that says anything of it says so."""
        name = f"{path}/" if is_folder else str(path)
        for folder, spec in reversed(self.rules):
            said = spec.check_file(name.removeprefix(folder)).include
            if said is not None:
                return said
        return False


def _read(file: Path) -> GitIgnoreSpec | None:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
    except OSError:
        return None
    return _spec(data.decode(errors="replace")) if len(data) <= MAX_BYTES else None


@lru_cache(maxsize=256)
def _spec(text: str) -> GitIgnoreSpec | None:
    patterns: list[GitIgnoreSpecPattern] = []
    for line in text.splitlines()[:MAX_LINES]:
        if is_bearable(line):
            try:
                pattern = GitIgnoreSpecPattern(line)
            except GitIgnorePatternError:  # git passes over such lines, too
                continue
            if pattern.include is not None:
                patterns.append(pattern)
    return GitIgnoreSpec(patterns) if patterns else None


def is_bearable(line: str) -> bool:
    """Whether a line takes no longer than its length to compare with a name."""
    return (
        len(line) <= MAX_LINE
        and all(SEVERAL_STARS.sub("*", segment).count("*") <= MOST_STARS for segment in line.split("/"))
        and line.count("**") <= 2 * MOST_STARS
    )
