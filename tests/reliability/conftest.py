"""Which promises a module tries, and where."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from reliability.harness import promises

KNOWN = promises()
MEMORY, ROOM = Path("/dev/shm"), 2**30


def pytest_generate_tests(metafunc):
    """Give each test of a promise those that are TIMED as its module says."""
    if "promise" in metafunc.fixturenames:
        chosen = [promise for promise in KNOWN.values() if promise.timed is metafunc.module.TIMED]
        metafunc.parametrize("promise", chosen, ids=[promise.id for promise in chosen])


@pytest.fixture
def folder(tmp_path):
    """An empty folder, in memory where the machine has room there: samples are no test of a disk.

    What a power cut or a failing disk does is simulated (`reliability.disk`), so no sample hangs on a real sync; full
    runs (`scripts/soak`) are on the disk.
    """
    if not MEMORY.is_dir() or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ROOM:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(prefix="insource-", dir=MEMORY) as made:
        yield Path(made)
