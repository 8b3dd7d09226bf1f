"""Values as people read them, in a terminal. Text from strangers is cleaned here before it is shown."""

from __future__ import annotations

import datetime as dt
import math
import re
import unicodedata

from p2pfinetune.scoring.perplexity import DIVERGED, MAX_LOSS, MAX_PERPLEXITY

UNITS = ("B", "kB", "MB", "GB", "TB")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # controls, direction marks, surrogates, private use, line breaks
NOTHING = "–"
_APART = "\u2068{}\u2069"  # first strong isolate, pop directional isolate; https://www.unicode.org/reports/tr9/
_SET_APART = re.compile("\u2068([^\u2068\u2069]*)\u2069")
_RIGHT_TO_LEFT = {"R", "AL", "AN"}


def printable(text: str, limit: int = 0) -> str:
    """Without anything that could move a cursor, turn text around or hide; cut to `limit` characters if given."""
    clean = "".join(c for c in text if unicodedata.category(c) not in _HIDDEN)
    return clean if not limit or len(clean) <= limit else clean[: limit - 1] + "…"


def isolated(text: str) -> str:
    """Set apart if it holds letters that run from right to left, so that nothing beside it is turned around."""
    return _APART.format(text) if any(unicodedata.bidirectional(c) in _RIGHT_TO_LEFT for c in text) else text


def line(text: str) -> str:
    """Printable, and what was set apart stays so."""
    parts = _SET_APART.split(text)  # between, inside, between, inside, ...
    return "".join(isolated(printable(part)) if i % 2 else printable(part) for i, part in enumerate(parts))


def columns(text: str) -> int:
    """How many columns of a terminal it takes."""
    return sum(_columns(c) for c in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def padded(text: str, width: int, *, to_the_right: bool = False) -> str:
    """Filled up with blanks to so many columns."""
    blanks = " " * max(0, width - columns(text))
    return blanks + text if to_the_right else text + blanks


def written(value: str | float | bool | None, unit: str) -> str:
    """A value in the unit of peerd.control.drawings."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return short_id(value) if unit == "id" else line(value)
    if not math.isfinite(value) and unit not in {"loss", "perplexity"}:
        return str(value)
    return _FORMATS.get(unit, _plain)(value)


def short_id(peer: str) -> str:
    """Both ends of a peer id: every one begins alike."""
    clean = printable(peer)
    return clean if len(clean) <= 16 else f"{clean[:8]}…{clean[-6:]}"


def size(count: float) -> str:
    """Decimal units, as disks and networks count."""
    power = 0
    while count >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.0f} {UNITS[power]}" if power == 0 or count >= 99.95 else f"{count:.1f} {UNITS[power]}"


def some(count: int, noun: str) -> str:
    """`1 peer`, `2 peers`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def when(unix: float) -> str:
    """By this machine's clock and in its time zone."""
    return dt.datetime.fromtimestamp(unix).astimezone().strftime("%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """Two units at most: `2 h 3 min`."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    for unit, name, smaller, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name}" + (f" {rest} {small_name}" if rest else "")
    return f"{whole} s"


def share(part: float) -> str:
    """Whole percents; `<1 %` for what is not quite nothing."""
    return "<1 %" if 0 < part < 0.005 else f"{part:.0%}".replace("%", " %")


def perplexity(value: float) -> str:
    """Three digits or so, whatever the size."""
    if not value < MAX_PERPLEXITY:
        return DIVERGED
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def loss(value: float) -> str:
    """Nats a token."""
    return f"{value:.3f}" if value < MAX_LOSS else DIVERGED


def bar(part: float, width: int) -> str:
    """A bar of eighths of a character."""
    eighths = round(max(0.0, min(1.0, part)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _plain(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"


_FORMATS = {
    "bytes": size,
    "seconds": duration,
    "percent": share,
    "perplexity": perplexity,
    "loss": loss,
    "milliseconds": lambda value: f"{value:.0f} ms",
    "rate": lambda value: f"{value:,.0f}/s",
    "number": _plain,
}
