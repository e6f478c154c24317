import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.governance.counter import PowerMeter, Reading
from insource.governance.energy import (
    PER_COMPLETION_TOKEN,
    PER_PROMPT_TOKEN,
    WATTS_PER_CORE,
    Energy,
    Joules,
    add,
    is_specialist,
    local_range,
    open_energy,
)
from insource.types import Usage

JOULES = st.builds(
    lambda low, up, more, method: Joules(low + up, low, low + up + more, method, "f"),
    st.floats(-1e6, 1e6), st.floats(0, 1e6), st.floats(0, 1e6), st.sampled_from(["modelled", "measured"]),
)  # fmt: skip


@pytest.fixture
def measuring():
    """An energy whose meter saw one core draw 10 W of a package of four."""
    moments = iter([0.0, 2.0])

    def read():
        at = next(moments)
        return Reading(at, {"p": int(at * 1e7)}, {"p": 10**12}, busy=at)

    return Energy(PowerMeter(read, cores=4, clock=lambda: 2.0))


def test_a_local_answer_is_modelled_from_its_seconds():
    found = Energy().of_local(0.002)
    assert (found.value, found.low, found.high) == pytest.approx((0.008, 0.004, 0.030))
    assert found.method == "modelled"
    assert "4 W (2 to 15 W)" in found.formula


def test_an_upstream_answer_is_modelled_from_its_tokens():
    found = Energy().of_upstream(Usage(100, 10))
    assert (found.value, found.low, found.high) == pytest.approx((60.0, 2.0, 700.0))
    assert found.method == "modelled"
    assert "0.3 J (0.01 to 3)" in found.formula and "3 J (0.1 to 40)" in found.formula


def test_the_models_are_ranges_around_their_figures():
    for model in (WATTS_PER_CORE, PER_PROMPT_TOKEN, PER_COMPLETION_TOKEN):
        assert 0 < model.low < model.value < model.high


def test_a_counter_makes_local_answers_measured_and_upstream_ones_not(measuring):
    found = measuring.of_local(0.5)
    assert (found.value, found.low, found.high) == pytest.approx((5.0, 1.25, 5.0))
    assert found.method == "measured"
    assert "RAPL" in found.formula
    assert Energy().of_upstream(Usage(1, 1)).method == "modelled"


def test_before_its_first_window_a_counter_measures_nothing():
    waiting = Energy(PowerMeter(lambda: Reading(0.0, {"p": 0}, {"p": 1}, 0.0), cores=2, clock=lambda: 0.5))
    assert waiting.of_local(1.0).method == "modelled"


@pytest.mark.parametrize(
    ("served_by", "usage", "joules"),
    [
        ("specialist:triage@3", None, 4.0),
        ("triage@3", None, 4.0),
        ("specialist:triage@3", Usage(100, 10), 4.0),
        ("openai", Usage(100, 10), 60.0),
        ("openai", None, None),
        ("none", None, None),
    ],
)
def test_what_served_decides_the_model(served_by, usage, joules):
    assert Energy().joules_of(served_by, 1.0, usage) == (None if joules is None else pytest.approx(joules))


@pytest.mark.parametrize("name", ["openai", "none", "gpt-4.1", "eu_west", "3", "@", "main@", "main@eu"])
def test_an_upstream_is_no_specialist(name):
    assert not is_specialist(name)


def test_recorded_joules_get_the_models_range_back():
    recorded = Energy().of_local(0.25)
    again = local_range(recorded.value)
    assert (again.value, again.low, again.high) == pytest.approx((recorded.value, recorded.low, recorded.high))
    assert again.method == "modelled"


@given(JOULES, JOULES)
def test_a_difference_takes_the_worst_end_of_each_side(much, little):
    left = much.minus(little)
    assert left.low <= left.value <= left.high
    assert (left.low, left.high) == (much.low - little.high, much.high - little.low)
    assert left.method == ("measured" if much.method == little.method == "measured" else "modelled")


@given(st.lists(JOULES, min_size=1, max_size=5))
def test_a_sum_is_modelled_as_soon_as_one_part_is(amounts):
    total = add(amounts)
    assert total.low <= total.value <= total.high
    assert (total.method == "measured") == all(amount.method == "measured" for amount in amounts)
    assert total.formula == "f"


def test_the_sum_of_nothing_is_unknown():
    assert add([]) is None


def test_many_answers_take_many_times_as_much():
    assert Energy().of_local(1.0).times(3) == Energy().of_local(3.0)


def test_this_machine_has_an_energy_whatever_it_can_read():
    assert open_energy().of_local(1.0).value > 0
