"""Whom this daemon met and could not join, in fixed words with the next command. Pure.

Strangers decide how often something is met and when, and nothing else: no word, name or address of theirs is shown,
each kind has one sentence, and if a peer of the own network is connected nothing is said. Else whoever may connect
could fill the screen.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from peerd.control.render import duration, some
from peerd.net.transport import Met

FRESH_SECONDS: Final = 3600.0
"""How long one that was met is spoken of."""
SAID: Final[Mapping[str, tuple[str, str]]] = {
    "group": (
        "is in another group",
        (
            "Both need the same --group, and as training belongs to its group, whoever changes begins in a new home: "
            "peerd start --home ANOTHER-FOLDER --data FOLDER --group NAME; peerd id prints the whole line for others"
        ),
    ),
    "model": (
        "has another base model, or another tokenizer or configuration of it",
        (
            "Both need the same --model, and whoever changes begins in a new home: "
            "peerd start --home ANOTHER-FOLDER --data FOLDER --model NAME; peerd id prints the whole line for others"
        ),
    ),
    "adapter": (
        "has the same model and adapts it otherwise",
        (
            "Both need the same --rank, --alpha, --sharing and --targets, and whoever changes begins in a new home: "
            "peerd start --home ANOTHER-FOLDER --data FOLDER --rank N; peerd id prints the whole line for others"
        ),
    ),
    "sharing": (
        "has the same model and shares other parts of the adapter",
        (
            "Both need the same --sharing, and whoever changes begins in a new home: "
            "peerd start --home ANOTHER-FOLDER --data FOLDER --sharing NAME; peerd id prints the "
            "whole line for others"
        ),
    ),
    "version": (
        "speaks another version of the protocol, or is no peerd",
        "Compare the two, and update the older one: peerd --version",
    ),
    "network": ("is of another network", "Compare the line that peerd id prints for others on both sides"),
    "no-key": (
        "has no group key, while this peer has one",
        (
            "It needs a copy of your key file, given with --group-key FILE (a bootstrap node too: "
            "peerd-bootstrap start --group-key FILE)"
        ),
    ),
    "key": (
        "has a group key that this peer lacks, or is no peerd",
        "If it is of your group, start this one with the same file: peerd stop; peerd start --group-key FILE",
    ),
    "lan": (
        "is on the local network, in another group or with another model or options",
        "Compare the line that peerd id prints for others on both sides",
    ),
}
"""What somebody is like, and what to do."""


def said_of(kinds: tuple[str, ...]) -> str:
    """`is in another group and has another base model`, of one that was met."""
    return " and ".join(SAID[kind][0] for kind in kinds if kind in SAID) or SAID["network"][0]


def advice(kinds: tuple[str, ...]) -> str:
    """The next commands."""
    return ". ".join(dict.fromkeys(SAID[kind][1] for kind in kinds if kind in SAID)) or SAID["network"][1]


def notices(met: Mapping[str, Met], told: Collection[str] = ()) -> list[str]:
    """A sentence for each kind that was met lately, in the order of `SAID`; not of those that are `told` already."""
    fresh = {kind for kind, found in met.items() if found.seconds <= FRESH_SECONDS}
    return [_sentence(kind, met[kind]) for kind in SAID if kind in fresh and kind not in told]


def _sentence(kind: str, found: Met) -> str:
    what, command = SAID[kind]
    often = f"{some(found.times, 'time')}, last {duration(found.seconds)} ago"
    return f"Somebody was met that cannot be joined ({often}): it {what}. {command}"


def registered_elsewhere(node: str, kinds: tuple[str, ...]) -> str:
    """Where a bootstrap node knows nobody of this network, and others: what the nearest of them is like."""
    return (
        f"The bootstrap node at {node} knows nobody else of this network, and peers of others; the nearest of those "
        f"{said_of(kinds)}. {advice(kinds)}"
    )
