"""Which peer somebody means."""

from __future__ import annotations

from collections.abc import Sequence

from peerd.cli.show import name_of
from peerd.errors import UsageError

MIN_ENDING = 4  # characters of an id that are not a slip of the finger


def chosen(asked: str, known: Sequence[tuple[str, str]], where: str) -> str:
    """The id of the one peer of that name, id or end of an id among (name, id). UsageError where there is not one."""
    matching = [peer_id for name, peer_id in known if asked in {name, peer_id}]
    if not matching and len(asked) >= MIN_ENDING:
        matching = [peer_id for _, peer_id in known if peer_id.endswith(asked)]
    if len(matching) == 1:
        return matching[0]
    what = f"is not {where}" if not matching else "is the name of several peers; give the end of an id"
    named = ", ".join(name_of(name, peer_id) for name, peer_id in known) or "nobody"
    raise UsageError(f"{asked!r} {what}", f"{where}: {named}")
