"""How much memory the worker may take, so that a model too big for the machine ends the worker and nothing else.

What is limited is data (RLIMIT_DATA: private writable memory, as Linux counts it since 4.7), not addresses: torch and
CUDA reserve many times what they use. Beyond the limit an allocation fails, which is told plainly; without one the
kernel would first push everything else out, then kill what it finds, by a score that puts the worker before the daemon.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

MIB: Final = 2**20
VMSTAT: Final = Path("/proc/vmstat")
SHARE: Final = 0.75  # of the machine's memory, if the user does not say: the rest is for whatever else runs there
OOM_SCORE: Final = 300  # on top of the daemon's, of a thousand: what uses a third of the memory is not killed before it
TOLD_BY_NATIVE_CODE: Final = re.compile(
    r"allocat\w* (\w+ )*memory|memory allocation|bad_alloc|failed to map segment", re.IGNORECASE
)
"""What remains of a failed allocation in an error or in the last words of a process; native code often just aborts."""


def limit_mib(wanted: int) -> int:
    """What the user said, or else a share of the machine; 0 if that is not known."""
    if wanted:
        return wanted
    try:
        return int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")) // MIB
    except (ValueError, OSError):
        return 0


def hold_to(mib: int) -> bool:
    """Limit this process; whether the system does that. Elsewhere than on Linux it is not counted."""
    if sys.platform != "linux" or mib <= 0:
        return False
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = mib * MIB if hard == resource.RLIM_INFINITY else min(mib * MIB, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    return True


def offer_first(pid: int) -> None:
    """Have the kernel, when memory is gone, kill that process rather than this one. Not every system lets us."""
    try:
        mine = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, mine + OOM_SCORE)), encoding="ascii")
    except (OSError, ValueError):
        return


def kernel_kills() -> int:
    """How often the kernel has killed a process of this machine for lack of memory; 0 if it does not say."""
    try:
        lines = VMSTAT.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def is_lack_of(error: BaseException) -> bool:
    """Whether an error means that memory is gone: accelerators have a class of their own for it, the CPU words."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or TOLD_BY_NATIVE_CODE.search(str(error)) is not None
    )
