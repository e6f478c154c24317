"""The processor's energy counter (RAPL, through Linux's powercap folder), where the machine lets us read it.

It knows files and counts; it does not know what an answer is. Most machines show the counter to root only.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PROC_STAT = Path("/proc/stat")
WINDOW_SECONDS = 1.0
MOST_WATTS = 1_000.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The counters at one moment: `at` in monotonic seconds, `busy` in core seconds since start, microjoules else.

    `ranges` says at which count each package's counter starts again from zero.
    """

    at: float
    packages: Mapping[str, int]
    ranges: Mapping[str, int]
    busy: float


@dataclass(frozen=True, slots=True)
class Watts:
    """Watts drawn by one busy core: the figure to use, and the range it lies in."""

    value: float
    low: float
    high: float


Read = Callable[[], Reading | None]


def measured_watts(before: Reading, after: Reading, cores: int) -> Watts | None:
    """Return what one busy core drew between two readings; None where the counters cannot say.

    P = sum over packages of the counted joules / seconds. Low is P / cores, high is P, the value P / max(1, mean busy
    cores): what the package draws while idle is charged to whoever works. None where the window is under a second (the
    counter is too coarse), so long that a counter may have run through more than once, or without any movement.
    """
    elapsed = after.at - before.at
    if elapsed < WINDOW_SECONDS or not before.packages or before.packages.keys() != after.packages.keys():
        return None
    if any(elapsed * MOST_WATTS * 1e6 > bound for bound in after.ranges.values()):
        return None
    counted = sum(_counted(before, after, package) for package in after.packages)
    power = counted / 1e6 / elapsed
    if power <= 0:
        return None
    busy = min(max((after.busy - before.busy) / elapsed, 1.0), float(max(cores, 1)))
    return Watts(power / busy, power / max(cores, 1), power)


class PowerMeter:
    """Keeps the watts of the last complete window; reads at most once a second. One thread at a time."""

    def __init__(self, read: Read, *, cores: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._cores = cores
        self._clock = clock
        self._before = read()
        self._watts: Watts | None = None

    def watts(self) -> Watts | None:
        """Return the latest measurement; None until a first window is complete."""
        if self._before is not None and self._clock() - self._before.at < WINDOW_SECONDS:
            return self._watts
        after = self._read()
        if after is None:
            self._watts = None
        elif self._before is not None:
            self._watts = measured_watts(self._before, after, self._cores) or self._watts
        self._before = after
        return self._watts


def open_meter(powercap: Path = POWERCAP, proc_stat: Path = PROC_STAT) -> PowerMeter | None:
    """Return a meter on this machine's counters; None where one of them is missing or may not be read.

    Only package domains count: cores, graphics and memory lie inside them or beside them, and adding those up counts
    energy twice (CodeCarbon 3 methodology); `intel-rapl-mmio` shows the same packages once more.
    """

    def read() -> Reading | None:
        return read_counters(powercap, proc_stat)

    return None if read() is None else PowerMeter(read, cores=os.cpu_count() or 1)


def read_counters(powercap: Path, proc_stat: Path) -> Reading | None:
    """Read all package counters and the machine's busy core seconds; None where any of it cannot be read."""
    try:
        folders = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if _text(folder, "name")[:7] == "package"]
        packages = {folder.name: int(_text(folder, "energy_uj")) for folder in folders}
        ranges = {folder.name: int(_text(folder, "max_energy_range_uj")) for folder in folders}
        busy = _busy_seconds(proc_stat.read_text("ascii", "replace"))
    except (OSError, ValueError, IndexError):
        return None
    return Reading(time.monotonic(), packages, ranges, busy) if packages else None


def _counted(before: Reading, after: Reading, package: str) -> int:
    counted = after.packages[package] - before.packages[package]
    return counted + after.ranges[package] if counted < 0 else counted


def _text(folder: Path, name: str) -> str:
    return (folder / name).read_text("ascii", "replace").strip()


def _busy_seconds(stat: str) -> float:
    """Return user, nice, system, irq and softirq time of all cores (proc(5): fields 1 to 3, 6 and 7 of `cpu`)."""
    ticks = [int(field) for field in stat.splitlines()[0].split()[1:8]]
    return (ticks[0] + ticks[1] + ticks[2] + ticks[5] + ticks[6]) / os.sysconf("SC_CLK_TCK")
