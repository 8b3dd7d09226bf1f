"""What a panel of the dashboard draws, as frozen values: words, bars, series or a table. Loads nothing but msgspec.

The web page and the terminal draw these few kinds, so that a new panel needs no line of JavaScript. Names in a drawing
come from strangers; whoever draws treats them as plain text.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Unit = Literal["", "text", "id", "number", "loss", "perplexity", "percent", "bytes", "seconds", "milliseconds", "rate"]
"""How a number is written; `percent` is a share between 0 and 1, `rate` is a count per second."""

Tone = Literal["plain", "good", "warn", "bad"]
Value = str | int | float | bool | None


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled value."""

    label: str
    value: Value
    unit: Unit = ""
    tone: Tone = "plain"


class Words(msgspec.Struct, frozen=True, kw_only=True, tag="words", tag_field="kind"):
    """A headline, sentences below it, and facts."""

    headline: str = ""
    tone: Tone = "plain"
    sentences: list[str] = []
    facts: list[Fact] = []


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar; `key` keeps a peer's colour the same in every panel."""

    label: str
    key: str
    value: float
    note: str = ""
    mine: bool = False


class BarChart(msgspec.Struct, frozen=True, kw_only=True, tag="bars", tag_field="kind"):
    """Horizontal bars from zero to `full`."""

    bars: list[Bar]
    full: float
    unit: Unit
    empty: Annotated[str, Meta(description="Said where there are no bars.")]
    sentences: Annotated[list[str], Meta(description="Above the bars, and where there are none.")] = []


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a chart; points are (x, y), y None if nothing was measured."""

    label: str
    key: str
    points: list[tuple[float, float | None]]
    mine: bool = False


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened at x."""

    x: float
    label: str


class Series(msgspec.Struct, frozen=True, kw_only=True, tag="series", tag_field="kind"):
    """Lines over x, or with `stacked` areas that lie upon one another from zero to one."""

    lines: list[Line]
    x_label: str
    y_label: str
    unit: Unit
    empty: str
    stacked: bool = False
    marks: list[Mark] = []
    sentences: Annotated[list[str], Meta(description="Above the lines.")] = []


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table."""

    label: str
    unit: Unit = "text"


class Table(msgspec.Struct, frozen=True, kw_only=True, tag="table", tag_field="kind"):
    """Rows under columns."""

    columns: list[Column]
    rows: list[list[Value]]
    empty: str


Drawing = Words | BarChart | Series | Table


class DrawnPanel(msgspec.Struct, frozen=True, kw_only=True):
    """A panel as it travels to whoever draws it."""

    name: str
    title: str
    help: str
    width: str
    drawing: Drawing


class PanelsDrawn(msgspec.Struct, frozen=True, kw_only=True):
    """GET /v1/panels."""

    panels: list[DrawnPanel]
