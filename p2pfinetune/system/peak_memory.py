"""The most memory that this process ever held, from a moment on. Only Linux can be asked to forget what was before.

VmHWM is the peak of the resident set; writing 5 to `clear_refs` makes the present size the peak (proc(5)). Simulations
that follow one another in a process would else all have the figure of the largest before them.
"""

from __future__ import annotations

from pathlib import Path

SELF = Path("/proc/self")
RESET_PEAK = "5"


def forget() -> None:
    """From now on; without effect if this system has no such thing."""
    try:
        (SELF / "clear_refs").write_text(RESET_PEAK)
    except OSError:
        return


def reached() -> int | None:
    """Bytes; None if this system does not say."""
    try:
        lines = (SELF / "status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024 * int(found[0]) if found else None
