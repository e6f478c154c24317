"""How sensitive a request is; whatever is doubtful counts as restricted."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.config import PolicyConfig
from insource.policy.breaker import Breaker
from insource.policy.sensitivity import HEADER, Judge
from insource.types import Message, Request, Sensitivity, Task, strictest

PUBLIC, INTERNAL, RESTRICTED = Sensitivity
ANY = st.sampled_from(list(Sensitivity))


def asked(header=None):
    return Request("r", (Message("user", "canary"),), headers={} if header is None else {HEADER: header})


@given(ANY, st.none() | ANY, st.none() | ANY)
def test_the_strictest_of_task_or_policy_and_header(policy, task, header):
    judge = Judge(PolicyConfig(sensitivity=policy))
    rated = judge.rate(asked(header and header.value), Task("t", sensitivity=task))
    assert rated is strictest(task or policy, header)
    assert judge.rate(asked(), None) is policy


@given(ANY, st.text(max_size=20))
def test_a_header_can_only_tighten_and_an_unreadable_one_restricts(policy, header):
    rated = Judge(PolicyConfig(sensitivity=policy)).rate(asked(header), None)
    assert rated.rank >= policy.rank
    if header.strip().lower() not in list(Sensitivity):
        assert rated is RESTRICTED


@pytest.mark.parametrize("header", ["", "secret", "public, restricted", "public,", "0", "publicinternal"])
def test_unreadable_headers(header):
    assert Judge(PolicyConfig(sensitivity=PUBLIC)).rate(asked(header), None) is RESTRICTED


async def hangs(_):
    await asyncio.Event().wait()


async def raises(_):
    raise RuntimeError("canary")


async def cancels(_):
    raise asyncio.CancelledError


async def is_deaf(_):
    """Swallows the cancellation of its time limit and then has an answer after all."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return PUBLIC


def is_no_coroutine(_):
    return PUBLIC


async def gives_text(_):
    return "public"


async def gives_nothing(_):
    return None


async def tries_again(_):
    """Takes a cancellation for a failure, and goes on."""
    with suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    await asyncio.Event().wait()


async def ends_the_process(_):
    raise SystemExit(1)


class Claims(str):
    """Says of itself that it is a sensitivity."""

    rank = 0
    __class__ = Sensitivity


async def claims(_):
    return Claims("public")


FAILING = {
    hangs: "TimeoutError",
    raises: "RuntimeError",
    cancels: "CancelledError",
    is_deaf: "TimeoutError",
    tries_again: "TimeoutError",
    ends_the_process: "SystemExit",
    claims: "wrong type",
    is_no_coroutine: "TypeError",
    gives_text: "wrong type",
    gives_nothing: "wrong type",
}


class Trusting(Judge):
    """The guard broken: a doubt leaves things as they were rated."""

    def _doubt(self, kind):
        return PUBLIC


@pytest.mark.parametrize("check", FAILING, ids=lambda check: check.__name__)
async def test_a_failing_check_restricts_and_tells_only_its_type(check):
    told = []
    judge = Judge(PolicyConfig(), check, 0.001, on_doubt=told.append)
    assert await judge.check(asked(), PUBLIC) is RESTRICTED
    assert told == [FAILING[check]]
    assert await Trusting(PolicyConfig(), check, 0.001).check(asked(), PUBLIC) is not RESTRICTED


async def test_a_listener_that_fails_changes_nothing():
    judge = Judge(PolicyConfig(), raises, on_doubt=lambda kind: 1 / 0)
    assert await judge.check(asked(), PUBLIC) is RESTRICTED


@given(ANY, ANY)
async def test_a_check_can_only_tighten(rated, found):
    async def says(_):
        return found

    assert await Judge(PolicyConfig(), says).check(asked(), rated) is strictest(rated, found)


async def test_without_a_check_nothing_changes_and_restricted_is_not_checked():
    judge = Judge(PolicyConfig())
    assert (judge.checks, await judge.check(asked(), INTERNAL)) == (False, INTERNAL)
    told = []
    judge = Judge(PolicyConfig(), raises, on_doubt=told.append)
    assert (judge.checks, await judge.check(asked(), RESTRICTED), told) == (True, RESTRICTED, [])


async def test_a_dead_check_is_left_alone_and_tried_again(clock):
    calls, told = [], []

    async def check(request):
        calls.append(request)
        if len(calls) <= 5:
            raise OSError
        return PUBLIC

    judge = Judge(PolicyConfig(), check, on_doubt=told.append, breaker=Breaker(5, 10.0, clock))
    rated = [await judge.check(asked(), PUBLIC) for _ in range(50)]
    assert set(rated) == {RESTRICTED} and len(calls) == 5
    assert told == ["OSError"] * 5 + ["resting"] * 45
    clock.seconds += 10
    assert await judge.check(asked(), PUBLIC) is PUBLIC and len(calls) == 6


async def test_a_caller_that_leaves_is_no_doubt(clock):
    told = []
    breaker = Breaker(1, 10.0, clock)
    judge = Judge(PolicyConfig(), hangs, 60.0, on_doubt=told.append, breaker=breaker)
    job = asyncio.ensure_future(judge.check(asked(), PUBLIC))
    await asyncio.sleep(0)
    job.cancel()
    (left,) = await asyncio.gather(job, return_exceptions=True)
    assert isinstance(left, asyncio.CancelledError) and told == [] and breaker.state == "closed"
