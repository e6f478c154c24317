"""The canary: who is in it follows from the request, stays so, and costs no more references than without it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.backends.conformance import check_backend
from insource.backends.scripted import Scripted
from insource.cascade.canary import Canary, place, subject_key
from insource.cascade.cascade import Cascade
from insource.cascade.choice import Chooser
from insource.cascade.tier import Tier
from insource.errors import InsourceError
from insource.types import Message, Request, Stage
from tests.cascade.stacks import NEW, OLD, REFERENCES, TASK, ask, scored, stack, trial, uncertified


def by_text(request):
    return request.messages[-1].content


def canary(share, key=by_text, salt="triage@2", upstream=None, old=OLD, new=NEW):
    def cascade(answers, name):
        return Cascade(TASK, tiers=[Tier(Scripted(answers, score=0.9, name=name), 0.5)], upstream=upstream,
                       permits=lambda _: True)  # fmt: skip

    return Canary(cascade(old, "old"), cascade(new, "new"), share=share, key=key, salt=salt)


@given(st.text(), st.text(), st.floats(0, 1), st.floats(0, 1))
def test_raising_the_share_never_moves_a_key_back(salt, key, one, other):
    low, high = sorted((one, other))
    assert 0.0 <= place(salt, key) < 1.0 and place(salt, key) == place(salt, key)
    assert not place(salt, key) < low or place(salt, key) < high


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5])
def test_the_share_is_that_of_the_keys_and_another_salt_picks_others(share):
    keys = [f"user {n}" for n in range(20_000)]
    one, other = ({key for key in keys if place(salt, key) < share} for salt in ("triage@2", "triage@3"))
    for chosen in (one, other):
        assert abs(len(chosen) / len(keys) - share) < 5 * math.sqrt(share * (1 - share) / len(keys))
    assert abs(len(one & other) / len(keys) - share**2) < 5 * math.sqrt(share**2 / len(keys))


@pytest.mark.parametrize(("request_", "expected"), [
    (ask("sure", headers={"x-insource-subject": "s"}, fields={"user": "u"}), "subject:s"),
    (ask("sure", fields={"user": "u", "safety_identifier": "i"}), "subject:u"),
    (ask("sure", fields={"user": "", "safety_identifier": "i"}), "subject:i"),
    (ask("sure", fields={"user": 7, "prompt_cache_key": "k"}), "subject:k"),
    (ask("sure", fields={"metadata": {"user_id": "m"}}), "subject:m"),
    (ask("sure", fields={"metadata": {"user_id": 3}}), "text:sure"),
    (ask("sure"), "text:sure"),
    (Request("r9", (Message("system", "x"),)), "id:r9"),
])  # fmt: skip
def test_a_request_has_the_key_of_whom_it_is_for(request_, expected):
    assert subject_key("last_user")(request_) == expected


async def test_the_candidate_decides_its_share_and_the_incumbent_the_rest():
    texts = {f"text {n}": "yes" for n in range(200)}
    requests = [ask(text, f"r{n}") for n, text in enumerate(texts)]
    async with canary(0.25, old=texts, new=texts) as c:
        assert isinstance(c, Chooser) and c.info.name == "task:triage"
        single = [await c.decide(request) for request in requests]
        batch = await c.decide_many(requests)
        served = [(await c.answer(request)).served_by for request in requests]
    assert [one.scored.served_by for one in single] == [one.scored.served_by for one in batch] == served
    assert served == ["new" if place("triage@2", text) < 0.25 else "old" for text in texts]
    assert 20 < served.count("new") < 80


async def test_the_suite_holds_for_a_canary():
    texts = {f"text {n}": ("yes", "no", "perhaps")[n % 3] for n in range(8)}
    requests = [ask(text, f"r{n}") for n, text in enumerate(texts)]
    for share in (0.0, 0.5, 1.0):
        await check_backend(lambda share=share: canary(share, old=texts, new=texts), requests)


async def test_a_candidate_that_cannot_be_opened_leaves_nothing_open():
    class Shut(Scripted):
        async def __aenter__(self):
            raise InsourceError("shut")

    old = scored(OLD)
    c = Canary(
        Cascade(TASK, tiers=[Tier(old, 0.5)], permits=lambda _: True, upstream=None),
        Cascade(TASK, tiers=[Tier(Shut({}), 0.5)], permits=lambda _: True, upstream=None),
        share=0.5, key=by_text, salt="",
    )  # fmt: skip
    with pytest.raises(InsourceError, match="shut"):
        await c.__aenter__()
    assert not (await old.health()).ready


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan])
def test_a_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="at least 0 and at most 1"):
        canary(share)


async def rate(**more):
    async with Scripted(REFERENCES) as upstream, stack(upstream, [], **more) as s:
        return (await s.decide(ask("sure"))).decision.audit_rate


async def test_one_coin_for_active_and_canary_stays_inside_the_budget():
    """At a certified coverage of a half and none, a canary of share 0.2 accepts 0.4 of all: 0.5 / 0.4, at most a half.

    With audits that may cost 0.1 of the requests it is 0.1 / 0.4.
    """
    from dataclasses import replace

    task, none = replace(TASK, audit_rate=0.1), uncertified()
    assert await rate(task=task) == pytest.approx(0.2)
    assert await rate(task=task, tried=trial(Stage.CANARY, 0.2, calibration=none)) == pytest.approx(0.25)
    assert await rate(task=task, tried=trial(Stage.SHADOW, 0.0)) == pytest.approx(0.2)
    assert await rate(task=task, calibration=none, tried=trial(Stage.CANARY, 0.5)) == pytest.approx(0.4)


async def test_where_everything_goes_up_every_request_is_evidence():
    assert await rate(calibration=uncertified()) == 1.0
    assert await rate(suspended=True) == 1.0
    assert await rate(active=False, tried=trial()) == 1.0
    assert await rate(active=False) == 0.0  # there is no version to learn about
    assert await rate(calibration=uncertified(), pacer=lambda score: True) == 0.0


async def test_audits_say_of_both_sides_what_they_would_do():
    from tests.cascade.stacks import told

    findings, shares = [], {text: place("triage@2", f"text:{text}") for text in REFERENCES}
    share = sorted(shares.values())[1]
    async with Scripted(REFERENCES) as upstream, stack(upstream, findings, tried=trial(Stage.CANARY, share)) as s:
        for text in REFERENCES:
            await s.answer(ask(text, text))
    found = told(findings)
    assert set(found) == {(text, number) for text in REFERENCES for number in (1, 2)}
    for text, where in shares.items():
        decided, (right_old, right_new) = (2 if where < share else 1), (text != "wrong", text != "sure")
        accepts = text != "unsure"
        assert found[text, 1] == (decided == 1 and accepts, accepts, right_old, Stage.ACTIVE)
        assert found[text, 2] == (decided == 2 and accepts, accepts, right_new, Stage.CANARY)
    assert sum(finding.beside for finding in findings) == len(REFERENCES)
    assert all((finding.reference is None) == finding.beside for finding in findings)
