"""Panels of the dashboard: one file each, no other edit; see `_base`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from p2pfinetune.registry import Registry
from peerd.control.drawings import BarChart, Drawing, DrawnPanel, PanelsDrawn, Series, Table, Words
from peerd.control.panels._base import Panel
from peerd.status import RoundRecord, Status

PANELS: Registry[Panel] = Registry("peerd.control.panels", Panel, "panel")  # type: ignore[type-abstract]  # its base

__all__ = [
    "PANELS",
    "BarChart",
    "Drawing",
    "DrawnPanel",
    "Panel",
    "PanelsDrawn",
    "Series",
    "Table",
    "Words",
    "draw_all",
]


def draw_all(status: Status, rounds: Sequence[RoundRecord]) -> list[DrawnPanel]:
    """Every panel there is, in the order of the page."""
    panels = sorted(
        ((name, PANELS.make(name)) for name in PANELS.names()), key=lambda found: (found[1].order, found[0])
    )
    return [
        DrawnPanel(
            name=name,
            title=panel.title,
            help=inspect.getdoc(type(panel)) or "",
            width=panel.width,
            drawing=panel.draw(status, rounds),
        )
        for name, panel in panels
    ]
