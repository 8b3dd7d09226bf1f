"""Whom to ask next for a blob: a pure plan that both back ends follow. It neither asks nor waits.

The order is the caller's, origin first. A broken connection is tried again where it stopped; who is busy is asked
again after the others. Bytes that do not hash to the digest came from whoever gave a part of them: from one holder
alone, it lied and is not asked again; from several, the one who gave the end is asked for all of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from p2pfinetune.names import PeerId
from peerd.net.transport import Failed, Wrong

MAX_HOLDERS = 16  # asked for one blob
MAX_RESUMES = 4  # connections to one holder that break after bytes have come
MAX_REPEATS = 2  # further questions to a holder that gave no byte
_SOMEBODY = PeerId("")  # of an earlier fetch
_REPEATED = frozenset({"busy", "unreachable"})


class Turn(msgspec.Struct, frozen=True):
    """One holder's turn."""

    holder: PeerId
    resumes: int = 0
    repeats: int = 0


class FetchPlan(msgspec.Struct, frozen=True):
    """The turns to come and what went wrong so far, by holder."""

    turns: tuple[Turn, ...]
    failures: tuple[tuple[PeerId, Failed], ...] = ()
    givers: frozenset[PeerId] | None = None
    """Who gave what is held now; None before the first turn, since what was held then is nobody's."""
    wrong: Wrong = ()
    """Who is proved to have said or given something else than was announced."""

    @classmethod
    def of(cls, holders: Sequence[PeerId]) -> FetchPlan:
        """Each holder once, in this order."""
        return cls(tuple(Turn(holder) for holder in dict.fromkeys(holders))[:MAX_HOLDERS])

    def after(self, failed: Failed, *, started_at: int, stopped_at: int) -> FetchPlan:
        """The plan once the first turn failed; `started_at` and `stopped_at` are bytes held before and after it."""
        turn, *others = self.turns
        failures = {**dict(self.failures), turn.holder: failed}  # in the order of the first question
        givers = self.givers if self.givers is not None else frozenset({_SOMEBODY} if started_at else ())
        if failed.reason == "corrupt":
            shared = bool(givers - {turn.holder})
            again = [msgspec.structs.replace(turn, resumes=turn.resumes + 1)]
            turns = [*(again if shared and turn.resumes < MAX_RESUMES else []), *others]
            wrong = self.wrong if shared else (*self.wrong, (turn.holder, failed.reason))
            return FetchPlan(tuple(turns), tuple(failures.items()), frozenset(), wrong)
        if stopped_at > started_at:
            givers |= {turn.holder}
        if failed.reason == "unreachable" and stopped_at > started_at and turn.resumes < MAX_RESUMES:
            turns = [msgspec.structs.replace(turn, resumes=turn.resumes + 1), *others]
        elif failed.reason in _REPEATED and turn.repeats < MAX_REPEATS:
            turns = [*others, msgspec.structs.replace(turn, repeats=turn.repeats + 1)]
        else:
            turns = others
        wrong = (*self.wrong, (turn.holder, failed.reason)) if failed.reason == "oversize" else self.wrong
        return FetchPlan(tuple(turns), tuple(failures.items()), givers, wrong)

    def failure(self, bytes_in: int) -> Failed:
        """How it ended once no turn is left: the reason is that of the first holder that was asked."""
        if not self.failures:
            return Failed("absent", "nobody is known to hold it", bytes_in, self.wrong)
        told = "; ".join(f"{holder}: {failed.reason} {failed.detail}".rstrip() for holder, failed in self.failures[:4])
        first = min(self.failures, key=lambda f: f[1].reason == "corrupt")  # a stray liar does not stand for all
        return Failed(first[1].reason, told, bytes_in, self.wrong)
