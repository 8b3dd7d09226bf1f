"""The command that counts rooms, arrows and floors, on a house of five rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.floor_plan import Plan, plan_of, told

HOUSE = {
    "__init__": "from house import roof\n",
    "roof": "from house.hall import door, stairs\nimport house.attic\n",
    "attic/__init__": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house import roof\n",
    "attic/chest": "import os\nfrom house import left\nfrom house.attic import rope\n",
    "attic/rope": "",
    "hall/__init__": "",
    "hall/door": "from house.left import lock\n",
    "hall/stairs": "def climb() -> None:\n    from house import left\n",
    "left": "lock = 1\nimport house.right\n",
    "right": "def knock() -> None:\n    import house.left\n",
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Of a package that nobody has to import for it."""
    for name, text in HOUSE.items():
        path = tmp_path / "house" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    return plan_of("house")


def test_rooms_arrows_and_floors_are_counted_and_a_circle_of_imports_is_named(plan: Plan) -> None:
    assert plan.rooms == ("attic", "hall", "left", "right", "roof")
    assert plan.floors == (("roof",), ("attic", "hall"), ("left", "right"))
    assert plan.cycles == (("left", "right"),)
    assert plan.arrows["roof", "hall"] == (
        ("house.roof", "house.hall.door"),
        ("house.roof", "house.hall.stairs"),
    )


def test_an_arrow_counts_once_and_none_comes_of_type_checking_alone(plan: Plan) -> None:
    expected = {"roof hall", "roof attic", "attic left", "hall left", "left right", "right left"}

    assert {" ".join(arrow) for arrow in plan.arrows} == expected
    assert told(plan, with_arrows=False)[0] == "house: 5 rooms, 6 arrows, 3 floors"
    assert "      house.right imports house.left" in told(plan, with_arrows=True)
