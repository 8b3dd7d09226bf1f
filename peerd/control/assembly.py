"""What came of a newcomer's assembly, in words: from round 0, which stands among the finished rounds. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from p2pfinetune.scoring.perplexity import perplexity
from peerd.control.render import some
from peerd.status import RoundRecord


def in_words(record: RoundRecord) -> str:
    """Of round 0; empty of every other one."""
    if (made := record.assembly) is None:
        return ""
    whose = sum(weight > 0.0 for weight in record.row.values())
    said = f"assembled from {some(made.peers, 'peer')} in {made.seconds:.1f} s"
    if not record.accepted:
        return f"{said}; not begun from, since it measured no better than the base model"
    base, now = perplexity(record.guard_base), perplexity(record.guard_personal)
    better = f", perplexity {now:.2f} before any training against the base's {base:.2f}" if base and now else ""
    return f"{said} (pieces of {whose} in {some(made.layers, 'layer')}){better}"


def assembly_now(records: Iterable[RoundRecord], otherwise: str = "") -> str:
    """From all that is remembered, or else what this run says: why there was none."""
    found = next((said for record in records if (said := in_words(record))), "")
    if found or not otherwise:
        return found
    return f"none: {otherwise}; training began as usual"
