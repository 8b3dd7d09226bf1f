"""How a peer fares beside training alone, and whether that can be told from noise. Pure arithmetic.

Of each peer two runs of one seed are compared: same text, same batches, another scheme. Their test losses are paired by
document, and the interval of the mean difference is over documents (`scoring.difference`). So "better" of a peer means
more than a lower figure: it is lower by more than other text of the same kind would move it. Nobody is counted whose
test split is a single document.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

from p2pfinetune.scoring.difference import Difference

DocumentLosses = Sequence[tuple[float, int]]
"""Nats and tokens of each document, in the order of the split."""


def paired(scheme: DocumentLosses, local: DocumentLosses) -> Difference | None:
    """`scheme` less `local`, nats a token; None if they are not of the same documents, or of too few."""
    if [tokens for _, tokens in scheme] != [tokens for _, tokens in local] or len(scheme) < 2:
        return None
    total = sum(tokens for _, tokens in scheme)
    saved = [one - other for (one, _), (other, _) in zip(scheme, local, strict=True)]
    mean = sum(saved) / total
    deviations: dict[Hashable, float] = {
        i: (s - mean * tokens) / total for i, (s, (_, tokens)) in enumerate(zip(saved, scheme, strict=True))
    }
    return Difference(mean, total, deviations)


def clearly(pairs: Iterable[tuple[DocumentLosses, DocumentLosses]]) -> tuple[int, int, int]:
    """Of (scheme, local): how many are below local beyond their interval, how many above, of how many."""
    found = [difference for pair in pairs if (difference := paired(*pair)) is not None]
    seen = [difference for difference in found if difference.is_seen]
    better = sum(difference.nats < 0 for difference in seen)
    return better, len(seen) - better, len(found)
