"""What collaboration is worth on this device, in one sentence, and why if it is nothing: from finished rounds. Pure.

Three comparisons, all paired over the windows of the guard split and told with their 95 % interval: my model beside the
base, beside a twin that trains alone, and after each merge beside my own adapter before it. The last needs no twin, and
says what the neighbours bring now: the mean over the last rounds, a round without a merge counting as nothing brought.
The same windows are measured each round, so rounds are no independent draws: the interval of their mean is the mean of
their intervals, which is as wide as it can be.

What was chosen on a text flatters there, and the guard chooses by this very split. So these are figures to steer by;
claims are made with `peerd eval --on heldout`.

Why nothing is brought, the first of these that holds:

    there was nobody to merge with; nobody was trusted        what a person can change: whom they meet
    the held-out text is too small to tell                     an interval wider than TELLS
    the guard refused every merge                              no neighbour is alike
    own training has not read the own text once                there is more to learn at home than from others
    else                                                       what neighbours know is known here
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice

from msgspec.structs import replace

from p2pfinetune.names import PeerId
from p2pfinetune.round.figures import LossMargin
from p2pfinetune.scoring.perplexity import as_change
from peerd.control import figures
from peerd.control.merges import took_from_others, weighs_others
from peerd.control.render import some
from peerd.status import RoundRecord, WorthNow

LAST = 5  # rounds; a day's change of company shows, and one odd round does not decide
TELLS = 0.01  # nats a token: of text that cannot show one percent, nothing is said
NOBODY = "there was nobody to merge with"
NOBODY_TRUSTED = "no neighbour was trusted: nobody's adapter predicts your text as yours does"
REFUSED = "every merge measured worse here than your own adapter, so none was taken: no neighbour's text is like yours"
UNREAD = "your own text teaches more: own training has read it {readings:.1f} times so far"
KNOWN = "what your neighbours' adapters know, yours knows"
TOO_SMALL = "the text held out, {rests_on}, is too small to tell less than {percents}"


def worth_now(records: Sequence[RoundRecord], me: PeerId, *, has_twin: bool) -> WorthNow:
    """Of all that is remembered; empty before the first round."""
    last = list(islice(reversed(records), LAST))[::-1]  # a deque has no slices
    if not last or last[-1].on_guard is None:
        return WorthNow()
    guard = last[-1].on_guard
    brought, why = _brought(last, me), ""
    if brought is None or not figures.is_seen(brought) or brought.nats > 0.0:
        why = _why_nothing(last, me)
    found = WorthNow(
        against_base=guard.against_base,
        against_twin=guard.against_twin,
        brought=brought,
        rounds=len(last),
        merges=sum(took_from_others(record, me) for record in last),
        why=why,
    )
    if not (measured := figures.clause(guard)):
        return found
    told = (measured, _alone(found, has_twin), _in_words(found))
    return replace(found, sentence=f"{'; '.join(part for part in told if part)}.")


def _brought(records: Sequence[RoundRecord], me: PeerId) -> LossMargin | None:
    """The mean a round; None if no round was measured so, as those of older versions."""
    known = [found for record in records if (found := _of_merge(record, me)) is not None]
    if not known:
        return None
    within = [found.within for found in known]
    reach = None if None in within else math.fsum(one for one in within if one is not None) / len(known)
    return LossMargin(nats=math.fsum(found.nats for found in known) / len(known), within=reach)


def _of_merge(record: RoundRecord, me: PeerId) -> LossMargin | None:
    """Exactly nothing if no merge was taken: a return to the best adapter of before is no neighbour's doing."""
    if record.on_guard is None or record.on_guard.against_own is None:
        return None
    return record.on_guard.against_own if took_from_others(record, me) else LossMargin(nats=0.0, within=0.0)


def _why_nothing(records: Sequence[RoundRecord], me: PeerId) -> str:
    last = records[-1]
    if all(len(record.row) < 2 for record in records):
        return NOBODY
    if not any(weighs_others(record, me) for record in records):
        return NOBODY_TRUSTED
    taken = [found for record in records if took_from_others(record, me) and (found := _of_merge(record, me))]
    if not taken:
        return REFUSED
    if (least := max(math.inf if found.within is None else found.within for found in taken)) > TELLS:
        return _too_small(least, last)
    if last.readings is not None and last.readings < 1.0:
        return UNREAD.format(readings=last.readings)
    return KNOWN


def _too_small(least: float, last: RoundRecord) -> str:
    percents = f"{as_change(least):.0%}".replace("%", " %") if math.isfinite(least) else "anything"
    return TOO_SMALL.format(percents=percents, rests_on=figures.rests_on(last.on_guard) if last.on_guard else "nothing")


def _alone(found: WorthNow, has_twin: bool) -> str:
    return "" if found.against_twin is not None or has_twin else "not measured against training alone (no twin)"


def _in_words(found: WorthNow) -> str:
    """What the neighbours brought, as a clause."""
    over = f"in the last {some(found.rounds, 'round')}" if found.rounds > 1 else "in the last round"
    if found.brought is None:
        return ""
    if not found.why:
        return f"neighbours brought it down by {figures.size(found.brought)} a round {over}"
    if figures.is_seen(found.brought):  # and it is above zero: taken on credit, or a part of the way back
        return f"merging raised it by {figures.size(found.brought)} a round {over}, within what the guard lends"
    return f"neighbours brought nothing that can be seen {over}: {found.why}"
