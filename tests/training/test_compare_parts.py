"""The parts of a comparison: time, cost, learning curves and paces, each by itself."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest

from insource.errors import UserError
from insource.training.comparing import tuned_encoders
from insource.training.comparing.compressed import ahead_of
from insource.training.comparing.cost import Prices, UpstreamTerms, cost_of, monthly_rate
from insource.training.comparing.curve import MOST_HELD, Curve, Probe, beaten_by
from insource.training.comparing.data import complexity_of
from insource.training.comparing.estimates import Speeds, cross_fit_seconds, tuned_seconds
from insource.training.comparing.quiet import ROUNDS, WARM, measure_paces
from insource.training.comparing.time_budget import OutOfTime, TimeBudget, seconds_of, shown
from insource.training.comparing.timed import TimedStudent
from insource.training.snapshot import inputs_of, take_snapshot
from insource.training.students.linear import LinearStudent
from insource.types import Example, Message, Request, Task

from .conftest import NOON


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5m", 90), (" 2H ", 7200)]
)
def test_a_time(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-5m", "10m!", "5 m", "1d", "nan", "1e3s", "10m5"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(UserError, match="a time was expected, such as 90s, 10m or 1h30m"):
        seconds_of(text)


def test_seconds_as_people_say_them():
    assert [shown(each) for each in (4.4, 89, 90, 3600, 9000)] == ["4 s", "89 s", "2 min", "60 min", "2.5 h"]


class Clock:
    """A clock that stands where it is put."""

    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


def test_a_budget_ends_what_runs_over_at_its_next_report():
    clock, heard = Clock(), []
    budget = TimeBudget(60.0, clock(), clock, reserve=10.0)
    report = budget.guarded(lambda title: lambda done, total=None: heard.append((title, done)))("embedding")
    report(1, 4)
    clock.time = 149.9
    report(2, 4)
    assert budget.left == pytest.approx(0.1)
    clock.time = 150.0
    with pytest.raises(OutOfTime, match="embedding"):
        report(3, 4)
    assert heard == [("embedding", 1), ("embedding", 2), ("embedding", 3)] and budget.spent == 50.0


def test_a_cross_fit_ends_between_two_fits(examples):
    clock = Clock()
    snapshot = take_snapshot(examples(60), inputs_of(Task("triage")))
    fitted = []

    class Student(LinearStudent):
        def fit(self, *told):
            clock.time += 20.0
            fitted.append(self)
            return super().fit(*told)

    student = TimedStudent(Student(), TimeBudget(60.0, clock(), clock, reserve=10.0))
    prepared, rows = student.prepare(snapshot.texts), np.arange(60)
    for _ in range(2):
        found = student.fresh().fit(prepared, rows, snapshot.classes, 3)
        assert isinstance(found, Student) and found.probabilities(prepared, rows).shape == (60, 3)
    with pytest.raises(OutOfTime, match="fitting linear"):  # 10 s are left, and a fit takes 20
        student.fresh().fit(prepared, rows, snapshot.classes, 3)
    assert len(fitted) == 2


PRICES = Prices(lambda seconds: 4.0 * seconds, Decimal("0.036"), Decimal("0.5"), "EUR", 10_000,
                UpstreamTerms((("api", "US"),), Decimal("0.002")))  # fmt: skip


def test_what_a_thousand_requests_cost():
    cost = cost_of(PRICES, answer_seconds=0.01, training_seconds=600.0, sent_up=0.25)
    assert cost.compute == Decimal("0.0001")  # 10 s of a core at 0.036 an hour
    assert cost.energy == Decimal("0.000005555556")  # 40 J
    assert cost.training == Decimal("0.0006")  # 0.006 for 10,000 requests
    assert cost.upstream == Decimal("0.5")
    assert cost.total == cost.compute + cost.energy + cost.training + cost.upstream


def test_an_unknown_price_is_unknown_and_never_zero():
    unknown = Prices(PRICES.joules)
    cost = cost_of(unknown, 0.01, 600.0, 1.0)
    assert cost.upstream is None and cost.total == cost.compute + cost.energy + cost.training


def timed(*minutes):
    times = [None if each is None else NOON + timedelta(minutes=each) for each in minutes]
    return [Example(Request("r", (Message("user", "x"),)), "a", time=time) for time in times]


def test_the_rate_of_traffic():
    day = 24 * 60
    assert monthly_rate(timed(0, day, 2 * day, 3 * day)) == 30
    assert monthly_rate(timed(0, None, day)) == 30
    assert monthly_rate(timed(0, 59)) is None and monthly_rate(timed(None, None)) is None
    assert monthly_rate([]) is None


def curve(family, rows, *errors, of=200):
    right = []
    for wrong in errors:
        row = np.ones(of, np.bool_)
        row[:wrong] = False
        right.append(row)
    return Curve(family, rows, tuple(right), tuple(0.1 * n for n in rows))


def test_a_curve_tells_what_a_doubling_wins():
    found = curve("linear", (100, 200, 400), 60, 40, 30)
    assert found.accuracy == [0.7, 0.8, 0.85]
    assert found.per_doubling == pytest.approx(0.075) and found.expected == pytest.approx(0.9)
    assert found.fit_seconds(800) == pytest.approx(80.0)
    assert curve("x", (100,), 60).per_doubling is None and curve("x", (100,), 60).expected == 1.0


@pytest.mark.parametrize(
    ("errors", "beaten"),
    [
        ((60, 60, 50), True),  # far behind, and no steeper
        ((60, 55, 35), False),  # within noise
        ((120, 100, 50), False),  # behind, and steep: it may overtake
    ],
)
def test_a_dearer_family_is_beaten_where_it_is_behind_and_has_no_more_to_gain(errors, beaten):
    cheap = curve("linear", (100, 200, 400), 40, 36, 30)
    assert (beaten_by(curve("static", (100, 200, 400), *errors), [cheap]) is cheap) == beaten


def test_an_eighth_of_the_rows_beats_nobody():
    assert beaten_by(curve("static", (100,), 190), [curve("linear", (100, 200, 400), 10, 10, 10)]) is None


def test_parts_are_nested_and_what_tells_is_of_other_groups(examples):
    snapshot = take_snapshot(examples(800), inputs_of(Task("triage")))
    learn = np.arange(0, 800, 2)
    probe = Probe.of(snapshot, learn, 0)
    assert [len(part) for part in probe.parts] == [50, 100, 200]
    for small, large in zip(probe.parts, probe.parts[1:], strict=False):
        assert set(small) < set(large)
    assert not set(snapshot.groups[probe.held]) & set(snapshot.groups[probe.parts[-1]])
    assert 40 < len(probe.held) <= MOST_HELD and set(probe.held) <= set(learn)
    student = LinearStudent()
    found = probe.curve(student, student.prepare(snapshot.texts))
    assert found.rows == (50, 100, 200) and found.accuracy[-1] > 0.8 and all(each > 0 for each in found.seconds)
    short = probe.curve(student, student.prepare(snapshot.texts), lambda seconds: False)
    assert short.rows == (50,)


def test_what_the_rows_say_of_the_task(examples):
    snapshot = take_snapshot(examples(300), inputs_of(Task("triage")))
    found = complexity_of(snapshot, [], None).to_json()
    assert (found["rows"], found["answers"], found["answer_form"], found["curves"]) == (300, 3, "closed", [])
    assert 1 / 3 <= found["largest_share"] < 0.4 and 0.98 < found["evenness"] <= 1.0 and found["label_noise"] is None


def test_estimates_grow_with_the_rows():
    found = curve("linear", (100, 200, 400), 60, 40, 30)
    assert cross_fit_seconds(found, 800, coarse=False) == pytest.approx(2 * cross_fit_seconds(found, 400, coarse=False))
    assert cross_fit_seconds(found, 800, coarse=True) < cross_fit_seconds(found, 800, coarse=False)
    speeds = Speeds(embed=0.001, tune=0.01)
    four, two = (tuned_seconds(speeds, 1_000, 300, epochs) for epochs in (4, 2))
    assert four - two == pytest.approx(1.15 * 20.0)
    assert tuned_seconds(speeds, 1_000, 300, 4, layers=0.5) < four


@dataclass
class Slow:
    """A specialist that notes who was answered, and how many waited at once."""

    pause: float = 0.0
    waiting: int = 0
    most: int = 0
    answered: int = 0

    async def answer(self, request):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await asyncio.sleep(self.pause)
        self.waiting -= 1
        self.answered += 1


REQUESTS = [Request(str(n), (Message("user", "x"),)) for n in range(40)]


@pytest.mark.parametrize("callers", [1, 7])
def test_so_many_callers_ask_at_once_and_every_specialist_in_every_round(callers):
    specialists = [Slow(), Slow()]
    paces = measure_paces(specialists, REQUESTS, callers)
    for specialist, pace in zip(specialists, paces, strict=True):
        assert specialist.most == callers
        assert pace.answers == ROUNDS * len(REQUESTS) == specialist.answered - WARM
        assert 0 < pace.latency_ms[0] <= pace.latency_ms[1] and pace.answer_seconds >= 0


def test_a_round_ends_with_its_time_but_every_caller_has_had_an_answer():
    slow = Slow(pause=0.001)
    (pace,) = measure_paces([slow], REQUESTS, 3, seconds=0.0)
    assert pace.answers == ROUNDS * 3


def made(right, family="linear", accepted=None):
    right = np.array(right, np.bool_)
    accepted = np.ones(len(right), np.bool_) if accepted is None else np.array(accepted, np.bool_)
    trained = SimpleNamespace(version=SimpleNamespace(family=family))
    return SimpleNamespace(right=right, accepted=accepted, trained=trained)


def test_a_source_that_a_family_without_encoder_equals_is_not_compressed():
    source = made([True] * 90 + [False] * 10, "encoder-frozen")
    equal, tuned = made([True] * 88 + [False] * 12), made([True] * 95 + [False] * 5, "encoder")
    worse = made([True] * 80 + [False] * 20)
    shy = made([True] * 90 + [False] * 10, "static", [True] * 80 + [False] * 20)
    assert ahead_of(source, [source, tuned, worse, shy]) is None
    assert ahead_of(source, [tuned, equal]) is equal


def test_nothing_is_to_gain_where_fewer_than_five_rows_are_wrong():
    assert tuned_encoders.nothing_to_gain(made([True] * 96 + [False] * 4))
    assert not tuned_encoders.nothing_to_gain(made([True] * 95 + [False] * 5))
