"""R1 and A5: each thing that may go wrong is told by itself, and a sound home is not told of."""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from insource.store.columns import Act, Feedback, Source
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader, LedgerRow
from insource.store.registry import Registry
from insource.types import Audit, Content, Decision, Key, Outcome, Reason, Settlement
from reliability import a05_one_record as a05
from reliability import r01_kills as r01
from reliability.harness import Tally
from reliability.load import NOON
from reliability.matching_upstream import MatchingUpstream, mark
from reliability.mixed_load import ANSWER, DECIDED, MADE, REVOKED, VERSION
from reliability.mixed_requests import KINDS, Asked, Askers
from reliability.raw_http import Reply
from reliability.served import _command, workers_of

UP = Decision("r-1", NOON, Outcome.ESCALATED, Reason.NO_TASK)
SETTLED = Settlement("r-1", NOON, 200, "stub", 0.1)
ROW = LedgerRow(1, UP, SETTLED, (), None, b"", False)
TOLD = Reply(200, {"x-insource-request-id": "r-1"}, b"", True)


def opened(home):
    return Ledger.open(home.home, clock=lambda: NOON, witness=home.witness)


@pytest.fixture
def home(tmp_path):
    """A home with a request, an answer to it, and an act that the ledger has."""
    found = r01._Home(tmp_path / "home", tmp_path / "outside")
    found.outside.mkdir()
    with Registry.open(found.home) as registry, opened(found) as ledger:
        made, _ = registry.create_key(Key("", "one", NOON, "t"), "t")
        ledger.append_now(UP)
        ledger.feedback_now(Feedback("r-1", NOON, "triage", "card", "ada", Source.FEEDBACK))
        ledger.act_now(registry.acts()[0])
        registry.close_acts(1)
    found.made = made.id
    return found


def checked(home, lines, *, whole=False):
    tally = Tally()
    r01._check(tally, 0, home, None, lines, whole=whole)
    return [what for what in r01.WRONG if tally.counts[what]]


def test_what_was_acknowledged_and_stands_is_not_told(home):
    lines = [(DECIDED, "r-1"), (MADE, home.made), (ANSWER + "ada", "r-1")]
    assert checked(home, lines) == checked(home, lines, whole=True) == []


@pytest.mark.parametrize("kind", [DECIDED, MADE, REVOKED, VERSION])
def test_what_was_acknowledged_and_is_gone_is_told(home, kind):
    assert checked(home, [(kind, home.made if kind == REVOKED else "nobody")]) == ["acknowledged and lost"]


@pytest.mark.parametrize("times", [0, 2])
def test_an_act_that_is_there_twice_or_was_never_delivered_is_told(home, times):
    with Registry.open(home.home) as registry, opened(home) as ledger:
        registry.create_key(Key("", "two", NOON, "t"), "t")
        for _ in range(times):
            ledger.act_now(registry.acts()[1])
        registry.close_acts(2)
    assert checked(home, []) == ["not delivered once"]


def test_what_still_waits_is_told_at_the_end_only(home):
    with Registry.open(home.home) as registry:
        registry.create_key(Key("", "two", NOON, "t"), "t")
        registry.post_feedback(Feedback("r-1", NOON, "triage", "card", "bob", Source.LABEL))
    lines = [(ANSWER + "bob", "r-1")]
    assert checked(home, lines) == []
    assert checked(home, lines, whole=True) == ["not delivered once"]


def test_rows_that_the_witness_has_seen_and_that_are_gone_are_told(home, tmp_path):
    shutil.copytree(home.home, tmp_path / "earlier")
    with opened(home) as ledger:
        ledger.append_now(replace(UP, request_id="r-2"))
    assert checked(home, []) == []
    shutil.rmtree(home.home)
    shutil.copytree(tmp_path / "earlier", home.home)
    assert checked(home, []) == ["not as proven"]


def test_a_gateway_that_is_late_or_was_not_killed_is_told():
    counts = Counter({"kills": 2, "due": 2, "acknowledged": 9, "verified": 3})
    assert r01.judge(Tally(counts, {"ready": [1.0, 1.9]})) == []
    assert r01.judge(Tally(counts, {"ready": [1.0, 2.1]})) == ["ready after 2.10 s at p95, 2 s were asked"]
    assert r01.judge(Tally(counts - Counter({"kills": 1}), {"ready": [1.0]})) == ["not everything was tried"]


@pytest.mark.parametrize(
    ("asked", "rows", "above", "told"),
    [
        (Asked("passed up", reply=TOLD), [ROW], True, None),
        (Asked("passed up", reply=TOLD), [], True, "without a record"),
        (Asked("passed up", reply=TOLD), [ROW, ROW], True, "recorded twice"),
        (Asked("passed up", reply=TOLD), [replace(ROW, settlement=None)], True, "not settled"),
        (Asked("passed up", reply=replace(TOLD, status=502)), [ROW], True, "told otherwise"),
        (Asked("passed up", reply=replace(TOLD, headers={"x-insource-request-id": "r-2"})), [ROW], True,
         "told otherwise"),
        (Asked("passed up", reply=TOLD), [ROW], False, "not asked above"),
        (Asked("left before the head"), [replace(ROW, settlement=replace(SETTLED, detail="it left"))], True, None),
        (Asked("left before the head"), [ROW], True, "told otherwise"),
        (Asked("served", reply=TOLD), [replace(ROW, decision=replace(UP, audited=True, version=1))], False,
         "audits not once"),
        (Asked("served", reply=TOLD), [replace(ROW, audits=(Audit("r-1", NOON, "t", 1, True, True),) * 3)], False,
         "audits not once"),
        (Asked("wrong key", reply=replace(TOLD, status=401)), [], False, None),
        (Asked("wrong key", reply=replace(TOLD, status=401)), [ROW], False, "recorded undecided"),
        (Asked("wrong key", reply=replace(TOLD, status=401)), [], True, "recorded undecided"),
        (Asked("wrong key", reply=TOLD), [], False, "recorded undecided"),
    ],
)  # fmt: skip
def test_a_request_and_its_rows(asked, rows, above, told):
    tally = Tally()
    a05._match_one(tally, 0, asked, rows, above)
    assert [what for what in a05.WRONG if tally.counts[what]] == ([told] if told else [])


@pytest.mark.parametrize(
    ("text", "asked", "told"),
    [
        (f"{mark(3)} hello", {}, "records of nobody"),
        ("hello", {}, "records of nobody"),
        ("hello", {3: Asked("passed on", b"hello", TOLD)}, None),
        ("hello", {3: Asked("passed on", b"good bye", TOLD)}, "another text"),
    ],
)
def test_a_row_is_of_the_request_whose_text_it_has(tmp_path, text, asked, told):
    with Ledger.open(tmp_path, clock=lambda: NOON) as ledger:
        ledger.append_now(UP, Content("r-1", NOON, None, text), keep_text=not asked)
        ledger.settle(SETTLED)
    upstream = MatchingUpstream()
    upstream.marks[3] += 1
    tally = Tally()
    a05._match(tally, tmp_path, Askers(0, {}, upstream, asked))
    assert [what for what in a05.WRONG if tally.counts[what]] == ([told] if told else [])


@pytest.mark.parametrize(("made", "times", "told"), [(["k"], 1, 0), (["k"], 2, 1), ([], 1, 1), (["k"], 0, 1)])
def test_an_act_is_there_once(tmp_path, made, times, told):
    with Ledger.open(tmp_path, clock=lambda: NOON) as ledger:
        for _ in range(times):
            ledger.act_now(Act(NOON, "key admin", "create key", "k"))
    tally = Tally()
    with LedgerReader(tmp_path) as reader:
        a05._match_acts(tally, Askers(0, {}, MatchingUpstream(), made=made), reader)
    assert tally.counts["acts not once"] == told


def test_every_kind_is_asked_within_the_sample():
    assert sum(KINDS.values()) < a05.PROMISE.sample


def test_workers_are_children_that_run_a_program_of_their_own():
    """Not the steward, nor one that has ended, whose command is as empty as that of one about to become a program."""
    before = workers_of(os.getpid())
    wait = (sys.executable, "-c", "import sys; sys.stdin.read()")
    with (
        subprocess.Popen(wait, stdin=subprocess.PIPE) as worker,
        subprocess.Popen((*wait, "steward"), stdin=subprocess.PIPE) as steward,
        subprocess.Popen((sys.executable, "-c", "")) as ended,
    ):
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has waited for it
        for each in (worker, steward):
            deadline = time.monotonic() + 10.0
            while b"stdin" not in _command(str(each.pid)) and time.monotonic() < deadline:
                time.sleep(0.001)
        assert _command(str(ended.pid)) == b""
        assert set(workers_of(os.getpid())) - set(before) == {worker.pid}
        worker.stdin.close()
        steward.stdin.close()
