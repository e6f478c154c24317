"""A3: how much processor time and memory it takes to verify a ledger in full, in a process of its own.

Time is the processor's, so that other work on the machine is not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from reliability.filled import fill
from reliability.harness import Promise, Tally

SECONDS_A_MILLION, MEBIBYTES = 60.0, 200.0
CHILD = """
import json, sys, time
from pathlib import Path
from insource.store.proof import verify as module
from insource.store.proof.tree import Frontier
if sys.argv[2] == "broken":
    class Whole(Frontier):
        kept = []
        def extended(self, hashes):
            self.kept.extend(hashes)
            made = Frontier().extended(self.kept) if len(self.kept) % 100 == 0 else Frontier.extended(self, hashes)
            return Whole(made.size, made.roots)
    import insource.store.proof.regrown as regrown
    regrown.Frontier = Whole
started = time.process_time()
verdict = module.verify(Path(sys.argv[1]), module.Outside(), lambda done, of: None)
seconds = time.process_time() - started
most = Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]  # ru_maxrss begins at the parent's
print(json.dumps([seconds, int(most) / 1024, verdict.rows, len(verdict.faults)]))
"""


def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Verify a ledger of as many rows as there are cases; `broken` makes the whole tree anew every hundred rows."""
    tally = Tally()
    rows = len(cases) // 2 * 2
    fill(folder / "home", rows)
    command = [sys.executable, "-c", CHILD, str(folder / "home"), "broken" if broken else "sound"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    seconds, mebibytes, verified, faults = json.loads(done.stdout)
    tally.count("rows", verified)
    tally.count("faults", faults)
    tally.measure("seconds a million", seconds / verified * 1e6)
    tally.measure("MiB", mebibytes)
    return tally


def judge(tally: Tally) -> list[str]:
    """Quick enough, small enough, and without a fault."""
    found = []
    if tally.quantile("seconds a million", 1.0) > SECONDS_A_MILLION:
        found.append(f"{tally.quantile('seconds a million', 1.0):.0f} s of processor time for a million rows")
    if tally.quantile("MiB", 1.0) > MEBIBYTES:
        found.append(f"{tally.quantile('MiB', 1.0):.0f} MiB of memory")
    if tally.counts["faults"] or not tally.counts["rows"]:
        found.append(f"{tally.counts['faults']} faults in {tally.counts['rows']:,} sound rows")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    return (
        f"{tally.counts['rows']:,} rows verified at {tally.quantile('seconds a million', 1.0):.1f} s of processor time "
        f"for a million, with {tally.quantile('MiB', 1.0):.0f} MiB"
    )


PROMISE = Promise(
    id="A3",
    says="Full verification is quick",
    asked="1 million records at most 60 s on one core, at most 200 MiB memory",
    unit="rows",
    full=1_000_000,
    sample=20_000,
    slow=60_000,
    control=20_000,
    chunk=1_000_000,
    run=run,
    judge=judge,
    seen=seen,
    open="rows without kept texts; one with a text takes one more digest, and opening its seal",
    timed=True,
)
