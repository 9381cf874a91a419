"""child: what a process of ours does to itself so that it neither outlives its parent nor takes more than its share."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)


def die_with(parent: int) -> None:
    """The kernel kills us when `parent` ends, however it ends; more exactly, when the thread of it that started us does."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before we asked
        sys.exit(1)


def limit_memory(more: int) -> None:
    """From now on this process gets at most `more` bytes above what it has; and it leaves no core file, which would hold pixels."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    wanted, allowed = address_space() + more, resource.getrlimit(resource.RLIMIT_AS)[1]
    most = wanted if allowed == resource.RLIM_INFINITY else min(wanted, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def address_space() -> int:
    """Bytes of address space in use, which is what RLIMIT_AS counts (getrlimit(2))."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
