"""No orphans: children that do not outlive their parent, even one that is killed. On Linux alone, by the kernel."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h: the kernel signals the child when its parent dies


def die_with_parent(how: signal.Signals = signal.SIGKILL) -> None:
    """Asked by the child itself, before exec or after. It has to look itself whether its parent lived until then."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, how, 0, 0, 0)
