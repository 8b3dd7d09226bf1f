"""What follows from a worker's death for lack of memory: nothing at first, then a lighter way, then a word to a person.

    died of memory --once--> started again as it was: something else may have been large just then
                   --twice doing the same--> avoid the plan it died of: the next one takes the next measure
                   --and no lighter plan is left--> advised: the daemon stays up, starts it again more and more
                                                    slowly, and says what a person can do

Which plans there are, and which is lighter, is the library's business (`model.fitting`); the worker tells which it took
before it loads anything. The plan that is avoided is known until the daemon ends; what was trained by another since
stands in the checkpoint, which the next start goes on by. A job that is done forgets the deaths of its kind.

Only what the plan can change counts: a conversation that takes too much is not cured by shorter passes of training.
"""

from __future__ import annotations

from typing import Final

import msgspec

from p2pfinetune.model.memory import MemoryPlan
from peerd.status import MemoryNow
from peerd.worker.planned import Planned

TWICE: Final = 2
OF_A_PLAN: Final = frozenset({"starting", "training", "collaborating"})
NO_MEMORY: Final = "out of memory"  # how a death of that kind begins, in `process.describe`


class Shortage(msgspec.Struct, frozen=True, kw_only=True):
    """Of one daemon's workers."""

    planned: Planned | None = None
    """What the last worker said that it would do."""
    deaths: dict[str, int] = {}
    """In a row, by what was being done."""
    avoid: MemoryPlan | None = None
    """The last plan that workers died of."""

    def after_planning(self, planned: Planned) -> Shortage:
        """The worker that starts says what it does."""
        return msgspec.structs.replace(self, planned=planned)

    def after_death(self, reason: str, doing: str) -> Shortage:
        """Of any cause; those of others change nothing."""
        if not reason.startswith(NO_MEMORY) or doing not in OF_A_PLAN:
            return self
        deaths = self.deaths.get(doing, 0) + 1
        if deaths >= TWICE and self.planned is not None and not self.planned.is_last:
            kept = {name: count for name, count in self.deaths.items() if name != doing}
            return msgspec.structs.replace(self, avoid=self.planned.plan, deaths=kept)
        return msgspec.structs.replace(self, deaths={**self.deaths, doing: deaths})

    def after_job(self, doing: str) -> Shortage:
        """One was done to its end."""
        if doing not in self.deaths:
            return self
        return msgspec.structs.replace(self, deaths={name: n for name, n in self.deaths.items() if name != doing})

    def now(self) -> MemoryNow:
        """For people: what was computed, and what they can do once nothing is left to us."""
        memory = self.planned.memory if self.planned is not None else MemoryNow()
        doing, deaths = max(self.deaths.items(), key=lambda one: one[1], default=("", 0))
        if deaths < TWICE:
            return memory
        advice = f"{deaths} workers in a row ran out of memory while {doing}. Next: peerd stop, then {self._ways()}"
        return msgspec.structs.replace(memory, advice=advice)

    def _ways(self) -> str:
        ways = self.planned.ways if self.planned is not None else []
        return " or ".join(f"peerd start {way}" for way in ways or ["--context 64", "with a smaller --model"])
