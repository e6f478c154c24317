"""Checks of the machine: Python, SQLite, cores against threads, and the optional packages.

It knows the process's environment; no configuration and no store.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from insource.cli.checks.check import Check
from insource.errors import StoreError

OLDEST_PYTHON = (3, 11)
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
SPINNING = {"OMP_WAIT_POLICY": ("active",), "GOMP_SPINCOUNT": ("infinite", "infinity"), "KMP_BLOCKTIME": ("infinite",)}
EXTRAS = {"demo": ("openai", "`insource demo` sends its traffic with it")}


def machine_checks() -> Iterator[Check]:
    """Yield the checks of this process and machine."""
    yield python_check(sys.version_info[:3])
    yield sqlite_check()
    yield from thread_checks(cores(), os.environ)
    for extra, (package, what_for) in EXTRAS.items():
        yield extra_check(extra, package, what_for)


def python_check(version: tuple[int, int, int]) -> Check:
    """Check Python's version."""
    told = ".".join(map(str, version))
    if version < OLDEST_PYTHON:
        return Check("python", "fail", f"{told}; 3.11 or newer was expected", "Install a newer Python.")
    return Check("python", "ok", told)


def sqlite_check(version: str | None = None) -> Check:
    """Check the SQLite that comes with APSW for the bug that loses committed writes."""
    import apsw

    from insource.store.database import check_sqlite

    version = version or apsw.sqlite_lib_version()
    try:
        check_sqlite(version)
    except StoreError as error:
        return Check("sqlite", "fail", str(error))
    return Check("sqlite", "ok", f"{version}, from apsw {apsw.apsw_version()}")


def cores(quota: Path = CPU_QUOTA) -> float:
    """Return how many cores this process may use: those it may run on, or its control group's quota if less."""
    usable = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    try:
        most, period = quota.read_text().split()[:2]
        return min(usable, int(most) / int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return usable


def thread_checks(usable: float, env: Mapping[str, str]) -> Iterator[Check]:
    """Yield what the environment says about threads, against the cores there are.

    Two processes with two spinning threads each on two cores lose the time instead of sharing it.
    """
    told = f"{usable:g} to use"
    wanted = {name: int(env[name]) for name in THREADS if env.get(name, "").isdecimal()}
    above = [f"{name}={number}" for name, number in wanted.items() if number > max(1, usable)]
    if above:
        yield Check("cores", "warn", f"{told}, but {', '.join(above)}",
                    "More threads than cores slow each other down; unset it, or set it to 1.")  # fmt: skip
    else:
        limits = ", ".join(f"{name}={number}" for name, number in wanted.items())
        yield Check("cores", "ok", told + (f"; {limits}" if limits else "; insource sets its own threads"))
    spinning = [f"{name}={env[name]}" for name, words in SPINNING.items() if env.get(name, "").lower() in words]
    if spinning:
        yield Check("waiting threads", "warn", f"{', '.join(spinning)}: threads that wait keep their core busy",
                    "Set OMP_WAIT_POLICY=passive; else training beside serving can take far longer.")  # fmt: skip


def extra_check(extra: str, package: str, what_for: str) -> Check:
    """Say whether an optional package is there; it never fails, since nothing else needs it."""
    if find_spec(package) is None:
        return Check(f"extra {extra}", "ok", f"{package} is not installed; {what_for}",
                     f'Only if you need it: pip install "insource[{extra}]"')  # fmt: skip
    return Check(f"extra {extra}", "ok", f"{package} is installed")
