"""How far apart two models are on the same text, with an interval: what may be said of a difference, and what not.

Losses are paired by window, so that how hard a text is falls out. Windows of one document are alike (one author, one
subject, the same names), so documents and not windows are what is counted as drawn: the standard error is that of the
ratio estimator with documents as clusters (Cochran 1977, 9A and 6.3), and the interval takes Student's t for as many.
It says how much the difference would move with other text of the same kind. It says nothing of other training runs:
those take seeds. Pure arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from p2pfinetune.scoring.paired import student, token_mean

if TYPE_CHECKING:
    from p2pfinetune.scoring.evaluate import Evaluation

NORMAL_975 = 1.959963984540054  # of a standard normal distribution, 2.5 % lie above


@dataclass(frozen=True)
class Difference:
    """Mean loss of one model less that of another, in nats a token: below zero, the first is better."""

    nats: float
    tokens: int
    """Predicted, of all texts."""
    deviations: Mapping[Hashable, float]
    """What each text adds to the difference beyond its share, by the text's name; they sum to zero."""

    fitted: int = 1
    """Means that were taken from these texts: each takes a degree of freedom from Student's t."""

    @property
    def texts(self) -> int:
        """How many were drawn."""
        return len(self.deviations)

    @cached_property
    def standard_error(self) -> float:
        """Of the mean, over draws of text; infinite with fewer than two texts, which say nothing of others."""
        return self.correction * math.sqrt(math.fsum(deviation**2 for deviation in self.deviations.values()))

    @property
    def correction(self) -> float:
        """Bessel's: by what factor deviations from the mean of the same texts are too small; infinite below two."""
        return math.sqrt(self.texts / (self.texts - 1)) if self.texts > 1 else math.inf

    @property
    def degrees(self) -> int:
        """Of freedom; none if a single text decides."""
        return self.texts - self.fitted

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %; without end if too few texts were drawn to say."""
        reach = student_975(self.degrees) * self.standard_error if self.degrees > 0 else math.inf
        return self.nats - reach, self.nats + reach

    @property
    def is_seen(self) -> bool:
        """Whether the interval leaves out zero, so that there is a difference at all."""
        low, high = self.interval
        return low > 0.0 or high < 0.0


def difference(one: Evaluation, other: Evaluation, names: Sequence[Hashable] | None = None) -> Difference:
    """`one` less `other`, of the same windows. `names[i]`: which text document i is of; without, each is its own."""
    tokens = one.per_window_tokens
    saved = one.per_window - other.per_window
    mean = token_mean(saved, tokens)
    shares = tokens / max(int(tokens.sum()), 1)
    deviations: dict[Hashable, float] = {}
    for document, deviation in zip(one.per_window_document, shares * (saved - mean), strict=True):
        name = int(document) if names is None else names[int(document)]
        deviations[name] = deviations.get(name, 0.0) + float(deviation)
    return Difference(mean, int(tokens.sum()), deviations)


def mean_difference(differences: Sequence[Difference]) -> Difference:
    """The mean over models, each of which counts alike. Texts of one name are one draw, whoever is measured on them.

    Each model's deviations are from a mean of its own few texts, so each is corrected for their number before they are
    added: as strata if models share no text (Cochran 1977, 5.4), and as one sample where they share all. If a model
    was measured on a single text, nobody knows how far the mean would move with another.
    """
    parts = len(differences)
    deviations: dict[Hashable, float] = {}
    for found in differences:
        for name, deviation in found.deviations.items():
            corrected = found.correction * deviation if found.texts > 1 else math.inf
            deviations[name] = deviations.get(name, 0.0) + corrected / parts
    mean = math.fsum(found.nats for found in differences) / parts
    degrees = max(len(deviations) - parts, min(found.degrees for found in differences))
    whole = Difference(mean, sum(found.tokens for found in differences), deviations, len(deviations) - degrees)
    return replace(whole, deviations={name: one / whole.correction for name, one in deviations.items()})


def student_975(degrees: int) -> float:
    """Student's t at 97.5 %; infinite below one degree of freedom. Within 0.5 % from four on.

    Exact for one and two, else by the expansion of `paired.student`.
    """
    if degrees < 1:
        return math.inf
    if degrees == 1:
        return math.tan(math.pi * 0.475)
    if degrees == 2:
        return 2.0 * 0.475 * math.sqrt(2.0 / (1.0 - 4.0 * 0.475**2))
    return student(NORMAL_975, degrees)


def worst_tenth(changes: Sequence[float]) -> float:
    """Mean of the tenth that came off worst, of at least one: the largest, since more loss is worse."""
    if not changes:
        raise ValueError("of nobody there is no worst tenth")
    count = math.ceil(len(changes) / 10)
    return math.fsum(sorted(changes)[-count:]) / count
