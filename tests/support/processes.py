"""Looking at processes of the system."""

from __future__ import annotations

import time
from pathlib import Path

LOOK_SECONDS = 0.05


def is_gone(process_id: int, seconds: float = 10.0) -> bool:
    """Whether a process ends within so long."""
    deadline = time.monotonic() + seconds
    while Path(f"/proc/{process_id}").exists() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return not Path(f"/proc/{process_id}").exists()


def children_of(process_id: int) -> list[int]:
    """Processes whose parent it is."""
    text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    return [int(child) for child in text.split()]
