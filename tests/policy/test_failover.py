"""Who is asked, in which order, how often, and what the caller gets in the end."""

import asyncio
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from scipy.stats import chisquare

from insource.backends.conformance import check_backend
from insource.backends.scripted import Scripted
from insource.errors import (
    InsourceError,
    KeptLocal,
    RequestError,
    UpstreamError,
    UpstreamResting,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from insource.policy.breaker import Breaker
from insource.policy.egress import Egress
from insource.policy.failover import LONGEST_WAIT, REPEATED, Failover
from insource.policy.member import Member
from insource.policy.retry_budget import RetryBudget
from insource.types import Message, Request, Sensitivity

GONE = UpstreamUnreachable("gone")
REQUEST = Request("r", (Message("user", "x"),), "m", body=b'{"model":"m"}', sensitivity=Sensitivity.INTERNAL)


@pytest.fixture
def failover(clock, every):
    """Build a Failover over stubs; a member is a stub, or a stub and its settings."""

    def build(*members, budget=1.0, random=None, failures=1_000, **settings):
        def member(stub, more):
            egress = Egress(stub, more.pop("allowed", every))
            return Member(stub.info.name, egress, Breaker(failures, 10.0, clock), **{**settings, **more})

        pairs = [pair if isinstance(pair, tuple) else (pair, {}) for pair in members]
        budget = budget if isinstance(budget, RetryBudget) else RetryBudget(budget)
        random = random or Random(1).random
        found = [member(stub, dict(more)) for stub, more in pairs]
        return Failover(found, budget, random=random, sleep=clock.sleep, clock=clock, now=clock.now)

    return build


async def text_of(answer):
    return b"".join([chunk async for chunk in answer.relay.chunks])


async def test_a_reply_passes_as_it_is(stub, failover):
    one = stub("one")
    answer = await failover(one, retries=3).answer(REQUEST)
    assert (answer.served_by, answer.attempts, answer.relay.status) == ("one", 1, 200)
    assert one.seen == [REQUEST] and one.seen[0] is REQUEST and one.closed == []


@pytest.mark.parametrize("line", [GONE, UpstreamTimeout("late"), UpstreamError("?"), *sorted(REPEATED)])
async def test_failures_are_repeated_and_the_replaced_reply_is_closed(stub, failover, clock, line):
    one = stub("one", line, 200)
    answer = await failover(one, retries=1).answer(REQUEST)
    assert (answer.attempts, answer.relay.status, await text_of(answer)) == (2, 200, b"one said 200, number 2")
    assert one.closed == ([] if isinstance(line, Exception) else [1]) and len(clock.slept) == 1


@pytest.mark.parametrize("status", [200, 201, 301, 400, 401, 403, 404, 408, 409, 413, 422, 499, 501, 505, 529])
async def test_other_replies_are_not(stub, failover, status):
    one, two = stub("one", status), stub("two")
    answer = await failover(one, (two, {"weight": 0}), retries=3).answer(REQUEST)
    assert (answer.relay.status, answer.attempts, len(one.seen), two.seen) == (status, 1, 1, [])


async def test_the_same_again_then_the_others_then_those_of_weight_nought_in_their_order(stub, failover):
    names = ("last", "first", "later")
    stubs = [stub(name, GONE) for name in names]
    order = []
    for each in stubs:
        each.script = [lambda request, each=each: note(each)]

    async def note(each):
        order.append(each.info.name)
        raise GONE

    members = [(stubs[0], {"weight": 0}), (stubs[1], {"weight": 2, "retries": 2}), (stubs[2], {"weight": 0})]
    with pytest.raises(UpstreamUnreachable, match="gone"):
        await failover(*members).answer(REQUEST)
    assert order == ["first", "first", "first", "last", "later"]


async def test_when_all_fail_the_last_reply_is_relayed_with_its_retry_after(stub, failover):
    one = stub("one", (503, [("Retry-After", "7")]))
    two = stub("two", (429, [("Retry-After", "9")]))
    answer = await failover(one, (two, {"weight": 0})).answer(REQUEST)
    assert (answer.served_by, answer.attempts, answer.relay.status) == ("two", 2, 429)
    assert dict(answer.relay.headers) == {"Retry-After": "9"} and await text_of(answer) == b"two said 429, number 1"
    assert (one.closed, two.closed) == ([1], [])


async def test_when_the_last_gives_no_reply_its_error_is_raised(stub, failover):
    one, two = stub("one", 500), stub("two", GONE)
    with pytest.raises(UpstreamUnreachable, match="gone"):
        await failover(one, (two, {"weight": 0})).answer(REQUEST)
    assert one.closed == [1]


async def test_a_wait_grows_with_full_jitter_and_there_is_none_before_another(stub, failover, clock):
    one, two = stub("one", 500), stub("two", 200)
    build = failover(one, (two, {"weight": 0, "retries": 0}), retries=7, budget=full(), random=lambda: 1 - 1e-12)
    assert (await build.answer(REQUEST)).served_by == "two"
    assert clock.slept == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, LONGEST_WAIT, LONGEST_WAIT])
    clock.slept.clear()
    await failover(stub("one", 500), retries=7, budget=full(), random=lambda: 0.5).answer(REQUEST)
    assert clock.slept == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def full():
    budget = RetryBudget(1.0)
    for _ in range(20):
        budget.earn()
    return budget


@pytest.mark.parametrize("weights", [(1, 1), (3, 1), (1, 2, 5), (0.1, 0.3, 0, 0.6)])
async def test_the_draw_follows_the_weights(stub, failover, weights):
    stubs = [stub(f"u{place}") for place in range(len(weights))]
    build = failover(*((each, {"weight": weight}) for each, weight in zip(stubs, weights, strict=True)))
    rounds = 4_000
    for _ in range(rounds):
        await build.answer(REQUEST)
    expected = [rounds * weight / sum(weights) for weight in weights]
    seen = [len(each.seen) for each in stubs]
    assert [count for count, weight in zip(seen, weights, strict=True) if weight == 0] == [0] * weights.count(0)
    positive = [(count, wanted) for count, wanted in zip(seen, expected, strict=True) if wanted]
    assert chisquare(*zip(*positive, strict=True)).pvalue > 0.001
    even = [rounds / len(positive)] * len(positive)
    assert weights == (1, 1) or chisquare([count for count, _ in positive], even).pvalue < 1e-6  # it can tell


async def test_after_a_failure_the_others_are_drawn_by_their_weights(stub, failover):
    build = failover(stub("one", GONE), (stub("two"), {"weight": 3}), stub("three"), budget=full())
    served = Counter([(await build.answer(REQUEST)).served_by for _ in range(3_000)])
    assert served["one"] == 0 and chisquare([served["two"], served["three"]], [2_250, 750]).pvalue > 0.001


@pytest.mark.parametrize("line", [GONE, 503])
@pytest.mark.parametrize("failures", [5, 10**9])
async def test_in_a_total_outage_attempts_stay_within_the_budget(stub, failover, clock, line, failures):
    stubs = [stub("one", line), stub("two", line), stub("three", line)]
    build = failover(*stubs, retries=5, budget=0.2, failures=failures)
    rounds = 500
    for _ in range(rounds):
        await asyncio.gather(build.answer(REQUEST), return_exceptions=True)
        clock.seconds += 0.5
    assert sum(len(each.seen) for each in stubs) <= 1.2 * rounds + 3
    assert failures > 5 or sum(len(each.seen) for each in stubs) < 0.3 * rounds


async def test_without_a_budget_the_same_check_fails(stub, failover):
    class Generous(RetryBudget):
        def spend(self):
            return True

    one = stub("one", GONE)
    build = failover(one, retries=5, budget=Generous(0.2))
    for _ in range(20):
        await asyncio.gather(build.answer(REQUEST), return_exceptions=True)
    assert len(one.seen) > 1.2 * 20 + 3


async def test_without_a_share_nothing_is_repeated(stub, failover):
    one, two = stub("one", 500), stub("two")
    answer = await failover(one, (two, {"weight": 0}), retries=2, budget=0.0).answer(REQUEST)
    assert (answer.relay.status, answer.attempts, one.closed, two.seen) == (500, 1, [], [])


async def test_a_broken_upstream_is_left_alone_and_its_place_is_taken_at_once(stub, failover, clock):
    one, two = stub("one", GONE), stub("two")
    build = failover(one, (two, {"weight": 0}), failures=5, budget=full())
    for _ in range(50):
        assert (await build.answer(REQUEST)).served_by == "two"
    assert (len(one.seen), len(two.seen), clock.slept) == (5, 50, [])
    clock.seconds += 10
    one.script = [200]
    assert (await build.answer(REQUEST)).served_by == "one"


async def test_a_fallback_for_one_that_rests_is_no_extra_attempt(stub, failover):
    one, two = stub("one", (429, [("retry-after", "30")])), stub("two")
    build = failover(one, (two, {"weight": 0}), budget=0.001)
    answers = [await build.answer(REQUEST) for _ in range(100)]
    assert [answer.attempts for answer in answers] == [2] + [1] * 99 and len(one.seen) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_retry_after_is_honoured_by_all_who_ask(stub, failover, clock, status):
    one = stub("one", (status, [("Retry-After", "20")]), 200)
    build = failover(one, retries=5)
    assert (await build.answer(REQUEST)).relay.status == status  # no second attempt: it asked for a pause
    clock.seconds += 19.9
    with pytest.raises(UpstreamResting, match="'one'.*Try again in 1 s") as error:
        await build.answer(REQUEST)
    assert error.value.retry_after == pytest.approx(0.1) and len(one.seen) == 1
    clock.seconds += 0.2
    assert (await build.answer(REQUEST)).relay.status == 200


async def test_a_date_and_a_cap_for_retry_after(stub, failover, clock):
    date = clock.now().replace(year=clock.now().year + 1).strftime("%a, %d %b %Y %H:%M:%S GMT")
    build = failover(stub("one", (503, [("retry-after", date)])))
    await build.answer(REQUEST)
    with pytest.raises(UpstreamResting) as error:
        await build.answer(REQUEST)
    assert error.value.retry_after == 60.0


async def test_a_trial_under_way_is_no_time_to_ask(stub, failover, clock):
    release = asyncio.Event()

    async def waits(request):
        await release.wait()
        return 200

    one = stub("one", GONE, waits, 200)
    build = failover(one, failures=1)
    with pytest.raises(UpstreamUnreachable):
        await build.answer(REQUEST)
    clock.seconds += 10
    trial = asyncio.ensure_future(build.answer(REQUEST))
    await asyncio.sleep(0)
    with pytest.raises(UpstreamResting) as error:
        await build.answer(REQUEST)
    assert error.value.retry_after == 1.0 and len(one.seen) == 2
    release.set()
    assert (await trial).relay.status == 200 and (await build.answer(REQUEST)).relay.status == 200


async def test_healthy_refusals_keep_the_breaker_closed_and_408_does_not(stub, failover):
    well, unwell = (400, 401, 404, 422, 499, 501, 505), (408, 429, 500, 502, 503, 504, 507, 529)
    for status, open_ in [*((status, False) for status in well), *((status, True) for status in unwell)]:
        build = failover(stub("one", status), failures=3)
        for _ in range(3):
            await build.answer(REQUEST)
        if open_:
            with pytest.raises(UpstreamResting):
                await build.answer(REQUEST)
        else:
            assert (await build.answer(REQUEST)).relay.status == status


@pytest.mark.parametrize("where", ["attempt", "wait", "closing"])
async def test_a_caller_that_leaves_is_neither_success_nor_failure(stub, failover, clock, where):
    stuck = asyncio.Event()

    async def hangs(*_):
        stuck.set()
        await asyncio.Event().wait()

    one = stub("one", *([hangs] if where == "attempt" else [500, 200]))
    build = failover(one, failures=1 if where == "attempt" else 2, retries=1)
    if where == "wait":
        build._sleep = hangs
    if where == "closing":
        answer = one.answer

        async def closes_late(request):
            reply = await answer(request)
            return replace(reply, relay=replace(reply.relay, close=hangs))

        one.answer = closes_late
    job = asyncio.ensure_future(build.answer(REQUEST))
    await stuck.wait()
    if where == "closing":
        one.answer = answer
        stuck.clear()
    job.cancel()
    if where == "closing":  # the reply is closed once more on the way out
        await stuck.wait()
        job.cancel()
    (left,) = await asyncio.gather(job, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError)
    assert build._members[0].breaker.state == "closed" and build._members[0].breaker.admits()
    assert one.closed == ([1] if where == "wait" else [])
    one.script = [200]
    assert (await build.answer(REQUEST)).relay.status == 200


async def test_an_error_that_is_not_the_upstreams_passes_and_leaves_the_breaker_free(stub, failover):
    one, two = stub("one", ZeroDivisionError()), stub("two")
    build = failover(one, (two, {"weight": 0}), failures=1, retries=2)
    with pytest.raises(ZeroDivisionError):
        await build.answer(REQUEST)
    with pytest.raises(RequestError, match="under /v1/"):
        await build.answer(replace(REQUEST, path="/admin"))
    assert (len(one.seen), two.seen, build._members[0].breaker.state) == (1, [], "closed")


async def test_a_deadline_holds_over_all_attempts(stub, failover, clock):
    async def hangs(_):
        await asyncio.Event().wait()

    async def slow(_):
        clock.seconds += 3
        return 500

    with pytest.raises(UpstreamTimeout, match="'one' had begun no reply when the request's 0.001 s were over"):
        await failover(stub("one", hangs), retries=5, deadline=0.001, failures=1).answer(REQUEST)
    one = stub("one", slow)
    answer = await failover(one, retries=50, deadline=8, budget=full()).answer(REQUEST)
    assert (len(one.seen), answer.relay.status) == (3, 500) and clock.seconds >= 1_009
    with pytest.raises(TimeoutError):
        await failover(stub("one", TimeoutError("its own")), deadline=60.0).answer(REQUEST)


async def test_each_upstream_has_its_own_deadline(stub, failover, clock):
    async def hangs(_):
        clock.seconds += 5
        await asyncio.Event().wait()

    one, two, three = stub("one", hangs), stub("two"), stub("three")
    build = failover((one, {"deadline": 0.001}), (two, {"weight": 0, "deadline": 4}), (three, {"weight": 0}))
    answer = await build.answer(REQUEST)
    assert (answer.served_by, two.seen, answer.attempts) == ("three", [], 2)


async def test_each_member_is_asked_for_its_own_model(stub, failover):
    one, two, three = stub("one", 500), stub("two", 500), stub("three", 500)
    build = failover((one, {"model": "big"}), (two, {"weight": 0, "model": "other"}), (three, {"weight": 0}))
    await build.answer(replace(REQUEST, model="task:t", body=b'{"model":"task:t","n":1}'))
    assert [(request.model, request.body) for request in one.seen + two.seen] == [
        ("big", b'{"model":"big","n":1}'),
        ("other", b'{"model":"other","n":1}'),
    ]
    assert three.seen == []
    await build.answer(REQUEST)
    assert {request.model for request in (one.seen[-1], two.seen[-1], three.seen[-1])} == {"m"}
    with pytest.raises(UpstreamError, match="no upstream model is configured"):
        await failover(three).answer(replace(REQUEST, model="task:t"))


async def test_conformance_and_closing(failover, every, clock):
    texts = {f"text {n}": str(n) for n in range(4)}
    requests = [Request(f"r{n}", (Message("user", text),), sensitivity=Sensitivity.PUBLIC)
                for n, text in enumerate(texts)]  # fmt: skip
    async with Scripted(texts) as scripted:
        member = Member("scripted", Egress(scripted, every), Breaker(clock=clock))
        await check_backend(lambda: Failover([member], RetryBudget(0.2)), requests)
        renamed = Failover([replace(member, name="renamed")], RetryBudget(0.2))
        assert (await renamed.answer(requests[0])).served_by == "renamed"
        for _ in range(5):
            member.breaker.failed(member.breaker.enter())
        assert not (await renamed.health()).ready
        await renamed.__aexit__(None, None, None)
        with pytest.raises(InsourceError, match="is closed"):
            await renamed.answer(requests[0])


async def test_a_member_that_policy_forbids_is_as_good_as_absent(stub, failover):
    restricted = replace(REQUEST, sensitivity=Sensitivity.RESTRICTED)
    outside = {"allowed": frozenset({Sensitivity.PUBLIC, Sensitivity.INTERNAL})}
    one, house = stub("one"), stub("house")
    build = failover((one, outside), (house, {"weight": 0}))
    assert build.permits(restricted) and (await build.answer(restricted)).served_by == "house"
    assert (await build.answer(REQUEST)).served_by == "one"
    build = failover((one, outside), (stub("two"), outside))
    assert build.permits(REQUEST) and not build.permits(restricted)
    with pytest.raises(KeptLocal, match="restricted and was to go to 'one', 'two'"):
        await build.answer(restricted)
    assert one.seen == [REQUEST]
