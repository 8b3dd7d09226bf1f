"""Count rooms, import arrows and floors of the packages: `python scripts/floor_plan.py [--arrows] [PACKAGE...]`.

A *room* is a direct child of a package, a module or a package itself. An *arrow* runs from one room to another that it
imports, counted once however many modules make it; imports for type checkers alone are none. A room stands one *floor*
above the highest room that it imports, so that the number of floors is the longest way down. Rooms that import each
other in a circle have no floor of their own: they share one, and are named as a cycle.
The graph is import-linter's (grimp), as are its contracts in pyproject.toml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PACKAGES = ("peerd", "p2pfinetune")

Arrow = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """One package: its arrows with the imports that make them, and its rooms from the top floor to the ground."""

    package: str
    arrows: Mapping[Arrow, tuple[Arrow, ...]]
    floors: tuple[tuple[str, ...], ...]
    cycles: tuple[tuple[str, ...], ...]

    @property
    def rooms(self) -> tuple[str, ...]:
        """All of them, in order of name."""
        return tuple(sorted(room for floor in self.floors for room in floor))


def main() -> int:
    """Print the plan of each package."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("packages", nargs="*", default=PACKAGES, metavar="PACKAGE", help="by default: both of ours")
    parser.add_argument("--arrows", action="store_true", help="list every arrow and the imports that make it")
    args = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    try:
        plans = [plan_of(package) for package in args.packages]
    except ValueError as error:  # grimp's word for a package that is not there
        parser.error(str(error))
    for plan in plans:
        print("\n".join(told(plan, with_arrows=args.arrows)))
    return 0


def plan_of(package: str) -> Plan:
    """Read the sources of a package that can be imported; none of it is run."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    rooms = {room for module in graph.modules if (room := room_of(module))}
    arrows: dict[Arrow, list[Arrow]] = {}
    for importer in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(importer)):
            above, below = room_of(importer), room_of(imported)
            if above and below and above != below:
                arrows.setdefault((above, below), []).append((importer, imported))
    return drawn(package, rooms, {arrow: tuple(made_by) for arrow, made_by in sorted(arrows.items())})


def room_of(module: str) -> str:
    """The second part of a dotted name; empty for the package's own `__init__`."""
    return [*module.split("."), ""][1]


def drawn(package: str, rooms: set[str], arrows: Mapping[Arrow, tuple[Arrow, ...]]) -> Plan:
    """Rooms that reach each other are one group; a group stands above all that it imports."""
    reached = {room: reachable(room, arrows) for room in rooms}
    group = {room: frozenset({room, *(other for other in reached[room] if room in reached[other])}) for room in rooms}
    below: dict[frozenset[str], set[frozenset[str]]] = {members: set() for members in group.values()}
    for above, imported in arrows:
        below[group[above]] |= {group[imported]} - {group[above]}
    height: dict[frozenset[str], int] = {}
    for members in TopologicalSorter(below).static_order():
        height[members] = 1 + max((height[other] for other in below[members]), default=0)
    floors = [sorted(room for room in rooms if height[group[room]] == level) for level in sorted(set(height.values()))]
    cycles = sorted(sorted(members) for members in below if len(members) > 1)
    return Plan(package, arrows, tuple(map(tuple, reversed(floors))), tuple(map(tuple, cycles)))


def reachable(room: str, arrows: Mapping[Arrow, tuple[Arrow, ...]]) -> set[str]:
    """Rooms at the end of some way along the arrows; the room itself only if it stands in a circle."""
    found: set[str] = set()
    ahead = [room]
    while ahead:
        here = ahead.pop()
        fresh = {below for above, below in arrows if above == here} - found
        found |= fresh
        ahead.extend(fresh)
    return found


def told(plan: Plan, *, with_arrows: bool) -> Sequence[str]:
    """Lines for people: the counts, the floors from the top, the cycles, and if wanted the arrows."""
    lines = [f"{plan.package}: {len(plan.rooms)} rooms, {len(plan.arrows)} arrows, {len(plan.floors)} floors"]
    levels = range(len(plan.floors), 0, -1)
    lines += [f"  {level:2d}  {' '.join(floor)}" for level, floor in zip(levels, plan.floors, strict=True)]
    lines += [f"  cycle: {' <-> '.join(cycle)}" for cycle in plan.cycles]
    for (above, below), made_by in plan.arrows.items() if with_arrows else ():
        lines.append(f"  {above} -> {below}")
        lines += [f"      {importer} imports {imported}" for importer, imported in made_by]
    return lines


if __name__ == "__main__":
    sys.exit(main())
