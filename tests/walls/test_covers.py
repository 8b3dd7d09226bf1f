"""Every file of the program is covered by a test, and the map of which one is right about what is known."""

from __future__ import annotations

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("covers", ROOT / "scripts" / "covers.py")
covers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(covers)


def test_no_file_of_the_program_is_without_a_test():
    known = covers.covered()

    assert [file for file, tests in known.items() if not tests] == []
    assert "tests/contract/test_store_contract.py" in known["peerd/store/sqlite.py"]
    assert known["p2pfinetune/merge/multi_krum.py"] == ["through p2pfinetune/merge/__init__.py"]
    assert any(line.startswith("tests/") for line in known["peerd/control/web/format.js"])


def test_a_module_that_nobody_names_is_covered_by_nothing(tmp_path, monkeypatch):
    for file, text in {
        "peerd/used.py": "def used(): ...\n",
        "peerd/inner.py": "VALUE = 1\n",
        "peerd/outer.py": "from peerd.inner import VALUE\nX = VALUE\n",
        "peerd/lost.py": "def lost(): ...\n",
        "peerd/patched.py": "def patched(): ...\n",
        "tests/support/helper.py": "from peerd.outer import X\n",
        "tests/test_some.py": "from peerd.used import used\nfrom tests.support.helper import X\nP = 'peerd.patched.patched'\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    monkeypatch.setattr(covers, "ROOT", tmp_path)

    assert covers.covered() == {
        "peerd/used.py": ["tests/test_some.py"],
        "peerd/inner.py": ["through peerd/outer.py"],
        "peerd/outer.py": ["tests/test_some.py"],
        "peerd/lost.py": [],
        "peerd/patched.py": ["tests/test_some.py"],
    }
