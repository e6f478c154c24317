"""Harnesses that look for more than one thing: each is found by itself, and a sound build is not told as broken."""

import asyncio
import signal
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from insource.gateway.app import create_app
from insource.gateway.keyring import Keyring
from insource.store.proof.checking import Fault
from insource.store.proof.verify import Verdict
from reliability import a01_alterations as a01
from reliability import a03_verify_speed as a03
from reliability import x03_sql_injection as x03
from reliability import x04_default_deny as x04
from reliability import x06_no_mixups as x06
from reliability import x07_model_files as x07
from reliability import x11_budgets as x11
from reliability.alterations import Altered
from reliability.harness import Tally, promises
from reliability.raw_http import Reply
from reliability.results import PAGE, page, read_results
from reliability.running_gateway import until
from reliability.served import make_home


def complaints(told):
    return [complaint.partition(":")[0] for complaint in told]


@pytest.mark.parametrize(("sound", "told"), [(False, ["let in by role"]), (True, [])])
def test_a_gateway_without_a_door_is_told_by_the_roles_alone(tmp_path, monkeypatch, sound, told):
    monkeypatch.setattr(x04, "CASES", [case for case in x04.CASES if case.role])
    if sound:
        monkeypatch.setattr(x04, "doorless", lambda parts, header: create_app(parts))
    tally = x04.PROMISE.try_cases(range(700), tmp_path, broken=True)
    assert complaints(x04.judge(tally)) == told
    assert tally.counts["asked"] == tally.counts["by role"] == 700


def test_a_route_that_says_nothing_is_found_where_nobody_checks(tmp_path, monkeypatch):
    file = make_home(tmp_path, "http://127.0.0.1:9/v1")
    assert x04._planted_stops_the_start(file)
    monkeypatch.setattr("insource.gateway.app.check_routes", lambda routes: None)
    assert not x04._planted_stops_the_start(file)


async def test_forgeries_are_let_in_by_the_broken_door_alone(tmp_path):
    found = {}
    for kind in (x06.Prefixes, Keyring):
        found[kind] = Tally()
        await x06.try_forgeries(found[kind], range(200), tmp_path / kind.__name__, kind)
    assert complaints(x06.judge(found[x06.Prefixes])) == ["let in"] and x06.judge(found[Keyring]) == []


def test_a_control_of_revocations_and_forgeries_needs_both():
    both = Tally(Counter({"broken": 1, "forged": 9, "real": 1, "let in": 3, "due": 2, "revoked": 2}), {"seconds": [2]})
    assert len(x06.judge(both)) == 2
    assert x06.judge(replace(both, counts=both.counts - Counter({"let in": 3}))) == []
    assert x06.judge(replace(both, values={"seconds": [0.2]})) == []
    sound = replace(both, counts=both.counts - Counter({"let in": 3, "broken": 1}), values={"seconds": [0.2]})
    assert x06.judge(sound) == []
    assert x06.judge(replace(sound, counts=sound.counts - Counter({"revoked": 1}))) == ["not everything was tried"]
    assert x06.judge(replace(sound, counts=sound.counts + Counter({"not refused as such": 1}))) == [
        "a revoked key met something else than 401 1 times"
    ]


async def test_whatever_but_401_meets_a_revoked_key_is_a_failure(tmp_path, monkeypatch):
    class Stub:
        """A gateway that lets a key in once on each connection, then answers otherwise."""

        def __init__(self):
            self.asked = 0

        @classmethod
        async def open(cls, port):
            return cls()

        async def ask(self, request, seconds):
            self.asked += 1
            return Reply(200 if self.asked < 3 else 503, whole=True)

        def cut(self):
            """Nothing is open."""

    monkeypatch.setattr(x06, "Wire", Stub)
    tally = Tally(Counter({"forged": 1, "real": 1, "due": 1}))
    with x06.Registry.open(tmp_path) as registry:
        await x06._revoke(tally, 0, registry, 0)
    assert x06.judge(tally) == ["a revoked key met something else than 401 12 times"]


def test_a_verifier_that_says_any_row_is_told(tmp_path, monkeypatch):
    sound = a01.verify

    def vague(home, outside, report):
        verdict = sound(home, outside, report)
        told = [Fault(1, "one of rows 1 to 999,999 is not as the checkpoint signed it was")]
        verdict.faults = told if verdict.faults else []
        return verdict

    monkeypatch.setattr(a01, "KINDS", [kind for kind in a01.KINDS if kind.__name__ in ("payload", "insert", "rewrite")])
    monkeypatch.setattr(a01, "verify", vague)
    assert a01.judge(a01.run(range(6), tmp_path, False)) == ["6 of 6 alterations: misnamed"]


@pytest.mark.parametrize(("broken", "sound"), [("trusting_tiles", a01.verify),
                                               ("trusting_the_checkpoint", a01.verify_ledger.main)])  # fmt: skip
def test_a_control_of_two_verifiers_looks_through_both(tmp_path, monkeypatch, broken, sound):
    """With either of them sound nothing goes unnoticed by it, and the control is not found."""
    monkeypatch.setattr(a01, "KINDS", [kind for kind in a01.KINDS if kind.__name__ == "payload"])
    tallies = [a01.run(range(1), tmp_path / "broken", True)]
    monkeypatch.setattr(a01, broken, sound)
    tallies.append(a01.run(range(1), tmp_path / "sound", True))
    assert [a01.judge(tally) for tally in tallies] == [
        ["1 of 1 alterations: unnoticed", "1 of 1 alterations: unnoticed by the second"], []
    ]  # fmt: skip


def test_the_memory_of_a_verification_is_not_that_of_who_started_it(tmp_path):
    large = bytearray(b"x") * int(1.1 * a03.MEBIBYTES * 2**20)
    tally = a03.run(range(200), tmp_path, False)
    assert 10 < tally.quantile("MiB", 1.0) < a03.MEBIBYTES < len(large) / 2**20


@pytest.mark.parametrize(
    ("module", "counts"),
    [(x03, {"payloads": 8, "rows kept": 9, "read afterwards": 1}), (x07, {"mutants": 9, "samples": 34})],
)
def test_a_control_that_tries_less_is_not_found_by_that(module, counts):
    assert module.judge(Tally(Counter(counts | {"broken": 1}))) == []
    assert module.judge(Tally(Counter(counts))) != []
    for what in counts:
        assert module.judge(Tally(Counter(counts | {"broken": 1, what: 0}))) != []


@pytest.mark.parametrize(
    ("kind", "what", "named"),
    [
        ("rewrite", "one of rows 1 to 1,752 is not", True),
        ("rewrite", "one of rows 1 to 1,753 is not", False),
        ("rewrite", "one of rows 1 to 299 is not", False),
        ("rewrite", "one of rows 301 to 1,752 is not", False),
        ("payload", "one of rows 1 to 1,752 is not", False),
        ("payload", "row 300 is not", True),
    ],
)
def test_a_row_is_named_exactly_or_within_a_range_where_no_more_can_be_known(kind, what, named):
    first = 300 if what.startswith("row") else int(what.split()[3])
    verdict = Verdict(rows=1_752, faults=[Fault(first, what)])
    assert a01._named(Tally(), kind, Altered(300), verdict) is named
    assert not a01._named(Tally(), kind, Altered(300), Verdict(rows=1_752, faults=[Fault(299, "row 299 is not")]))


@pytest.mark.parametrize(
    ("case", "after", "told"),
    [(7, 429, False), (7, 200, True), (7, 0, True), (47, 429, False), (47, 0, True), (47, 500, True)],
)
async def test_a_gateway_started_again_that_does_not_refuse_is_told(tmp_path, monkeypatch, case, after, told):
    starts = served_by_a_stub(monkeypatch, after)
    tally = Tally()
    await x11._serve(tally, case, tmp_path / "home")
    assert ("answered otherwise after a restart" in complaints(x11.judge(tally))) is told
    assert tally.counts["gateways killed"] == 1 and len(starts) == 2


@pytest.mark.parametrize("reached", [True, False])
async def test_a_gateway_is_killed_while_its_upstream_holds_a_reply(tmp_path, monkeypatch, reached):
    starts = served_by_a_stub(monkeypatch, 429, reached=reached)
    tally = Tally()
    await x11._serve(tally, 47, tmp_path / "home")
    assert starts[0] == [(signal.SIGKILL, int(reached), False)]
    assert tally.counts["under way due"] == 1
    assert tally.counts["killed with requests under way"] == int(reached)


def served_by_a_stub(monkeypatch, after, reached=True):
    """Have X11 run a gateway that is none; return what was signalled to each start, and at which state upstream."""
    starts = []

    class Upstream:
        url, asked, streams = "http://127.0.0.1:9/v1", x11.UNITS, 0

        async def __aenter__(self):
            self.end = asyncio.Event()
            asyncio.get_running_loop().call_later(0.02, self.reach)
            upstreams.append(self)
            return self

        async def __aexit__(self, *error):
            """Nothing is open."""

        def reach(self):
            self.streams = int(reached)

    class Stub:
        port = 0

        def signal(self, number):
            (upstream,) = upstreams
            starts[-1].append((number, upstream.streams, upstream.end.is_set()))

    upstreams = []

    @asynccontextmanager
    async def running(file):
        starts.append([])
        yield Stub()

    async def post(port, text):
        return 200 if len(starts) == 1 else after

    monkeypatch.setattr(x11, "PlainUpstream", Upstream)
    monkeypatch.setattr(x11, "until", partial(until, seconds=0.1))
    monkeypatch.setattr(x11, "running", running)
    monkeypatch.setattr(x11, "_post", post)
    return starts


RACED = Counter(
    {"runs": 8, "granted": 1, "refused": 1, "killed": 1, "gateways due": 1, "gateways killed": 1, "leased": 9,
     "on lease": 3, "had leases": 3}
)  # fmt: skip
SPENT = {"spent of the budget": [0.7], "spent on lease": [0.9]}


def test_a_gateway_that_was_to_be_killed_and_was_not_is_told():
    tally = Tally(RACED, SPENT)
    assert x11.judge(tally) == []
    assert x11.judge(replace(tally, counts=RACED - Counter({"gateways killed": 1}))) == ["not every outcome was tried"]
    assert x11.judge(replace(tally, counts=RACED + Counter({"under way due": 1}))) == ["not every outcome was tried"]


def test_races_without_leases_or_that_spend_nothing_are_told():
    for missing in ({"leased": 9}, {"had leases": 1}):
        tally = Tally(RACED - Counter(missing), SPENT)
        assert x11.judge(tally) == ["not every outcome was tried"]
    for kind in SPENT:
        assert complaints(x11.judge(Tally(RACED, {**SPENT, kind: [0.1]}))) == [
            "hardly anything of the budgets could be spent"
        ]


def test_a_control_of_budgets_needs_both_broken_builds():
    both = RACED + Counter({"broken": 1, "overspent": 2, "overspent on lease": 1})
    assert complaints(x11.judge(Tally(both, SPENT))) == ["overspent", "overspent on lease"]
    for one in ("overspent", "overspent on lease"):
        found = both - Counter({one: 2})
        assert x11.judge(Tally(found, SPENT)) == []
        sound = found - Counter({"broken": 1})
        assert len(x11.judge(Tally(sound, SPENT))) == 1


def test_every_range_of_cases_serves_what_it_is_to_serve():
    served = {
        name: {case // x11.SERVED_EVERY % 2 for case in cases if case % x11.SERVED_EVERY == x11.SERVED_AT}
        for name, cases in {"sample": range(x11.PROMISE.sample), "slow": range(8, x11.PROMISE.slow)}.items()
    }
    assert served["sample"] and served["slow"] == {0, 1}
    slow = range(x06.PROMISE.sample, x06.PROMISE.slow)
    for cases in (range(x06.PROMISE.sample), range(x06.PROMISE.control), slow):
        assert any(case % x06.REVOKED_EVERY == 0 for case in cases)


def test_the_page_is_what_the_results_make():
    assert PAGE.read_text("utf-8") == page(read_results(), promises().values()), "scripts/soak --write"
