"""How far a figure carries, in words: what it rests on, its interval, and whether two held-out splits contradict. Pure.

A loss is measured on some thousand tokens of one person's text, so a difference of two losses is an estimate. It is
told with its 95 % interval (`p2pfinetune.scoring.difference`), and as "no difference that can be seen" if the
interval holds zero. Differences are nats a token; told they become percents of perplexity, e to the difference less
one.
"""

from __future__ import annotations

import math

from p2pfinetune.round.figures import LossMargin, SplitFigures
from p2pfinetune.scoring.perplexity import as_change
from peerd.control.render import some

WHOLE_PERCENTS = 0.1  # from here on nobody needs a decimal
UNSEEN = "no difference that can be seen"


def is_seen(found: LossMargin | None) -> bool:
    """Whether zero lies outside the interval."""
    return found is not None and found.within is not None and abs(found.nats) > found.within


def rests_on(found: SplitFigures) -> str:
    """`2,048 tokens of 12 documents`."""
    return f"{some(found.tokens, 'token')} of {some(found.documents, 'document')}"


def sentence(found: SplitFigures) -> str:
    """What the guard split says of the personal model, in one sentence; empty if nothing was measured."""
    said = clause(found)
    return f"{said}." if said else ""


def clause(found: SplitFigures) -> str:
    """The same, for a sentence that goes on."""
    others = ((found.against_base, "the base model's"), (found.against_twin, "that of the twin that trains alone"))
    told = [compared(difference, other) for difference, other in others if difference is not None]
    if not told:
        return ""
    return (
        f"On your own held-out text ({rests_on(found)}) the personal model's perplexity, with its 95 % interval: "
        f"{'; '.join(told)}"
    )


def compared(found: LossMargin, other: str) -> str:
    """The personal model's perplexity beside that of another: `21 % below the base model's (18 % to 24 % below)`."""
    if found.within is None:
        return f"not to be told from {other} by one document"
    low, high = found.nats - found.within, found.nats + found.within
    if low == high == 0.0:
        return f"the same as {other}"  # the very same adapter, as that of a twin before the first merge
    if not is_seen(found):
        return f"{UNSEEN} from {other} ({_side(low)} to {_side(high)})"
    near, far = (high, low) if found.nats < 0.0 else (low, high)
    return f"{_percents(found.nats)} {_where(found.nats)} {other} ({_percents(near)} to {_percents(far)})"


def size(found: LossMargin) -> str:
    """How much, whichever way: `1.2 % (0.8 % to 1.6 %)`; of a margin whose interval leaves out zero."""
    reach = math.copysign(found.within or 0.0, found.nats)
    return f"{_percents(found.nats)} ({_percents(found.nats - reach)} to {_percents(found.nats + reach)})"


def briefly(found: LossMargin | None) -> str:
    """For a table: `-21 %`, or that no difference can be seen; empty if nothing was measured."""
    if found is None:
        return ""
    if not is_seen(found):
        return "none to be seen"
    return f"{'-' if found.nats < 0 else '+'}{_percents(found.nats)}"


def contradiction(trust: SplitFigures | None, guard: SplitFigures | None) -> str:
    """A sentence if the two held-out splits disagree about the personal model, each beyond its interval; else ""."""
    if trust is None or guard is None or trust.against_base is None or guard.against_base is None:
        return ""
    one, other = trust.against_base, guard.against_base
    if not (is_seen(one) and is_seen(other)) or (one.nats < 0.0) == (other.nats < 0.0):
        return ""
    fell, rose = ("trust", "guard") if one.nats < 0.0 else ("guard", "trust")
    return (
        f"Two parts of your text that were held out contradict one another: beside the base model's, the perplexity "
        f"fell on the {fell} split ({_side(min(one.nats, other.nats))}) and rose on the {rose} split "
        f"({_side(max(one.nats, other.nats))}), each by more than its interval. Do not rely on either figure: the "
        "text may be of very different kinds, or hold near copies; more text settles it."
    )


def _side(nats: float) -> str:
    return f"{_percents(nats)} {_where(nats)}"


def _where(nats: float) -> str:
    return "below" if nats < 0.0 else "ABOVE"


def _percents(nats: float) -> str:
    change = abs(as_change(nats))
    return (f"{change:,.0%}" if change >= WHOLE_PERCENTS else f"{change:.1%}").replace("%", " %")
