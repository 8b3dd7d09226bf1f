"""What my personal model took from others, and since when it has taken nothing: from finished rounds. Pure.

A row says whom my model would listen to. Only a merge that the guard took made it part of the model, at the weights it
was taken with, a part of the way included. Own training has gone on since, upon that merge and upon those before it, so
nobody can say what share of the model is whose today: what the last merge took is what is shown, with its round.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from p2pfinetune.names import PeerId
from peerd.control.render import printable, share, some, when
from peerd.status import MergesNow, RoundRecord

WHY = {
    "worse-than-own": "it measured worse than my own adapter on the guard split",
    "above-best": "it measured too far above the best that my model ever reached",
    "not-finite": "its loss was no number",
    "returned-to-best": "my own training had drifted, so the best of my models so far came back instead",
}
"""The guard's words in those of a person."""


def took_from_others(record: RoundRecord, me: PeerId) -> bool:
    """Whether a merge of that round is in the model."""
    return record.accepted and weighs_others(record, me)


def weighs_others(record: RoundRecord, me: PeerId) -> bool:
    """Whether there was anything to take or to refuse."""
    return any(weight > 0.0 for peer, weight in record.row.items() if peer != me)


def merges_now(records: Sequence[RoundRecord], me: PeerId) -> MergesNow:
    """From all that is remembered; the same after a restart."""
    refused: list[RoundRecord] = []
    taken: RoundRecord | None = None
    for record in reversed(records):
        if took_from_others(record, me):
            taken = record
            break
        if weighs_others(record, me):
            refused.append(record)
    return MergesNow(
        round=taken.round if taken else None,
        unix=taken.finished_unix if taken else None,
        row=dict(taken.row) if taken else {},
        refused=len(refused),
        since_round=refused[-1].round if refused else None,
        since_unix=refused[-1].finished_unix if refused else None,
        reason=refused[0].reason if refused else "",
        refused_row=dict(refused[0].row) if refused else {},
    )


def taken_in_words(now: MergesNow) -> str:
    """Of which merge the weights are."""
    if now.round is None or now.unix is None:
        return "No merge was taken yet: my model is what I trained alone."
    return f"As the last merge was taken, in round {now.round} ({when(now.unix)}); own training has gone on since."


def refused_in_words(now: MergesNow, names: Mapping[PeerId, str], me: PeerId) -> str:
    """What was not taken since, and why; empty if nothing was refused since the last merge that was taken."""
    if not now.refused or now.since_round is None or now.since_unix is None:
        return ""
    others = sorted(((w, p) for p, w in now.refused_row.items() if p != me and w > 0.0), reverse=True)
    row = ", ".join(f"{share(weight)} {names.get(peer) or peer}" for weight, peer in others)
    which = (
        "was not taken" if now.refused == 1 else f"and those before it, {some(now.refused, 'merge')}, were not taken"
    )
    return (
        f"The last merge ({row}) {which}, since round {now.since_round} ({when(now.since_unix)}): {why(now.reason)}. "
        "Nothing of it is in my model."
    )


def line(records: Sequence[RoundRecord], now: MergesNow, me: PeerId) -> str:
    """Whether the network brings anything now, and if it does not, since when; empty before the first round."""
    if not records:
        return ""
    last = records[-1]
    if len(last.row) < 2:
        return f"nobody to merge with in round {last.round}"
    if not weighs_others(last, me):
        return f"nobody was trusted in round {last.round}; my own adapter stays in use"
    if last.accepted or now.since_round is None or now.since_unix is None:
        return f"taken in round {last.round}"
    how = "in the last round" if now.refused == 1 else f"in each of the last {now.refused} rounds with somebody"
    since = f"since round {now.since_round}, {when(now.since_unix)}"
    return f"not taken {how} ({last.reason or 'no reason given'}; {since}); my own adapter stays in use"


def why(reason: str) -> str:
    """The guard's word as a phrase."""
    return WHY.get(reason) or printable(reason) or "the guard gave no reason"
