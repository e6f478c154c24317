import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.governance.counter import PowerMeter, Reading, Watts, measured_watts, open_meter, read_counters

RANGE = 262_143_328_850
TICKS = os.sysconf("SC_CLK_TCK")


def reading(at, *counted, busy=0.0, bound=RANGE):
    packages = {f"intel-rapl:{i}": value for i, value in enumerate(counted)}
    return Reading(at, packages, dict.fromkeys(packages, bound), busy)


def zone(root, folder, name, energy, bound=RANGE):
    made = root / folder
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "energy_uj").write_text(f"{energy}\n")
    (made / "max_energy_range_uj").write_text(f"{bound}\n")
    return made


@pytest.fixture
def proc_stat(tmp_path):
    path = tmp_path / "stat"
    path.write_text(f"cpu  {3 * TICKS} 0 {TICKS} 999 50 0 0 0\ncpu0 1 2 3 4 5 6 7 8\n")
    return path


def test_one_busy_core_bears_all_that_the_package_drew():
    watts = measured_watts(reading(10.0, 0), reading(12.0, 20_000_000, busy=1.0), cores=4)
    assert watts == Watts(value=10.0, low=2.5, high=10.0)


def test_several_busy_cores_share_it():
    watts = measured_watts(reading(0.0, 0), reading(2.0, 40_000_000, busy=8.0), cores=8)
    assert watts == Watts(value=5.0, low=2.5, high=20.0)


def test_packages_add_up():
    watts = measured_watts(reading(0.0, 0, 5), reading(1.0, 3_000_000, 4_000_005, busy=1.0), cores=2)
    assert watts.value == pytest.approx(7.0)


def test_a_counter_that_started_again_goes_on_from_its_range():
    before, after = reading(0.0, 9_000_000, bound=10_000_000_000), reading(1.0, 4_000_000, bound=10_000_000_000)
    wrapped = measured_watts(reading(0.0, 9_999_000_000, bound=10_000_000_000), after, cores=1)
    assert wrapped.value == pytest.approx(5.0)
    assert measured_watts(before, after, cores=1).value > 1000  # without the wrap this would be negative


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        (reading(0.0, 0), reading(0.9, 9_000_000), "too short for a coarse counter"),
        (reading(0.0, 0), reading(300.0, 9_000_000), "so long that the counter may have run through twice"),
        (reading(0.0, 0), reading(2.0, 5, 9_000_000), "another set of packages"),
        (reading(0.0, 7), reading(2.0, 7), "a counter that stands still, as on virtual machines"),
        (reading(0.0), reading(2.0), "no package"),
    ],
)
def test_what_the_counters_cannot_say_is_none(before, after, why):
    assert measured_watts(before, after, cores=2) is None, why


@given(st.floats(1.0, 100.0), st.integers(1, RANGE), st.floats(0.0, 1e4), st.integers(1, 256), st.integers(0, RANGE))
def test_the_value_lies_in_its_range(seconds, counted, busy, cores, start):
    after = reading(seconds, (start + counted) % RANGE, busy=busy)
    watts = measured_watts(reading(0.0, start), after, cores)
    assert watts is None or 0 < watts.low <= watts.value * (1 + 1e-9) <= watts.high * (1 + 2e-9)


def test_only_packages_count_and_each_once(tmp_path, proc_stat):
    root = tmp_path / "powercap"
    zone(root, "intel-rapl:0", "package-0", 100)
    zone(root, "intel-rapl:0:0", "core", 60)
    zone(root, "intel-rapl:0:1", "dram", 30)
    zone(root, "intel-rapl:1", "package-1", 200)
    zone(root, "intel-rapl:2", "psys", 900)
    zone(root, "intel-rapl-mmio:0", "package-0", 100)
    found = read_counters(root, proc_stat)
    assert found.packages == {"intel-rapl:0": 100, "intel-rapl:1": 200}
    assert found.ranges == {"intel-rapl:0": RANGE, "intel-rapl:1": RANGE}
    assert found.busy == 4.0


def test_one_package_that_cannot_be_read_leaves_no_measurement(tmp_path, proc_stat):
    root = tmp_path / "powercap"
    zone(root, "intel-rapl:0", "package-0", 100)
    assert open_meter(root, proc_stat) is not None
    (zone(root, "intel-rapl:1", "package-1", 100) / "energy_uj").unlink()  # as unreadable as to a plain user
    assert read_counters(root, proc_stat) is None
    assert open_meter(root, proc_stat) is None


@pytest.mark.parametrize("stat", ["", "cpu one two\n"])
def test_a_machine_without_counters_has_no_meter(tmp_path, stat):
    (tmp_path / "stat").write_text(stat)
    assert open_meter(tmp_path / "powercap", tmp_path / "stat") is None
    zone(tmp_path / "powercap", "intel-rapl:0", "package-0", 100)
    assert open_meter(tmp_path / "powercap", tmp_path / "stat") is None
    assert open_meter(tmp_path / "powercap", tmp_path / "nowhere") is None


class Machine:
    """A machine with one package that draws what it is told while its clock is moved."""

    def __init__(self):
        self.at, self.joules, self.reads, self.readable = 0.0, 0.0, 0, True

    def run(self, seconds, watts):
        self.at += seconds
        self.joules += seconds * watts

    def read(self):
        self.reads += 1
        return reading(self.at, int(self.joules * 1e6) % RANGE, busy=self.at) if self.readable else None


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def meter(machine):
    return PowerMeter(machine.read, cores=2, clock=lambda: machine.at)


def test_a_meter_keeps_the_last_complete_window(machine, meter):
    assert meter.watts() is None
    machine.run(2.0, 10.0)
    assert meter.watts().value == pytest.approx(10.0)
    reads = machine.reads
    machine.run(0.5, 90.0)
    assert meter.watts().value == pytest.approx(10.0)
    assert machine.reads == reads
    machine.run(1.5, 30.0)
    assert meter.watts().value == pytest.approx(45.0)


def test_a_meter_keeps_its_figure_over_a_window_that_says_nothing(machine, meter):
    machine.run(2.0, 10.0)
    assert meter.watts() is not None
    machine.run(5_000.0, 80.0)
    assert meter.watts().value == pytest.approx(10.0)
    machine.run(2.0, 20.0)
    assert meter.watts().value == pytest.approx(20.0, rel=1e-3)


def test_a_counter_that_is_taken_away_is_no_longer_believed(machine, meter):
    machine.run(2.0, 10.0)
    assert meter.watts() is not None
    machine.readable = False
    machine.run(2.0, 10.0)
    assert meter.watts() is None
    machine.readable = True
    machine.run(2.0, 10.0)
    assert meter.watts() is None
    machine.run(2.0, 12.0)
    assert meter.watts().value == pytest.approx(12.0)
