from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.cli import output
from insource.governance import wording
from insource.governance.energy import Joules
from insource.governance.figures import Money, Share


@given(st.floats(0, 1))
def test_shares_read_as_on_the_terminal(share):
    assert wording.percent(share) == output.percent(share)


@given(st.floats(0, 1e4))
def test_times_read_as_on_the_terminal(seconds):
    assert wording.milliseconds(seconds) == output.milliseconds(1000 * seconds)


@given(st.decimals(0, 10**9, places=9))
def test_money_reads_as_on_the_terminal(amount):
    assert wording.money(Money(amount, 1, 1, "USD")) == output.money(amount, "USD")


def test_unknown_is_said():
    unknown = Money(None, 0, 9, "USD")
    said = {
        wording.percent(None), wording.percent_range(None), wording.milliseconds(None), wording.joules(None),
        wording.joules_value(None), wording.money(unknown), wording.saved(unknown),
    }  # fmt: skip
    assert said == {output.UNKNOWN}


def test_partly_known_money_says_for_how_many():
    assert wording.money(Money(Decimal("1.5"), 3, 9, "EUR")) == "1.50 EUR (known for 3)"
    assert wording.saved(Money(Decimal("1.5"), 3, 9, None)) == "1.50"


def test_a_share_brings_its_interval():
    assert wording.percent_range(Share(1, 20, 0.05, 0.001, 0.249)) == "5.0 % (0.1 to 24.9 %)"


@pytest.mark.parametrize(
    ("joules", "said"),
    [(0.0, "0 J"), (0.0004, "0.4 mJ"), (0.0081, "8.1 mJ"), (60.0, "60 J"), (999.7, "1,000 J"), (166_000.0, "166 kJ"),
     (3.6e6, "3.6 MJ"), (-2_500.0, "-2.5 kJ"), (7.2e12, "7,200 GJ")],
)  # fmt: skip
def test_energy_is_scaled(joules, said):
    assert wording.joules_value(Joules(joules, joules, joules, "modelled", "")) == said


def test_energy_brings_its_range_and_its_method():
    energy = Joules(60.0, 2.0, 700.0, "modelled", "")
    assert wording.joules(energy) == "60 J (2 J to 700 J), modelled"
    assert wording.joules(energy, value=False) == "2 J to 700 J, modelled"
