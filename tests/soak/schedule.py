"""What goes wrong when: a pure function of a seed. Bounded, so that the honest are always a network."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.attackers import ON_PEERS

START_SECONDS = 120.0  # nothing goes wrong before: ten daemons load torch on two cores
CALM_SECONDS = 120.0  # and nothing at the end, where memory is compared
STEADY = 2  # peers that are never killed or suspended: their memory is followed through the whole run
MOST_AWAY = 3  # killed, stopped or suspended at one time

AWAY = ("kill", "restart", "suspend", "damage", "kill-worker", "hang-worker")
LINKS = ("cut", "shape")
CROWD = ("outage", "partition", "bootstrap-away", "poison", "attack")
POISONS = ("sign-flip", "scaled", "not-finite", "garbage", "replay")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """From `at`, for `seconds`; `who` are places of honest peers, `how` tells one attack from another."""

    at: float
    kind: str
    who: tuple[int, ...]
    seconds: float
    how: str = ""

    @property
    def until(self) -> float:
        """When it is over."""
        return self.at + self.seconds


def schedule(seed: int, seconds: float, peers: int) -> list[Fault]:
    """Faults of a run in order of time. Every kind comes in turn, so that a long run has had each several times."""
    dice = random.Random(f"soak {seed}")
    faults: list[Fault] = []
    at, turn = START_SECONDS, 0
    kinds = [*AWAY, *LINKS, *CROWD, "kill", "poison", "attack"]
    while at < seconds - CALM_SECONDS:
        if turn % len(kinds) == 0:
            dice.shuffle(kinds)
        fault = _fault(dice, kinds[turn % len(kinds)], at, peers, turn)
        if fault.until <= seconds - CALM_SECONDS and _fits(fault, faults):
            faults.append(fault)
        turn += 1
        at += dice.uniform(4.0, 14.0)
    return sorted(faults)


def _fault(dice: random.Random, kind: str, at: float, peers: int, turn: int) -> Fault:
    movable = range(STEADY, peers)
    match kind:
        case "kill" | "restart" | "damage":
            return Fault(at, kind, (dice.choice(movable),), dice.uniform(1.0, 10.0))  # started again after so long
        case "kill-worker":
            return Fault(at, kind, (dice.choice(movable),), 1.0)
        case "suspend" | "hang-worker":
            return Fault(at, kind, (dice.choice(movable),), dice.uniform(5.0, 60.0))
        case "cut" | "shape":
            return Fault(at, kind, (dice.randrange(peers),), dice.uniform(10.0, 60.0))
        case "partition":
            return Fault(at, kind, tuple(range(peers // 2)), dice.uniform(20.0, 60.0))
        case "outage":
            return Fault(at, kind, tuple(range(peers)), dice.uniform(15.0, 45.0))
        case "bootstrap-away":
            return Fault(at, kind, (), dice.uniform(10.0, 60.0))
        case "poison":
            return Fault(at, kind, (), dice.uniform(40.0, 120.0), POISONS[turn % len(POISONS)])
        case _:
            return Fault(
                at, "attack", (dice.randrange(peers),), dice.uniform(20.0, 45.0), ON_PEERS[turn % len(ON_PEERS)]
            )


def _fits(fault: Fault, before: list[Fault]) -> bool:
    """One trouble of a machine at a time, few machines at once, one trouble of the links at a time."""
    now = [other for other in before if other.until > fault.at]
    if fault.kind in AWAY:
        away = [other for other in now if other.kind in AWAY]
        return len(away) < MOST_AWAY and all(not set(other.who) & set(fault.who) for other in away)
    if fault.kind in LINKS or fault.kind in ("outage", "partition"):
        return all(other.kind not in (*LINKS, "outage", "partition") for other in now)
    return all((other.kind, other.how) != (fault.kind, fault.how) for other in now)
