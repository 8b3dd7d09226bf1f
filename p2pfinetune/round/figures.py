"""What a round measured: one value, made by the learner and carried whole from there to the page.

The worker sends it, the core looks at the one figure that it decides by and passes the rest through, the store keeps it
as part of a row, and status, API, terminal and page show it. So a new figure is a field here, a line where the learner
measures it, and a line where it is shown (docs/how-to/add-a-figure.md). Plain values: torch is never loaded for them,
and what cannot be said (an interval without end, a model that has diverged) is said here as it travels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from p2pfinetune.scoring.perplexity import bounded

if TYPE_CHECKING:
    from p2pfinetune.scoring.difference import Difference


class LossMargin(msgspec.Struct, frozen=True, kw_only=True):
    """Loss of the personal model less that of another on the same windows: below zero, the personal one is better."""

    nats: Annotated[float, Meta(description="A token.")]
    within: Annotated[
        float | None,
        Meta(
            description="Half of the 95 % interval, paired over windows and by document; null where one document "
            "was measured."
        ),
    ] = None


class ModelFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One model on one text."""

    loss: Annotated[float, Meta(description="Mean cross-entropy in nats a token, over the tokens that count.")]
    within: Annotated[
        float | None,
        Meta(description="Half of its 95 % interval over documents; null where one document was measured."),
    ] = None
    against_base: Annotated[LossMargin | None, Meta(description="Null of the base itself.")] = None
    against_twin: Annotated[LossMargin | None, Meta(description="Null where no twin trains, and of itself.")] = None


class SplitFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures of one held-out split rest on, and how far the personal model is from others there."""

    tokens: int
    documents: int
    windows: int
    against_base: Annotated[LossMargin | None, Meta(description="Null where a loss was not finite.")] = None
    against_own: Annotated[
        LossMargin | None,
        Meta(
            description="My own adapter before this round's merge, on the guard split: what the merge brought. Zero "
            "where none was taken; a little flattering, since the guard chose by this very text. Of the part of the "
            "split that was looked at before the guard was sure."
        ),
    ] = None
    against_twin: Annotated[
        LossMargin | None, Meta(description="The twin; on the guard split, where there is one.")
    ] = msgspec.field(default=None, name="against_local")  # as rows of older versions have it


class AssemblyFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Of the first adapter, made of neighbours' pieces before any training."""

    peers: Annotated[int, Meta(description="Whose pieces there were to choose from.")]
    layers: Annotated[int, Meta(description="For which pieces were chosen.")]
    seconds: Annotated[float, Meta(description="Asking the neighbours included.")] = 0.0


class RoundFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Mean cross-entropy in nats a token by model and split, and what that rests on; null if it was not measured."""

    loss_train: Annotated[float | None, Meta(description="Mean of the round's own training steps.")] = None
    loss_trust: Annotated[float | None, Meta(description="Of the personal model on the trust split.")] = None
    guard_base: float | None = None
    guard_own: Annotated[
        float | None,
        Meta(
            description="Where the guard was sure of the merge before it had looked at all of the split: of the "
            "personal model, and the difference of the two where both were measured."
        ),
    ] = None
    guard_personal: float | None = None
    guard_twin: float | None = msgspec.field(default=None, name="guard_local")  # as rows of older versions have it
    guard_mixture: Annotated[
        float | None,
        Meta(description="Of the mixture of predictions, if there is one, by weights learnt on the trust split alone."),
    ] = None
    readings: Annotated[
        float | None,
        Meta(description="How often own training has read the own training text by then; null in older rounds."),
    ] = None
    on_trust: Annotated[
        SplitFigures | None,
        Meta(description="What `loss_trust` rests on; null where an older version recorded the round."),
    ] = None
    on_guard: Annotated[SplitFigures | None, Meta(description="What the guard's losses rest on; likewise.")] = None
    assembly: Annotated[
        AssemblyFigures | None, Meta(description="Of round 0, where a newcomer assembles; else null.")
    ] = None


COUNTS = frozenset({"readings"})
"""Figures that are no losses."""


def told(found: RoundFigures) -> RoundFigures:
    """With every loss as it can travel in any format: one that has diverged is `MAX_LOSS`."""
    given = msgspec.structs.asdict(found)
    return msgspec.structs.replace(
        found, **{k: bounded(v) for k, v in given.items() if isinstance(v, float) and k not in COUNTS}
    )


def margin(found: Difference) -> LossMargin:
    """As it is told: of an interval without end nothing is known."""
    reach = found.interval[1] - found.nats
    return LossMargin(nats=found.nats, within=reach if math.isfinite(reach) else None)
