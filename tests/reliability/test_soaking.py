"""The harness of harnesses: tallies add up, a soak survives a kill at any byte, results and page are honest."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import reliability
from reliability.harness import Failure, Promise, Tally
from reliability.results import Result, keep_result, page, read_results
from reliability.soaking import Busy, read_state, soak


def run(cases, folder, broken):
    assert list(folder.iterdir()) == []
    tally = Tally()
    for case in cases:
        tally.count("tried")
        tally.measure("number", case)
        if broken or case == 7:
            tally.fail(case, "seven")
    return tally


PROMISE = Promise(
    id="R99", says="numbers are counted", asked="at most one failure", unit="numbers", full=20, sample=5, slow=10,
    control=2, chunk=4, run=run, judge=lambda tally: ["two failed"] if tally.counts["failed"] > 1 else [],
    seen=lambda tally: f"{tally.counts['failed']} of {tally.counts['tried']}",
)  # fmt: skip
RESULT = Result("R99", "numbers", "one", "one", (), "two failed", "", 20, 20, "numbers", 1.0, ("a",),
                "scripts/soak R99", "2026-11-22")  # fmt: skip


def quiet(done, cases, left):
    """Tell nobody."""


def test_tallies_add_up_and_survive_json():
    whole = Tally()
    for part in (range(0, 8), range(8, 12)):
        whole.add(Tally.from_json(json.loads(json.dumps(run_part(part).to_json()))))
    assert whole == run_part(range(12))
    assert whole.failures == [Failure(7, "seven")]
    assert whole.share("failed", "tried") == 1 / 12 and whole.share("failed", "nothing") == 0.0
    assert (whole.quantile("number", 0.5), whole.quantile("number", 1.0), whole.quantile("none", 0.5)) == (5, 11, 0.0)


def run_part(cases):
    return PROMISE.run(cases, Empty(), False)


class Empty:
    """A folder with nothing in it."""

    def iterdir(self):
        return iter(())


async def test_an_asynchronous_run_is_awaited(tmp_path):
    import asyncio

    async def later(cases, folder, broken):
        return run(cases, folder, broken)

    promise = replace(PROMISE, run=later)
    tally = await asyncio.to_thread(promise.try_cases, range(3), tmp_path)
    assert tally.counts["tried"] == 3


def test_a_soak_runs_every_case_once(tmp_path):
    found = soak(PROMISE, 10, tmp_path / "state", quiet)
    assert found.tally.values["number"] == list(range(10))
    assert soak(PROMISE, 10, tmp_path / "state", quiet).tally == found.tally
    more = soak(PROMISE, 20, tmp_path / "state", quiet)
    assert more.tally.values["number"] == list(range(20)) and more.done == set(range(20))
    fresh = soak(PROMISE, 5, tmp_path / "state", quiet, fresh=True)
    assert fresh.done == set(range(5))


def test_a_soak_cut_at_any_byte_goes_on_and_comes_to_the_same(tmp_path):
    whole = soak(PROMISE, 10, tmp_path / "whole", quiet)
    written = (tmp_path / "whole").read_bytes()
    for cut in range(0, len(written), 13):
        (tmp_path / "cut").write_bytes(written[:cut])
        again = soak(PROMISE, 10, tmp_path / "cut", quiet)
        assert (again.tally.counts, again.done) == (whole.tally.counts, whole.done)


def test_a_killed_soak_loses_only_the_chunk_it_was_in(tmp_path):
    program = (
        "import os, signal\nfrom pathlib import Path\nfrom dataclasses import replace\n"
        "from tests_of_soaking import PROMISE, quiet\nfrom reliability.soaking import soak\n"
        "def run(cases, folder, broken):\n"
        "    if 9 in cases: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return PROMISE.run(cases, folder, broken)\n"
        f"soak(replace(PROMISE, run=run), 20, Path({str(tmp_path / 'state')!r}), quiet)\n"
    )
    (tmp_path / "tests_of_soaking.py").write_text(Path(__file__).read_text())
    places = os.pathsep.join([str(tmp_path), str(Path(reliability.__file__).parents[1])])
    child = subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": places})
    assert child.returncode == -signal.SIGKILL
    assert read_state(tmp_path / "state").done == set(range(8))
    assert soak(PROMISE, 20, tmp_path / "state", quiet).tally.values["number"] == list(range(20))


def test_a_state_has_one_writer(tmp_path):
    def run_inside(cases, folder, broken):
        with pytest.raises(Busy, match="another process"):
            soak(PROMISE, 4, tmp_path / "state", quiet)
        return run(cases, folder, broken)

    assert soak(replace(PROMISE, run=run_inside), 4, tmp_path / "state", quiet).done == set(range(4))


def test_a_sample_does_not_hide_a_full_run_but_a_failure_always_shows(tmp_path):
    path = tmp_path / "results.json"
    assert keep_result(RESULT, path)
    assert not keep_result(replace(RESULT, cases=5), path)
    assert read_results(path) == {"R99": RESULT}
    failed = replace(RESULT, cases=5, complaints=("two failed",))
    assert keep_result(failed, path) and read_results(path) == {"R99": failed}
    assert keep_result(replace(RESULT, cases=6), path)


def test_the_page_says_what_was_sampled_what_failed_and_what_was_not_run():
    assert "sampled: 5 of 20 numbers" in page({"R99": replace(RESULT, cases=5)}, [PROMISE])
    whole = page({"R99": RESULT}, [PROMISE])
    assert "| yes | 20 numbers | `scripts/soak R99`, 2026-11-22 |" in whole and "sampled:" not in whole
    failed = page({"R99": replace(RESULT, complaints=("two failed",))}, [PROMISE])
    assert "| no |" in failed and "does not hold: two failed" in failed
    assert "| in part |" in page({"R99": replace(RESULT, open="eight")}, [PROMISE])
    assert "not run yet" in page({}, [PROMISE])
