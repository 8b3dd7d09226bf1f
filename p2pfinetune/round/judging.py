"""From a trust row to what a round ends with: the merge by it, the guard's word, and the way back from a merge refused.

Three tries, in this order. The trust scheme's row; then, if the second look finds another, that one, which counts if it
is all there is or clearly better; and if a merge measured worse than the own adapter, part of the way to it, as in a
backtracking line search: a peer that never moves drifts away from all, and its neighbours' adapters suit it less and
less. Whatever was tried, an outcome further above the best ever reached than the tolerance is the best adapter itself.
Only the guard split decides; the trust split was chosen on.

What is decided already is not measured further (`scoring.sequential`, docs/adr/0041): merge and own adapter are run on
a part of the guard split, then on more of it, and the rest only if that does not tell them apart. What the round ends
with is measured on all of it, and then an early yes has to stand once more, beside what the round began with: what a
merge loses on text that it was not looked at on comes out there. A second row has to be clearly better at each look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from p2pfinetune.model.adapter import Adapter
from p2pfinetune.names import PeerId, TrustRow
from p2pfinetune.round import guard
from p2pfinetune.round.collaborate import Outcome, bounded, held_back
from p2pfinetune.round.looks import GuardLooks
from p2pfinetune.round.second_look import Mix
from p2pfinetune.scoring import sequential
from p2pfinetune.scoring.evaluate import Evaluation
from p2pfinetune.scoring.paired import token_mean

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
    guard: GuardLooks
    """At the guard split."""
    began: Callable[[], Evaluation]
    """On the whole guard split, of the adapter that the round began with."""
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
    _verdicts: dict[int, str] = field(default_factory=dict)
    """By the identity of merges, which `guard` holds on to: credit is given once."""

    def judged(self, row: TrustRow, look_again: Look | None) -> tuple[TrustRow, Outcome]:
        """What the round ends with, and the row of the merge that was last tried or taken."""
        seen = row
        row, merged = self._merge(seen)
        reason = self._word_on(merged)
        useful = look_again(seen) if look_again is not None and merged is not self.own else seen
        if useful is not seen:
            bounded_row, second = self._merge(useful)
            if second is not self.own and (reason or self._is_clearly_better(second, merged)):
                second_reason = self._word_on(second)
                if reason or not second_reason:
                    row, merged, reason = bounded_row, second, second_reason
        if reason == guard.WORSE_THAN_OWN:
            row, merged, reason = self._part_of_the_way(row)
        return row, self._outcome(merged, reason)

    def _part_of_the_way(self, refused: TrustRow) -> tuple[TrustRow, Adapter, str]:
        for part in HELD_BACK:
            nearer = held_back(refused, self.me, part)
            merged = self.mixed(nearer, own=self.own, neighbours=self.neighbours)
            if not self._word_on(merged):
                return nearer, merged, ""
        return refused, self.own, guard.WORSE_THAN_OWN

    def _merge(self, row: TrustRow) -> tuple[TrustRow, Adapter]:
        """The one way from a row to a merge: bounded first. Both, as they are then."""
        if self.guarded:
            row = bounded(row, self.me, self.max_share)
        return row, self.mixed(row, own=self.own, neighbours=self.neighbours)

    def _word_on(self, merged: Adapter) -> str:
        """Why this merge is refused; empty if it is not, as far as it was looked at."""
        if merged is self.own:
            return ""
        for blocks in self._early:
            own, theirs, tokens = self.guard.pair(self.own, merged, blocks)
            if not np.isfinite(theirs).all():
                return guard.NOT_FINITE
            told = sequential.told(theirs - own, tokens, self.guard.tokens, len(self._early))
            if told:
                return guard.WORSE_THAN_OWN if told > 0 else ""
        return self._verdict_on(merged)

    @property
    def _early(self) -> tuple[int, ...]:
        """GuardLooks at a part; none if what is asked is more than which of the two is better."""
        return self.guard.planned if self.guarded and not self.credit else ()

    def _verdict_on(self, merged: Adapter) -> str:
        """By all windows; without a guard, whether they can be measured at all."""
        if id(merged) not in self._verdicts:
            self._verdicts[id(merged)] = self._judged_by_all(merged)
        return self._verdicts[id(merged)]

    def _judged_by_all(self, merged: Adapter) -> str:
        theirs = self.guard.whole(merged)
        if not self.guarded:
            return "" if math.isfinite(theirs.loss) else guard.NOT_FINITE
        own = self.guard.whole(self.own)
        found = guard.verdict(
            own.per_window, theirs.per_window, own.per_window_tokens, self.best_loss, self.tolerance,
            credit=self.credit, owed=self.owed,
        )  # fmt: skip
        self.owed = found.own if found.on_credit else self.owed
        return found.reason

    def _is_clearly_better(self, one: Adapter, other: Adapter) -> bool:
        """At every look, and in the end: by more than the standard error of what was seen, paired by window."""
        looks = (self.guard.pair(one, other, blocks) for blocks in (*self._early, self.guard.blocks))
        return all(guard.is_clearly_better(first, second, tokens) for first, second, tokens in looks)

    def _outcome(self, merged: Adapter, reason: str) -> Outcome:
        """What is taken, measured on all windows; an early yes may turn into a no there."""
        if not reason and merged is not self.own and self.guarded:
            reason = self._word_in_the_end(merged)
        taken = self.own if reason else merged
        found = self.guard.whole(taken)
        if self.guarded and guard.has_drifted(found.loss, self.best_loss, self.tolerance):
            return Outcome(self.best, found, self.best_loss, RETURNED, moments_fit=False)
        return Outcome(taken, found, found.loss, reason, moments_fit=taken is self.own or not self.resets_moments)

    def _word_in_the_end(self, merged: Adapter) -> str:
        """Beside the own adapter where that was measured as a whole, else beside what the round began with.

        How far training has moved the loss since then is known of the windows on which the own adapter was run; if by
        that the merge comes out behind it, the own adapter is run on the rest, and the exact rule decides.
        """
        theirs = self.guard.whole(merged)
        if not self.guard.is_whole(self.own):
            began, (own, seen) = self.began(), self.guard.seen(self.own)
            trained = own.loss - token_mean(began.per_window[seen], own.per_window_tokens)
            if theirs.loss - began.loss <= trained:
                is_above = guard.has_drifted(theirs.loss, self.best_loss, self.tolerance)
                return guard.ABOVE_BEST if is_above else ""
        return self._verdict_on(merged)
