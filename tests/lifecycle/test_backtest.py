"""A backtest's figures against the replay they are made of: stable keys, exact counts, one seed one result."""

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal

import numpy as np
import pytest

from insource.errors import DataError, OpenEndedAnswers, UserError
from insource.lifecycle.backtest import Options, Prices, backtest
from insource.risk.bounds import binomial_upper_bound
from insource.store.artifacts import ArtifactStore
from insource.training.trunks import TrunkRoom
from insource.types import Example, Message, Request, Task

ISSUE = {"task", "requests", "skipped", "target_risk", "confidence_level", "warmup", "accepted", "audited",
         "upstream_calls", "coverage", "risk", "per_answer", "accuracy", "cost", "seconds", "versions",
         "timeline"}  # fmt: skip
BESIDE = {"unlabelled", "textless", "budget", "budget_spent", "agreement", "seed", "family"}
N = 900


def silent(title: str) -> Callable[..., None]:
    return lambda done, total=None: None


@pytest.fixture(scope="session")
def asked(tickets):
    def make(n=N, **choices):
        lines = tickets(n, **choices)
        return [
            Example(Request(f"r{i}", (Message("user", x["text"]),)), x["answer"], x["gold"])
            for i, x in enumerate(lines)
        ]

    return make


def replayed(examples, task=None, room=None, **options):
    chosen = Options(**{"family": "linear", "warmup": 300, **options})
    return asyncio.run(backtest(examples, task or Task("triage"), chosen, room=room, say=silent))


@pytest.fixture(scope="session")
def report(asked):
    return replayed(asked(noise=0.02))


def test_the_keys_are_those_the_issue_lists(report):
    told = report.to_json()
    assert set(told) == ISSUE | BESIDE
    assert set(told["risk"]) == {"realised", "upper_bound", "held"}
    assert set(told["accuracy"]) == {"insource", "upstream"}
    assert set(told["cost"]) == {"upstream_only", "insource", "currency"}
    assert all(set(row) == {"answer", "rows", "accepted", "missed", "missed_upper_bound"} for row in told["per_answer"])
    wanted = {"at", "family", "digest", "threshold", "certified_coverage"}
    assert told["versions"] and all(wanted <= set(version) for version in told["versions"])
    assert all(set(window) == {"from", "to", "coverage", "risk"} for window in told["timeline"])
    assert json.loads(json.dumps(told, allow_nan=False))["versions"][0]["at"] == 300


def test_the_figures_are_counts_of_what_was_replayed(report):
    told, found = report.to_json(), report.replayed
    accepted, wrong = found.accepted, found.accepted & found.wrong
    assert told["requests"] == N and told["warmup"] == 300 and not accepted[:300].any()
    assert told["accepted"] == accepted.sum() and told["coverage"] == accepted.sum() / N
    assert told["audited"] == found.audited.sum()
    assert told["upstream_calls"] == N - accepted.sum() + (accepted & found.audited).sum()
    assert told["risk"]["realised"] == pytest.approx(wrong.sum() / accepted.sum())
    assert told["risk"]["upper_bound"] == binomial_upper_bound(int(wrong.sum()), int(accepted.sum()), 0.95)
    assert told["risk"]["held"] == (told["risk"]["realised"] <= 0.05)
    assert told["agreement"] == pytest.approx(1 - wrong.sum() / N)
    for key, total in (("rows", N), ("accepted", accepted.sum()), ("missed", wrong.sum())):
        assert sum(row[key] for row in told["per_answer"]) == total


def test_accuracy_is_over_all_requests_against_gold(report, asked):
    told, examples = report.to_json()["accuracy"], asked(noise=0.02)
    served = report.replayed.served
    assert told["insource"] == pytest.approx(np.mean([s == e.gold for s, e in zip(served, examples, strict=True)]))
    assert told["upstream"] == pytest.approx(np.mean([e.answer == e.gold for e in examples]))
    assert told["upstream"] < 1.0


def test_without_gold_accuracy_is_unknown(asked):
    plain = [Example(example.request, example.answer) for example in asked(400)]
    assert replayed(plain, warmup=200).to_json()["accuracy"] == {"insource": None, "upstream": None}


def test_the_timeline_covers_the_stream_once(report):
    windows = report.to_json()["timeline"]
    assert [windows[0]["from"], windows[-1]["to"]] == [0, N]
    assert all(first["to"] == second["from"] for first, second in zip(windows, windows[1:], strict=False))
    assert sum(w["coverage"] * (w["to"] - w["from"]) for w in windows) == pytest.approx(report.replayed.accepted.sum())
    assert windows[0]["risk"] is None and windows[0]["coverage"] == 0.0


def test_a_seed_makes_the_same_figures(report, asked):
    def told(**options):
        return {
            key: value for key, value in replayed(asked(noise=0.02), **options).to_json().items() if key != "seconds"
        }

    first = told()
    assert first == {key: value for key, value in report.to_json().items() if key != "seconds"}
    assert told(seed=1) != {**first, "seed": 1}


def test_money_is_told_with_both_prices_and_not_without(report, asked):
    assert report.to_json()["cost"] == {"upstream_only": None, "insource": None, "currency": None}
    priced = replayed(asked(noise=0.02), prices=Prices(Decimal("2.5"), Decimal("10"), "EUR"))
    cost, found = priced.to_json()["cost"], priced.replayed
    each = [usage.prompt_tokens * Decimal("2.5") + usage.completion_tokens * 10 for usage in priced.stream.usages]
    paid = sum(
        (money for money, free in zip(each, found.accepted & ~found.audited, strict=True) if not free), Decimal(0)
    )
    assert Decimal(cost["upstream_only"]) == sum(each) / 1_000_000 and Decimal(cost["insource"]) == paid / 1_000_000
    assert cost["currency"] == "EUR" and Decimal(cost["insource"]) < Decimal(cost["upstream_only"])
    assert replayed(asked(400), warmup=200, prices=Prices(Decimal(1))).to_json()["cost"]["currency"] is None


@pytest.mark.parametrize("budget", [3, 50, 301, 600, 5 * N])
def test_a_budget_is_never_overspent_and_spent_where_it_can_be(asked, budget):
    told = replayed(asked(noise=0.2, told=0.2), budget=budget).to_json()
    assert told["upstream_calls"] <= budget
    assert told["warmup"] == max(1, min(300, budget // 2))
    assert told["accepted"] + told["budget_spent"] + told["upstream_calls"] - told["audited"] == N
    if budget in (301, 600):
        assert told["upstream_calls"] == budget and told["budget_spent"] > 0


def test_answers_outside_the_promise_count_in_accuracy_and_not_in_risk(asked):
    found = replayed(asked(noise=0.3, told=0.2), budget=100)
    told, spent = found.to_json(), found.replayed.spent
    assert spent.any() and not (spent & found.replayed.accepted).any()
    assert told["accepted"] == 0 and told["risk"] == {"realised": 0.0, "upper_bound": None, "held": True}
    assert told["agreement"] == pytest.approx(1 - (found.replayed.wrong & spent).mean()) and told["agreement"] < 1.0
    assert told["accuracy"]["insource"] != told["accuracy"]["upstream"]


def test_a_budget_is_paced_to_the_end_of_the_stream(asked):
    found = replayed(asked(noise=0.2, told=0.2), budget=450).replayed
    up = np.flatnonzero(~(found.accepted | found.spent))
    served = up[up >= 225]
    assert len(up) == 450 and served.max() > 0.97 * N
    assert 80 < (served < (225 + N) / 2).sum() < 145, "about half of the calls left go to each half of the stream"


def test_a_budget_that_ends_before_a_first_version_is_refused(asked):
    with pytest.raises(
        UserError, match="budget of 2 upstream calls was spent before the references made a task.*Raise"
    ):
        replayed(asked(400), budget=2)


def test_a_stream_of_one_text_teaches_nothing_and_everything_goes_up(asked):
    same = [Example(asked(1)[0].request, "yes" if number % 3 else "no") for number in range(400)]
    told = replayed(same).to_json()
    assert (told["accepted"], told["upstream_calls"], told["versions"]) == (0, 400, [])


@pytest.mark.parametrize("budget", [-1, 0, 1])
def test_a_budget_that_buys_nothing_is_refused(asked, budget):
    with pytest.raises(UserError, match=f"--budget is {budget}; at least 2 upstream calls were expected"):
        replayed(asked(400), budget=budget)


def test_a_target_that_cannot_be_certified_accepts_nothing_and_says_what_it_would_take(asked):
    told = replayed(asked(600), Task("triage", target_risk=0.001)).to_json()
    assert (told["accepted"], told["coverage"], told["upstream_calls"]) == (0, 0.0, 600)
    assert told["risk"] == {"realised": 0.0, "upper_bound": None, "held": True}
    assert told["versions"][-1]["threshold"] is None
    assert "needs at least 2995. Collect more, or raise target_risk" in " ".join(told["versions"][-1]["notes"])


def test_guards_hold_a_backtest_back_too(asked):
    free = replayed(asked(500, noise=0.1)).to_json()
    held = replayed(asked(500, noise=0.1), Task("triage", guard={"card": 0.001})).to_json()
    never = replayed(asked(500, noise=0.1), Task("triage", guard={"nobody says this": 0.1})).to_json()
    assert held["accepted"] == never["accepted"] == 0 <= free["accepted"]
    assert "The guard on 'nobody says this' has 0 rows" in " ".join(never["versions"][-1]["notes"])


def test_too_few_requests_for_the_shadow_period(asked):
    with pytest.raises(DataError) as caught:
        replayed(asked(300))
    assert str(caught.value) == (
        "The task has 300 requests with text and reference; more than the shadow period of 300 were expected, since "
        "the first version is trained from it. Bring more traffic, or set a shorter --warmup."
    )
    with pytest.raises(DataError, match="shadow period of 1,500"):
        replayed(asked(700), Task("triage", target_risk=0.02), warmup=None)


def test_what_makes_no_task_is_refused(asked):
    some = asked(400)
    with pytest.raises(OpenEndedAnswers, match="400 distinct answers in 400 requests"):
        replayed([Example(each.request, f"a poem about {number}") for number, each in enumerate(some)])
    with pytest.raises(DataError, match="All 400 requests have the answer 'yes'"):
        replayed([Example(each.request, "yes") for each in some])
    with pytest.raises(UserError, match="--family is 'svm'; one of"):
        replayed(some, family="svm")
    with pytest.raises(UserError, match="opened without encoders; --family linear was expected"):
        replayed(some, family="encoder-frozen")


def test_labels_that_first_occur_after_the_shadow_period(asked, tickets):
    """An answer the first versions cannot know: its requests are not accepted rightly, and are learned later."""
    late = [Example(each.request, "login") if number > 500 and number % 3 == 0 else each
            for number, each in enumerate(asked())]  # fmt: skip
    told = replayed(late).to_json()
    assert {row["answer"] for row in told["per_answer"]} == {"card", "refund", "transfer", "login"}
    assert len(told["versions"]) >= 2


@pytest.mark.parametrize("family", ["encoder-frozen", "two-tier", "auto"])
def test_families_with_an_encoder(asked, tmp_path, tiny_base, family):
    room = TrunkRoom(tmp_path, ArtifactStore(tmp_path), silent)
    told = replayed(asked(500, noise=0.1), room=room, family=family, base=str(tiny_base)).to_json()
    families = {version["family"] for version in told["versions"]}
    assert families <= ({"linear", "two-tier", "encoder-frozen"} if family == "auto" else {family})
    assert all(version["why"] for version in told["versions"])


def test_json_replies_are_told_by_what_varies(tickets):
    lines = tickets(500)
    examples = [Example(Request(f"r{i}", (Message("user", x["text"]),)), json.dumps({"label": x["answer"]}), x["gold"])
                for i, x in enumerate(lines)]  # fmt: skip
    told = replayed(examples).to_json()
    assert {row["answer"] for row in told["per_answer"]} == {"card", "refund", "transfer"}
    assert told["accuracy"]["upstream"] == 1.0 and told["accepted"] > 100
