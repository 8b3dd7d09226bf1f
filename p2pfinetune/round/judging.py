"""From a trust row to what a round ends with: the merge by it, the guard's word, and the way back from a merge refused.

Three tries, in this order. The trust scheme's row; then, if the second look finds another, that one, which counts if it
is all there is or clearly better; and if a merge measured worse than the own adapter, part of the way to it, as in a
backtracking line search: a peer that never moves drifts away from all, and its neighbours' adapters suit it less and
less. Whatever was tried, an outcome further above the best ever reached than the tolerance is the best adapter itself.
Only the guard split decides; the trust split was chosen on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.round import guard
from p2pfinetune.round.collaborate import Outcome, bounded, held_back
from p2pfinetune.round.second_look import Mix
from p2pfinetune.scoring.evaluate import Evaluation

RETURNED = "returned-to-best"
HELD_BACK = (0.5, 0.25)  # of the way to a refused merge

Look = Callable[[TrustRow], TrustRow]
"""The second look at a row; the same object if it finds no other."""


@dataclass(slots=True, kw_only=True)
class Judge:
    """Of one round of one peer."""

    me: PeerId
    own: Adapter
    neighbours: Mapping[PeerId, Adapter]
    mixed: Mix
    """A merge by a row."""
    resets_moments: bool
    """Whether a merge leaves the moments without meaning."""
    measure: Callable[[Adapter], Evaluation]
    """On the guard split."""
    on_guard: Evaluation
    """Of the own adapter."""
    best: Adapter
    """By guard loss, of all that this peer ever was."""
    best_loss: float
    """Of `best` on the guard split, nats a token; infinite if nothing was measured yet."""
    tolerance: float
    """Nats a token that an outcome may lie above `best_loss`, in total and not per round."""
    credit: float
    """Nats a token that a merge may lie above the own adapter, as `guard.verdict` grants it."""
    max_share: float
    """What no single neighbour weighs more than, 0 to 1."""
    owed: float
    """The own loss at the last credit; the only thing here that changes."""
    guarded: bool
    """Without it every finite merge is taken, as in the paper, and nobody is bounded."""

    def judged(self, row: TrustRow, look_again: Look | None) -> tuple[TrustRow, Outcome]:
        """What the round ends with, and the row of the merge that was last tried or taken."""
        seen = row
        row, merged = self._merge(seen)
        outcome = self._decide(merged)
        useful = look_again(seen) if look_again is not None and merged is not self.own else seen
        if useful is not seen:
            bounded_row, merged = self._merge(useful)
            if merged is not self.own:
                tried = self._decide(merged)
                if outcome.reason or (not tried.reason and tried.is_clearly_better(outcome)):
                    row, outcome = bounded_row, tried
        return self._part_of_the_way(row, outcome) if outcome.reason == guard.WORSE_THAN_OWN else (row, outcome)

    def _part_of_the_way(self, row: TrustRow, refused: Outcome) -> tuple[TrustRow, Outcome]:
        for part in HELD_BACK:
            nearer = held_back(row, self.me, part)
            tried = self._decide(self.mixed(nearer, own=self.own, neighbours=self.neighbours))
            if not tried.reason:
                return nearer, tried
        return row, refused

    def _merge(self, row: TrustRow) -> tuple[TrustRow, Adapter]:
        """The one way from a row to a merge: bounded first. Both, as they are then."""
        if self.guarded:
            row = bounded(row, self.me, self.max_share)
        return row, self.mixed(row, own=self.own, neighbours=self.neighbours)

    def _decide(self, merged: Adapter) -> Outcome:
        own = self.on_guard
        outcome = Outcome(self.own, own, own.loss, "", moments_fit=True)
        if merged is not self.own:
            found = self.measure(merged)
            judged = guard.verdict(
                own.per_window, found.per_window, own.per_window_tokens, self.best_loss, self.tolerance,
                credit=self.credit, owed=self.owed,
            )  # fmt: skip
            self.owed = judged.own if judged.on_credit else self.owed
            outcome = replace(outcome, reason=judged.reason)
            if judged.accepted or (not self.guarded and judged.reason != guard.NOT_FINITE):
                outcome = Outcome(merged, found, judged.merged, "", moments_fit=not self.resets_moments)
        if self.guarded and guard.has_drifted(outcome.loss, self.best_loss, self.tolerance):
            return Outcome(self.best, own, self.best_loss, RETURNED, moments_fit=False)
        return outcome
