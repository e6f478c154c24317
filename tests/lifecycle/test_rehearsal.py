"""The lifecycle rehearsed on small made-up streams: the way up, a bad version's way back, swapped labels, and kills."""

import asyncio
import json
import random
import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import insource
from insource.cascade.coin import coin_rate
from insource.errors import DataError, UserError
from insource.lifecycle import rehearsal
from insource.lifecycle.backtest import Options, Prices
from insource.lifecycle.rehearsal import Event
from insource.lifecycle.rehearsal_report import LifecycleReport, rehearse, rolled_back
from insource.lifecycle.rollout import MAKES_WAY
from insource.store.artifacts import ArtifactStore
from insource.training.trunks import TrunkRoom
from insource.types import Example, Message, Move, Request, Stage, Task

TASK = Task("tickets", target_risk=0.1, audit_rate=0.1)
OPTIONS = Options(family="linear", warmup=200, prices=Prices(Decimal("2.5"), Decimal(10)))
SWAP = 1_250
LENGTH = 2_200
SPOILT = range(2, 5)
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
OTHER = {"card": "refund", "refund": "card"}
WORDS = {"card": "stolen lost blocked expired", "refund": "money back charge twice", "login": "locked code reset mail"}


def silent(_title):
    return lambda done, total=None: None


def made(n, *, seed=0, swap=None, late=None):
    """Examples of which one in thirty cannot be told from its words; from `swap` on two answers change places."""
    chance, found = random.Random(seed), []
    for number in range(n):
        names = list(WORDS) if late is None or number >= late else list(WORDS)[:2]
        answer = chance.choice(names)
        clear = chance.random() > 0.03
        told = WORDS[answer].split()
        words = [chance.choice(told) if clear and chance.random() < 0.5 else f"w{chance.randrange(400)}"
                 for _ in range(9)]  # fmt: skip
        if swap is not None and number >= swap:
            answer = OTHER.get(answer, answer)
        found.append(Example(Request(f"r-{number}", (Message("user", " ".join(words)),)), answer))
    return found


class Taught:
    """Stands between lessons and training: keeps what each version learned, and has some learn what is not so."""

    def __init__(self, spoilt=()):
        self.spoilt, self.lessons = spoilt, {}

    def __call__(self, number, lessons):
        self.lessons.setdefault(number, []).append(lessons)
        if number not in self.spoilt:
            return lessons
        return tuple(replace(lesson, answer=OTHER.get(lesson.answer, lesson.answer)) for lesson in lessons)


def rehearsed(examples, *, task=TASK, options=OPTIONS, teach=None, room=None, **more):
    report = asyncio.run(rehearse(examples, task, options, room=room, say=silent, teach=teach or Taught(), **more))
    return report, report.to_json()


@pytest.fixture(scope="module")
def swapped():
    """A stream whose labels are swapped in the middle; the versions 2 to 4 learn the swapped labels too early."""
    teach = Taught(SPOILT)
    return *rehearsed(made(LENGTH, swap=SWAP), teach=teach), teach


def stages(result, number):
    return [(each["stage"], each["share"]) for each in result["versions"][number - 1]["stages"]]


def test_the_first_version_goes_all_the_way_and_the_risk_is_held(swapped):
    report, result, _ = swapped
    assert stages(result, 1)[:7] == [
        ("candidate", 0.0), ("shadow", 0.0), ("canary", 0.01), ("canary", 0.05), ("canary", 0.25), ("canary", 0.5),
        ("active", 0.0),
    ]  # fmt: skip
    before = report.rehearsed.accepted[:SWAP]
    assert before.sum() > 250
    assert report.rehearsed.wrong[:SWAP][before].mean() <= TASK.target_risk
    moves = [event for event in result["events"] if event["version"] == 1 and event["what"] == "canary"]
    assert "sound requests in shadow" in moves[0]["why"] and "(ledger row" in moves[0]["why"]


def test_a_version_that_learned_what_is_not_so_is_rolled_back_before_it_answers(swapped):
    _, result, _ = swapped
    bad = result["rollbacks"][0]
    assert bad["version"] in SPOILT and bad["at"] <= SWAP
    assert "its risk is above the target of 10.0%" in bad["why"]
    assert result["versions"][bad["version"] - 1]["accepted"] == 0


def test_a_swap_of_labels_suspends_the_task_and_a_new_version_lifts_that(swapped):
    report, result, _ = swapped
    stretch = result["suspensions"][0]
    assert SWAP < stretch["from"] <= SWAP + 300 < stretch["to"] <= LENGTH
    assert stretch["why"].startswith("risk is above the target of 10.0%")
    new = next(each for each in result["versions"] if each["took_over"] and each["version"] > 1)
    assert new["at"] > stretch["from"]
    assert f"tickets@{new['version']} became active" in stretch["ended"]
    away = slice(stretch["from"], stretch["to"])
    assert not report.rehearsed.accepted[away].any() and report.rehearsed.calls[away].all()
    after = report.rehearsed.accepted[stretch["to"] :]
    assert after.sum() > 50
    assert report.rehearsed.wrong[stretch["to"] :][after].mean() <= TASK.target_risk


def test_without_a_steward_nothing_is_suspended_and_nothing_serves(monkeypatch):
    monkeypatch.setattr(rehearsal, "_settle", lambda steward: None)
    _, result = rehearsed(made(450))
    assert [event["what"] for event in result["events"]] == ["trained"] * len(result["versions"])
    assert result["accepted"] == 0 and result["upstream_calls"] == 450


def test_only_references_that_came_are_learned_and_only_unbiased_ones_certify(swapped):
    report, result, teach = swapped
    found = report.rehearsed
    for number, (evidence, also, older) in teach.lessons.items():
        rows = [int(lesson.request_id.removeprefix("r-")) for lesson in (*evidence, *also, *older)]
        assert max(rows) < result["versions"][number - 1]["at"]
        assert found.calls[rows].all()
        assert all(lesson.unbiased for lesson in evidence)
    served = found.accepted & ~found.audited
    assert served.sum() > 200 and not found.calls[served].any()


def test_each_request_is_paid_for_as_the_gateway_would(swapped):
    report, result, _ = swapped
    found = report.rehearsed
    assert found.calls.max() == 1  # an escalated one has its reference in the reply, whoever audits it
    assert (found.calls == (~found.accepted | found.audited)).all()
    assert result["upstream_calls"] == found.calls.sum() == result["timeline"][-1]["upstream_calls"]
    last = result["timeline"][-1]
    assert (last["cost"], last["cost_upstream_only"]) == (result["cost"]["insource"], result["cost"]["upstream_only"])


def test_the_coin_picks_all_in_shadow_and_its_share_of_what_is_active(swapped):
    report, result, _ = swapped
    first = result["versions"][0]
    places = {(each["stage"], each["share"]): slice(each["from"], each["to"]) for each in first["stages"]}
    assert report.rehearsed.audited[places["shadow", 0.0]].all()
    active = report.rehearsed.audited[places["active", 0.0].start : SWAP]
    rate = coin_rate(TASK.audit_rate, first["certified_coverage"])
    assert abs(active.mean() - rate) < 3 * np.sqrt(rate / len(active))


def test_windows_and_stretches_add_up(swapped):
    _, result, _ = swapped
    windows = result["timeline"]
    assert [window["from"] for window in windows[1:]] == [window["to"] for window in windows[:-1]]
    assert (windows[0]["from"], windows[-1]["to"]) == (0, LENGTH)
    assert sum(window["accepted"] for window in windows) == result["accepted"]
    assert sum(window["wrong"] for window in windows) == sum(version["wrong"] for version in result["versions"])
    assert sum(version["accepted"] for version in result["versions"]) == result["accepted"]
    for version in result["versions"]:
        edges = [(each["from"], each["to"]) for each in version["stages"]]
        assert edges[0][0] == version["at"] and edges[-1][1] == LENGTH
        assert all(one[1] == other[0] for one, other in zip(edges, edges[1:], strict=False))
    for window in windows:
        suspended = any(each["from"] < window["to"] <= each["to"] for each in result["suspensions"])
        assert (window["certified_risk"] is None) == (suspended or window["active"] is None)
    serving = {window["active"] for window in windows}
    assert serving == {None, *(each["version"] for each in result["versions"] if each["took_over"])}


def test_a_seed_makes_it_the_same_and_another_one_does_not():
    examples = made(420)
    (_, one), (_, again) = rehearsed(examples), rehearsed(examples)
    assert {**one, "seconds": 0} == {**again, "seconds": 0}
    json.dumps(one, default=str, allow_nan=False)
    _, other = rehearsed(examples, options=replace(OPTIONS, seed=1))
    assert other["events"] != one["events"]


@pytest.mark.parametrize("new_answers", [False, True])
def test_answers_that_turn_up_later_are_learned_only_when_a_person_says_so(new_answers):
    _, result = rehearsed(made(500, late=250), new_answers=new_answers)
    refused = [event for event in result["events"] if event["what"] == "not learned"]
    assert len(refused) == (0 if new_answers else 1)
    if refused:
        assert "outside its closed set of 2 answers, such as 'login'" in refused[0]["why"]


def test_events_bear_the_log_s_times():
    examples = [replace(each, time=NOON + timedelta(minutes=n)) for n, each in enumerate(made(320))]
    _, result = rehearsed(examples)
    assert result["events"][0]["time"] == NOON + timedelta(minutes=result["events"][0]["at"] - 1)


def test_nothing_is_left_when_it_breaks_off(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen = Counter()

    def say(title):
        def report(done, total=None):
            seen[title] += len(list(tmp_path.iterdir()))
            if title == "lifecycle" and done > 300:
                raise KeyboardInterrupt

        return report

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(rehearse(made(600), TASK, OPTIONS, room=None, say=say))
    assert seen["lifecycle"] > 0 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"warmup": 600}, DataError, "more than 600 were expected, since the first version is trained from so many"),
        ({"budget": 100}, UserError, "drop --budget or --lifecycle"),
        ({"family": "svm"}, UserError, "--family is 'svm'"),
        ({"family": "encoder-frozen"}, UserError, "opened without encoders"),
    ],
)
def test_what_cannot_be_rehearsed(change, error, said):
    with pytest.raises(error, match=said):
        rehearsed(made(600), options=replace(OPTIONS, **change))


def test_two_requests_with_one_id_are_refused():
    with pytest.raises(DataError, match="same id"):
        rehearsed([*made(300), *made(1)])


def test_one_answer_alone_is_waited_out():
    examples = made(500)
    alone = [replace(each, answer="card") for each in examples[:320]]
    _, result = rehearsed([*alone, *examples[320:]])
    assert result["events"][0]["what"] == "not learned" and result["versions"]
    assert result["versions"][0]["at"] > 320


def test_a_family_with_an_encoder(tmp_path, tiny_base):
    room = TrunkRoom(tmp_path, ArtifactStore(tmp_path), silent)
    options = replace(OPTIONS, family="two-tier", base=str(tiny_base))
    _, result = rehearsed(made(500), options=options, room=room)
    first = result["versions"][0]
    assert first["family"] == "two-tier" and "canary" in {each["stage"] for each in first["stages"]}


def doubted(report):
    """Return the same report with one more doubt that was ended, and one that stands."""
    found, time = report.rehearsed, report.rehearsed.events[0].time
    more = [Event(1_300, time, "doubted", 1, why="scores"), Event(1_350, time, "doubt ended", 1, why="no harm"),
            Event(2_150, time, "doubted", 1, why="answers")]  # fmt: skip
    return LifecycleReport(report.figures, replace(found, events=[*found.events, *more]))


def test_a_doubt_has_a_beginning_and_an_end(swapped):
    report, before, _ = swapped
    found = doubted(report).to_json()
    assert [(each["from"], each["to"], each["ended"]) for each in found["doubts"][-2:]] == [
        (1_300, 1_350, "no harm"), (2_150, None, None)
    ]  # fmt: skip
    assert found["versions"] == before["versions"] and found["suspensions"] == before["suspensions"]


def test_every_field_is_documented_and_no_other(swapped):
    report, *_ = swapped
    result = doubted(report).to_json()
    assert result["suspensions"] and result["rollbacks"]
    page = (Path(insource.__file__).parents[1] / "docs" / "reference" / "json.md").read_text("utf-8")
    of_a_backtest, of_a_lifecycle = (
        set(re.findall(r"^\| `([\w.\[\]]+)` \|", page.split(f"## `{title}`\n")[1].split("\n## ")[0], re.MULTILINE))
        for title in ("insource backtest", "insource backtest --lifecycle")
    )
    assert paths_of(result) == of_a_backtest | of_a_lifecycle
    assert not of_a_backtest & of_a_lifecycle


def paths_of(value, path=""):
    if isinstance(value, dict):
        return set().union(*(paths_of(inner, f"{path}.{key}" if path else key) for key, inner in value.items()))
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return set().union(*(paths_of(each, f"{path}[]") for each in value))
    return {f"{path}[]" if isinstance(value, list | tuple) else path}


def test_a_trial_that_made_way_was_not_rolled_back():
    def moved(why, before=Stage.SHADOW):
        return rehearsal._moved(9, Move(NOON, "tickets", 1, before, Stage.RETIRED, 0.0, "steward", why))

    way, back = moved(MAKES_WAY + "tickets@2 certifies 80.0%"), moved("its risk is above the target")
    assert (way.what, back.what) == ("made way", "retired")
    assert not rolled_back(way) and rolled_back(back) and not rolled_back(moved("replaced", Stage.ACTIVE))
