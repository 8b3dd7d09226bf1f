"""A code folder is read without what its ignore files name, what was built, and what others wrote, each with its reason."""

from __future__ import annotations

import subprocess
import time

import pytest

from p2pfinetune.data.files import FoundFile, Skipped, walk
from p2pfinetune.data.ignored import BUILT, IGNORED, INSTALLED, MAX_LINES, IgnoreRules, is_bearable

RULES = {
    ".gitignore": "# made\n*.log\n!keep.log\n/build/\ndoc/**/*.html\n\\#odd\ntmp\nsecret?.txt\n[ab].out\n!\n\\\nspaced\\ \n",
    "sub/.gitignore": "!debug.log\n/only-here\nbuild\n*.md\n!README.md\n",
    "sub/deep/.gitignore": "*\n!*.py\n",
    "other/.gitignore": "**/cache/\nlogs/*.txt\n!logs/important.txt\n",
    ".git/info/exclude": "private.txt\n",
}
FILES = (
    "a.log", "keep.log", "build/x", "builds/x", "doc/x.html", "doc/y/z.html", "html/x.html", "#odd", "tmp", "x/tmp/y",
    "secret1.txt", "secret12.txt", "a.out", "c.out", "private.txt", "sub/debug.log", "sub/a.log", "sub/only-here",
    "sub/x/only-here", "sub/build/x", "sub/note.md", "sub/README.md", "sub/deep/a.py", "sub/deep/b.txt", "sub/deep/d/e.py",
    "other/a/cache/x", "other/cache", "other/logs/a.txt", "other/logs/important.txt", "sub/x/keep.log", "spaced ",
)  # fmt: skip


def make(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def read(folder):
    return {str(found.path.relative_to(folder)) for found in walk([folder]) if isinstance(found, FoundFile)}


def left_out(folder):
    found = {str(one.path.relative_to(folder)): one.reason for one in walk([folder]) if isinstance(one, Skipped)}
    return {path: reason for path, reason in found.items() if reason != "hidden"}


def test_what_git_ignores_is_ignored(tmp_path):
    make(tmp_path, dict.fromkeys(FILES, "text"))
    try:
        subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    make(tmp_path, RULES)
    listed = subprocess.run(
        ["git", "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")

    assert read(tmp_path) == {name for name in listed if name and not name.endswith(".gitignore")}
    assert set(left_out(tmp_path).values()) == {IGNORED}


def test_what_was_built_or_installed_is_left_out_of_projects_and_of_nothing_else(tmp_path):
    signs = {
        "rust/Cargo.toml": "target", "java/pom.xml": "target", "js/package.json": "dist", "py/pyproject.toml": "build",
        "net/App.csproj": "obj", "go/go.mod": "vendor", "ios/Podfile": "Pods",
    }  # fmt: skip
    make(tmp_path, dict.fromkeys(signs, "a project"))
    make(tmp_path, {f"{sign.partition('/')[0]}/{folder}/x.txt": "made" for sign, folder in signs.items()})
    make(tmp_path, {"js/node_modules/a/x.js": "theirs", "py/it.egg-info/PKG": "made", "py/.venv/pyvenv.cfg": "home"})
    make(tmp_path, {f"life/{name}/note.txt": "mine" for name in ("target", "build", "vendor", "dist", "out", "bin")})
    make(tmp_path, {"py/build.py": "mine", "rust/src/target.txt": "mine", "py/__pycache__/x.txt": "made"})

    assert read(tmp_path) == {
        *signs, *(f"life/{name}/note.txt" for name in ("target", "build", "vendor", "dist", "out", "bin")),
        "py/build.py", "rust/src/target.txt",
    }  # fmt: skip
    assert left_out(tmp_path) == {
        "rust/target": BUILT, "java/target": BUILT, "js/dist": BUILT, "py/build": BUILT, "net/obj": BUILT,
        "go/vendor": INSTALLED, "ios/Pods": INSTALLED, "js/node_modules": INSTALLED, "py/it.egg-info": INSTALLED,
        "py/__pycache__": INSTALLED,
    }  # fmt: skip


def test_what_somebody_names_is_read_whatever_ignores_it(tmp_path):
    make(
        tmp_path,
        {".gitignore": "private\n*.txt\n", "private/a.md": "mine", "b.txt": "mine", "node_modules/c.js": "theirs"},
    )
    make(tmp_path, {"venv/pyvenv.cfg": "home = x", "venv/notes/d.md": "mine"})
    named = [tmp_path, tmp_path / "private", tmp_path / "b.txt", tmp_path / "node_modules", tmp_path / "venv"]
    found = [one.path.name for one in walk(named) if isinstance(one, FoundFile)]

    assert found == ["a.md", "b.txt", "c.js", "d.md", "pyvenv.cfg"]


def test_text_is_kept_out_of_training_alone_by_a_file_of_its_own(tmp_path):
    make(
        tmp_path,
        {".peerdignore": "diary\n!b.log\n", ".gitignore": "*.log\n", "diary/a.txt": "x", "b.log": "x", "c.log": "x"},
    )

    assert read(tmp_path) == {"b.log"}
    assert left_out(tmp_path) == {"diary": IGNORED, "c.log": IGNORED}


@pytest.mark.parametrize(
    "said", ["a" * 249 + "\n" + "*a" * 100, "**/a" * 60, "\n" * 10_000 + "x", "[" * 200, "\udcff", "*" * 200]
)
def test_a_strangers_ignore_file_holds_up_nobody(tmp_path, said):
    (tmp_path / ".gitignore").write_bytes(said.encode(errors="surrogateescape"))
    name = "a" * 250
    begun = time.process_time()
    rules = IgnoreRules().below(tmp_path, {".gitignore"})
    for i in range(100):
        rules.ignores(tmp_path / name / f"{i}" / name, is_folder=False)

    assert time.process_time() - begun < 1.0
    assert not is_bearable("*a*a*a*a*b")
    assert said.count("\n") < MAX_LINES or not rules.ignores(tmp_path / "x", is_folder=False)
