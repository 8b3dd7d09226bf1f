"""Which peer somebody means: one, or nobody.

A name is whatever its peer says, so one that could be taken for another's decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from peerd.control.peer_names import alike, title
from peerd.errors import UsageError

MIN_ENDING = 4  # characters of an id that are not a slip of the finger
MOST_LISTED = 20


def chosen(asked: str, known: Sequence[tuple[str, str]], where: str, others: Sequence[tuple[str, str]] = ()) -> str:
    """The id of the one peer of that name, id or end of an id among (name, id). UsageError if there is not one.

    `others` are peers that cannot be meant, but could be thought of: if one of them bears the name too, or one that
    looks like it, an id is asked for.
    """
    if asked in {peer for _, peer in known}:
        return asked
    everyone = {peer: name for name, peer in (*others, *known)}
    matching = set(alike(asked, [(name, peer) for peer, name in everyone.items()]))
    if len(asked) >= MIN_ENDING:
        matching |= {peer for peer in everyone if peer.endswith(asked)}
    among = {peer for _, peer in known}
    if len(matching) == 1 and matching <= among:
        return matching.pop()
    if matching & among:
        said = f"{asked!r} can mean {len(matching)} peers; a name is chosen by its peer, so give the id, or its end"
        listed = [
            f"{title(everyone[peer], peer)}  {peer}  {where if peer in among else f'not {where}'}"
            for peer in sorted(matching)
        ]
        raise UsageError(said, "\n  ".join(listed[:MOST_LISTED]))
    named = ", ".join(title(name, peer) for name, peer in known[:MOST_LISTED]) or "nobody"
    raise UsageError(f"{asked!r} is not {where}", f"{where}: {named}")
