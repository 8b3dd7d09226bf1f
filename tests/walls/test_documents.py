"""The documents cannot drift from the code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MATRICES = ("docs/threat-model.md", "docs/reliability.md")
HOW_TOS = {path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/how-to/*.md")}
PAGES = ("docs/may-i-pull-the-plug.md", "docs/who-sees-my-text.md")
"""What people read of the matrices."""


def test_generated_parts_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/reference.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{path.relative_to(ROOT)} -> {target}"
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text())
        if "://" not in target and not (path.parent / target).exists()
    ]

    assert broken == []


@pytest.mark.parametrize("document", [*MATRICES, *PAGES])
def test_every_test_that_a_document_names_exists(document: str) -> None:
    named = _tests_in(document)

    assert named
    assert [f"{file}::{test}" for file, test in named if f"def {test}(" not in _text_of(ROOT / file)] == []


def test_every_kind_of_plug_in_is_documented() -> None:
    registered = {
        package
        for path in (*ROOT.glob("p2pfinetune/**/*.py"), *ROOT.glob("peerd/**/*.py"))
        for package in re.findall(r"\bRegistry\(\s*\"([\w.]+)\"", path.read_text())
    }
    listed = set(re.findall(r"^One file each in `([\w/]+)/`", (ROOT / "docs/plug-ins.md").read_text(), re.MULTILINE))

    assert {package.replace(".", "/") for package in registered} == listed


@pytest.mark.parametrize(
    "document",
    ["README.md", "docs/user-guide.md", "docs/troubleshooting.md", "docs/demo.md", *PAGES, *sorted(HOW_TOS)],
)
def test_every_option_that_people_are_told_to_type_exists(document: str) -> None:
    known = set(re.findall(r"`(--[a-z-]+)", (ROOT / "docs/command-line.md").read_text()))
    told = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (ROOT / document).read_text()))

    assert told - known <= {
        "--help",
        "--version",
        "--no-open",
        "--unix-socket",
        "--lora",
    }  # the last: curl's, llama.cpp's


def test_every_attack_of_the_simulator_is_explained() -> None:
    source = (ROOT / "p2pfinetune/simulation/hostile/attacks.py").read_text()
    kinds = re.findall(r'^        "([a-z-]+)": _', source[source.index("\nKINDS") :], re.MULTILINE)
    table = re.findall(r"^\| (`.*?) \|", (ROOT / "docs/how-to/simulate.md").read_text(), re.MULTILINE)

    assert len(kinds) > 10
    assert [kind for kind in kinds if not any(f"`{kind}`" in row for row in table)] == []


def test_the_first_page_stays_short() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    shown = lines[lines.index("$ make demo") :]

    assert len(lines) <= 120
    assert shown.index("```") <= 15


def test_the_index_names_every_document() -> None:
    named = {
        (ROOT / "docs" / link).resolve() for link in re.findall(r"\]\(([^)#:]+)", _text_of(ROOT / "docs/README.md"))
    }
    documents = {path.resolve() for path in ROOT.glob("docs/**/*.md") if path.parent.name != "adr"}

    assert documents - named == {(ROOT / "docs/README.md").resolve()}
    assert (ROOT / "docs/adr").resolve() in named


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_promises_stands_in_a_matrix_with_the_same_test(page: str) -> None:
    known = {one for matrix in MATRICES for one in _tests_in(matrix)}

    assert [one for one in _tests_in(page) if one not in known] == []


@pytest.mark.parametrize("document", [*MATRICES, *PAGES, "docs/glossary.md"])
def test_no_case_stands_twice_in_a_table(document: str) -> None:
    """Rows come from many hands, and git joins them."""
    twice = []
    for table in re.findall(r"(?:^\|.*\n)+", (ROOT / document).read_text(), re.MULTILINE):
        rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in table.splitlines()]
        assert {len(row) for row in rows} == {len(rows[0])}, f"{document}: a broken table under {rows[0]}"
        cases = [re.sub(r" \(.*\)$", "", row[0].strip()) for row in rows]
        twice += [case for case in cases if cases.count(case) > 1]

    assert twice == []


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs/glossary.md").read_text(), re.MULTILINE)

    assert words == sorted(words)


def test_decisions_are_numbered_without_a_gap_and_each_by_its_own_number() -> None:
    files = sorted((ROOT / "docs/adr").glob("*.md"))

    assert [path.name[:4] for path in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    assert [int(path.read_text().split(".")[0].removeprefix("# ")) for path in files] == list(range(1, len(files) + 1))


def test_links_into_a_document_lead_to_one_of_its_headings() -> None:
    broken = []
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target, place in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", path.read_text()):
            into = path.parent / target if target else path
            if place not in {_anchor(line) for line in re.findall(r"^#+ (.+)$", into.read_text(), re.MULTILINE)}:
                broken.append(f"{path.relative_to(ROOT)} -> {target}#{place}")

    assert broken == []


def _anchor(heading: str) -> str:
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


def test_every_file_and_module_that_a_document_names_is_there() -> None:
    """The log tells of the past, and so does the changelog."""
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]
        if path.name not in {"LOG.md", "CHANGELOG.md"}
        for name in re.findall(
            r"`((?:peerd|p2pfinetune|bootstrap|tests|scripts|benchmarks)[./][\w./-]+)", path.read_text()
        )
        if not _is_there(name)
    ]

    assert missing == []


def _is_there(name: str) -> bool:
    """A path, or a dotted name with perhaps one thing inside the module."""
    if "/" in name or name == "peerd.sock":
        return name == "peerd.sock" or (ROOT / name).exists()
    for parts in (name.split("."), name.split(".")[:-1], name.split(".")[:-2]):
        file = ROOT.joinpath(*parts)
        source = _text_of(file.with_suffix(".py")) or _text_of(file / "__init__.py")
        if source:
            return all(re.search(rf"\b{word}\b", source) for word in name.split(".")[len(parts) :])
    return False


def test_every_place_of_the_floor_plan_speaks_of_what_was_asked() -> None:
    """The word in italics, but for its ending, stands in what has the name; of a constant, in its file."""
    rows = re.findall(r"^\|(.*::.*)\|$", (ROOT / "docs/architecture.md").read_text(), re.MULTILINE)
    wrong = []
    for row in rows:
        words = [re.sub("(led|ed|e?s)$", "", word) for word in re.findall(r"(?<!\*)\*([^*]+)\*(?!\*)", row)]
        places = [(file, _source_of(ROOT / file, name)) for file, name in re.findall(r"`([\w/]+\.py)::([\w.]+)`", row)]
        said = " ".join(source for _, source in places).lower()
        wrong += [f"{file}: no such name in {row}" for file, source in places if not source]
        wrong += [
            f"{file} speaks of none of {words}" for file, one in places if not any(w in one.lower() for w in words)
        ]
        wrong += [f"nothing speaks of {word!r}: {row}" for word in words if word not in said]

    assert len(rows) > 40
    assert wrong == []


def _source_of(file: Path, name: str) -> str:
    """Of a function or class, perhaps inside one; of a constant, its whole file; empty if there is no such name."""
    text = _text_of(file)
    found: ast.AST = ast.parse(text)
    for part in name.split("."):
        inside = getattr(found, "body", [])
        named = [node for node in inside if getattr(node, "name", None) == part]
        if not named:
            return text if re.search(rf"^{part}\b.* = ", text, re.MULTILINE) else ""
        found = named[0]
    return ast.get_source_segment(text, found) or ""


def test_what_troubleshooting_quotes_is_what_the_programs_say() -> None:
    rows = re.findall(r"^\| (.*?) \|", (ROOT / "docs/troubleshooting.md").read_text(), re.MULTILINE)
    quoted = [words for row in rows for words in re.findall(r"`([^`]+)`", row) if not words.isdigit()]
    said = "\n".join(_strings_of_the_programs())

    assert len(quoted) > 100
    assert [words for words in quoted if not (words in said or re.search(_as_pattern(words), said))] == []


def _as_pattern(words: str) -> str:
    return r"[^\n]*?".join(map(re.escape, words.split("…")))


def _strings_of_the_programs() -> Iterator[str]:
    """Each on a line of its own; what a program puts into one is an ellipsis."""
    for path in sorted(
        path for package in ("peerd", "p2pfinetune", "bootstrap") for path in ROOT.glob(f"{package}/**/*")
    ):
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                    yield "".join(map(str, parts)).replace("\n", " ")
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value.replace("\n", " ")
        elif path.suffix == ".js":
            yield path.read_text()
    yield (ROOT / "scripts/setup").read_text()


def _tests_in(document: str) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / document).read_text())


def _text_of(file: Path) -> str:
    return file.read_text() if file.exists() else ""


def test_the_how_to_of_a_trust_scheme_works_as_printed(tmp_path: Path) -> None:
    text = (ROOT / "docs/how-to/add-a-trust-scheme.md").read_text()
    source = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert source is not None
    (tmp_path / "low_loss.py").write_text(source[1])
    code = (
        f"import p2pfinetune.trust as t; t.__path__.append({str(tmp_path)!r})\n"
        "class World:\n"
        "    def loss(self, adapter): return {'mine': 9.0, 'good': 3.0, 'bad': 5.0}[adapter]\n"
        "row = t.SCHEMES.make('low-loss', {'bound': 4.0}).row('me', {'me': 'mine', 'b': 'good', 'c': 'bad'}, World())\n"
        "print(dict(row.weights))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stdout.strip() == "{'me': 0.5, 'b': 0.5, 'c': 0.0}", done.stderr
