"""Ending with the supervisor: no process of the gateway outlives the one that started it.

It knows process ids and the system's word for it, nothing of what a process does.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress

ORPHANED = 4
"""The exit code of a process whose supervisor is gone."""
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def end_with(supervisor: int) -> None:
    """Have the system kill this process when the supervisor ends, however it ends; where it can (Linux)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != supervisor:  # it ended before that was arranged
        os._exit(ORPHANED)
