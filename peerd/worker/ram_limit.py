"""How much memory the worker may take, so that a model too big for the machine ends the worker and nothing else.

What is limited is data (RLIMIT_DATA: private writable memory, as Linux counts it since 4.7), not addresses: torch and
CUDA reserve many times what they use. Beyond the limit an allocation fails, which is told plainly; without one the
kernel would first push everything else out, then kill what it finds, by a score that puts the worker before the daemon.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MIB: Final = 2**20
VMSTAT: Final = Path("/proc/vmstat")
CGROUPS: Final = Path("/sys/fs/cgroup")
OWN_CGROUPS: Final = Path("/proc/self/cgroup")
UNLIMITED: Final = 2**60
M_MMAP_THRESHOLD: Final = -3  # of malloc.h
SHARE: Final = 0.75  # of the machine's memory, if the user does not say: the rest is for whatever else runs there
OOM_SCORE: Final = 300  # on top of the daemon's, of a thousand: what uses a third of the memory is not killed before it
TOLD_BY_NATIVE_CODE: Final = re.compile(
    r"allocat\w* (\w+ )*memory|memory allocation|bad_alloc|failed to map segment", re.IGNORECASE
)
"""What remains of a failed allocation in an error or in the last words of a process; native code often just aborts."""


def limit_mib(wanted: int) -> int:
    """What the user said, or else a share of the machine or of the container; 0 if that is not known."""
    if wanted:
        return wanted
    known = [size for size in (_physical(), contained()) if size]
    return int(SHARE * min(known)) // MIB if known else 0


def _physical() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0


def contained(root: Path = CGROUPS, own: Path = OWN_CGROUPS) -> int:
    """Bytes that the container or service of this process may take, the least on the way up; 0: no such limit.

    Linux, docs of the kernel: admin-guide/cgroup-v2 (`memory.max`) and cgroup-v1/memory (`memory.limit_in_bytes`, which
    holds a huge number where nothing is limited).
    """
    said = (_text(file).strip() for line in _text(own).splitlines() for file in _files_of(root, line))
    limits = [int(limit) for limit in said if limit.isdigit()]
    return min((limit for limit in limits if limit < UNLIMITED), default=0)


def _files_of(root: Path, line: str) -> list[Path]:
    """Of one line of /proc/self/cgroup: the files that may hold a limit, from the own group up."""
    _, controllers, path = line.split(":", 2)
    if controllers not in {"", "memory"}:
        return []
    top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
    inner = top / path.lstrip("/")
    return [folder / name for folder in (inner, *inner.parents) if folder.is_relative_to(top)]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def hold_to(mib: int) -> bool:
    """Limit this process; whether the system does that. Elsewhere than on Linux it is not counted."""
    if sys.platform != "linux" or mib <= 0:
        return False
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = mib * MIB if hard == resource.RLIM_INFINITY else min(mib * MIB, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    return True


@contextlib.contextmanager
def lifted(extra: int) -> Iterator[None]:
    """So many bytes more than the limit inside: of files that are mapped, whose pages can be had back at any time."""
    if sys.platform != "linux":
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    more = soft if soft == resource.RLIM_INFINITY else soft + extra
    resource.setrlimit(resource.RLIMIT_DATA, (more if hard == resource.RLIM_INFINITY else min(more, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def map_large_blocks() -> bool:
    """From now on, what is freed of large blocks goes back at once; whether there is a way to.

    glibc keeps freed blocks of up to 32 MB in its heap, where small ones that stay pin them: a base of 135 million
    parameters, quantised layer by layer, took 0.5 GB more. Mapped by themselves they cost a few percent of a large
    model's time, since the kernel clears their pages, and half as much again of a small one's (nano): only if memory
    is short.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, MIB))


def give_back() -> bool:
    """What was freed goes back to the system, whether there is a way to.

    glibc keeps freed blocks below 32 MB for later, which after a round of training are gigabytes of activations that
    nobody needs until the next (measured: 3.9 GB resident between two jobs, 1.2 of them in use).
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    return trim is not None and bool(trim(0))


def offer_first(pid: int) -> None:
    """Have the kernel, when memory is gone, kill that process rather than this one. Not every system lets us."""
    try:
        mine = int(Path("/proc/self/oom_score_adj").read_text(encoding="ascii"))
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(min(1000, mine + OOM_SCORE)), encoding="ascii")
    except (OSError, ValueError):
        return


def kernel_kills() -> int:
    """How often the kernel has killed a process of this machine for lack of memory; 0 if it does not say."""
    lines = _text(VMSTAT).splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def is_lack_of(error: BaseException) -> bool:
    """Whether an error means that memory is gone: accelerators have a class of their own for it, the CPU words."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or TOLD_BY_NATIVE_CODE.search(str(error)) is not None
    )
