"""How a name that a peer chose for itself is shown: as one short line of letters that passes for nothing else.

Anybody may call itself anything, so a name is worth what its id is worth, and what is shown of it must not

* hide or be empty: what no font draws goes (default ignorables, blanks, controls), and of nothing left we say so;
* pass for words of ours: brackets are ours, in `(me)`, `(no name)`, `(…a1b2c3)`; in a name they become a blank;
* leave its cell: one line, so many columns, few marks upon one letter, and letters that run from right to left are
  isolated (UAX 9), so that they turn around nothing beside them;
* pass for another peer: names that look alike are told apart by the ends of their ids.

Close to the Nickname profile of RFC 8266 (NFKC, single blanks) and to UTS 39, section 5.4 (marks). Pure.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import accumulate

from p2pfinetune.names import PeerId
from peerd.control.render import columns, isolated, short_id

MAX_COLUMNS = 40  # of a terminal
MAX_MARKS = 3  # upon one letter, each once; Hindi, Hebrew and Vietnamese need no more
MAX_READ = 256  # characters that are looked at, and that are left: on the wire a name has 64, NFKC makes 18 of one
KEPT = 512  # names whose forms are kept: a watcher is shown some hundred of them four times a second
ENDING = 6  # characters of an id
ME, NO_NAME, OTHERS = "(me)", "(no name)", "(others)"

_GONE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_BLANK = {"Zs", "Ps", "Pe"}  # brackets too
_MARKS = {"Mn", "Me"}
_UNSEEN = (
    re.compile(  # DerivedCoreProperties.txt, Default_Ignorable_Code_Point, where the category does not tell; and blanks
        "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\ufffc"
        "\U00013441\U00013442\U00016fe4\U0001d159\U000e0100-\U000e01ef]"
    )
)
_LOOKS_LIKE = str.maketrans(  # small letters that look as Latin ones do; UTS 39, confusables.txt
    "аеорсухіјѕһԁԛԝкмнтвαεικνορτυχβηɑɡıi10|",  # Cyrillic, Greek, IPA, and l, 1, i and | of one kind
    "aeopcyxljshdqwkmhtbaelkvoptuxbnaglllol",
)


@lru_cache(KEPT)
def clean(name: str) -> str:
    """What of a chosen name may be shown; empty if there is nothing to be seen."""
    kept: list[str] = []
    marks = ""
    for character in unicodedata.normalize("NFKC", name[:MAX_READ])[:MAX_READ]:
        category = unicodedata.category(character)
        if category in _GONE or _UNSEEN.fullmatch(character):
            continue
        if category in _MARKS:
            if not kept or kept[-1] == " " or len(marks) >= MAX_MARKS or character in marks:
                continue
            marks += character
        else:
            marks = ""
            if category in _BLANK:
                if kept and kept[-1] != " ":
                    kept.append(" ")
                continue
        kept.append(character)
    return unicodedata.normalize("NFKC", "".join(kept)).strip()


@lru_cache(KEPT)
def shown(name: str) -> str:
    """A name in a line or cell; empty if there is none."""
    return isolated(_cut(clean(name)))


def title(name: str, peer: str) -> str:
    """A name, or a short id: never empty."""
    return shown(name) or short_id(peer)


def mine(name: str) -> str:
    """My own name, which nobody else's can look like."""
    return f"{shown(name)} {ME}".lstrip()


def cell(name: str) -> str:
    """A name in a table that has a column for ids."""
    return shown(name) or NO_NAME


def told_apart(named: Mapping[PeerId, str]) -> dict[PeerId, str]:
    """A title for each peer by its chosen name; if two look alike, both with the ends of their ids."""
    looks = Counter(skeleton(name) for name in named.values())
    return {
        peer: title(name, peer) + (f" (…{peer[-ENDING:]})" if shown(name) and looks[skeleton(name)] > 1 else "")
        for peer, name in named.items()
    }


@lru_cache(KEPT)
def skeleton(name: str) -> str:
    """The same for names that a person might take for one another."""
    plain = unicodedata.normalize("NFD", clean(name).casefold()).translate(_LOOKS_LIKE)
    letters = "".join(c for c in plain if unicodedata.category(c)[0] in "LN")
    return (letters or plain).replace("rn", "m").replace("vv", "w")


def fault(name: str) -> str:
    """What others would see instead of a name that its owner chose; empty if they see it as it is."""
    seen = clean(name)
    return "" if unicodedata.normalize("NFC", name) == seen else seen or "nothing at all"


def alike(asked: str, named: Iterable[tuple[str, str]]) -> list[str]:
    """The ids of those among (name, id) whose name looks as what was asked for."""
    look = skeleton(asked)
    return [peer for name, peer in named if look and skeleton(name) == look]


def _cut(name: str) -> str:
    widths = list(accumulate(map(columns, name)))
    if not widths or widths[-1] <= MAX_COLUMNS:
        return name
    return name[: bisect_right(widths, MAX_COLUMNS - 1)].rstrip() + "…"
