"""The metrics: counted at once, told when asked, bounded, and added up over workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import Counter, Histogram

import insource
from insource.gateway.metrics import OTHER, TABLE, Metrics, read_text, worker_died
from insource.gateway.names import NAMES

REQUEST = {"task": "triage", "outcome": "accepted", "reason": "above_threshold", "status": "200"}


def sample(page, name, **labels):
    """The one sample with these labels; None where there is none."""
    found = [value for told, value in read_text(page.decode()).get(name, []) if dict(told) == labels]
    assert len(found) <= 1
    return found[0] if found else None


def test_counters_gauges_and_histograms_tell_what_was_given():
    metrics = Metrics()
    metrics.add("insource_requests_total", **REQUEST)
    metrics.add("insource_requests_total", 2, **REQUEST)
    metrics.set("insource_in_flight", 3)
    metrics.set("insource_in_flight", 2)
    for seconds in (0.001, 0.002, 100.0):
        metrics.observe("insource_request_seconds", seconds, task="triage", outcome="accepted")
    for _ in range(2):  # what was handed over is not counted again
        page = metrics.text()
        assert sample(page, "insource_requests_total", **REQUEST) == 3
        assert sample(page, "insource_in_flight") == 2
        told = {"task": "triage", "outcome": "accepted"}
        assert sample(page, "insource_request_seconds_count", **told) == 3
        assert sample(page, "insource_request_seconds_sum", **told) == pytest.approx(100.003)
        found = [sample(page, "insource_request_seconds_bucket", le=le, **told) for le in ("0.001", "0.0025", "60.0")]
        assert found == [1, 2, 2]
        assert sample(page, "insource_request_seconds_bucket", le="+Inf", **told) == 3
    assert metrics.value("insource_requests_total", **REQUEST) == 3
    assert metrics.value("insource_requests_total", **REQUEST | {"status": "500"}) == 0


def test_a_histogram_says_what_prometheus_itself_would():
    metrics, seconds = Metrics(), [0.0, 0.001, 0.0011, 0.5, 0.50001, 60, 61]
    own = Histogram("own", "x", buckets=TABLE["insource_request_seconds"].buckets, registry=None)
    for value in seconds:
        metrics.observe("insource_request_seconds", value, task="", outcome="escalated")
        own.observe(value)
    page = read_text(metrics.text().decode())
    ours = [(labels["le"], value) for labels, value in page["insource_request_seconds_bucket"]]
    theirs = [(s.labels["le"], s.value) for family in own.collect() for s in family.samples if s.name == "own_bucket"]
    assert ours == theirs


def test_the_order_of_labels_does_not_matter():
    metrics = Metrics()
    metrics.add("insource_requests_total", **REQUEST)
    metrics.add("insource_requests_total", **dict(reversed(REQUEST.items())))
    assert metrics.value("insource_requests_total", **REQUEST) == 2
    swapped = REQUEST | {"outcome": REQUEST["reason"], "reason": REQUEST["outcome"]}
    metrics.add("insource_requests_total", **dict(reversed(swapped.items())))
    assert metrics.value("insource_requests_total", **REQUEST) == 2
    assert metrics.value("insource_requests_total", **swapped) == 1


def test_labels_outside_the_table_are_refused():
    with pytest.raises(ValueError, match=r"has the labels \('code',\), not \('task',\)"):
        Metrics().add("insource_refused_total", task="triage")
    with pytest.raises(KeyError):
        Metrics().add("insource_unheard_of")


@pytest.mark.parametrize(("most", "held"), [(3, 4), (100, 50)])
def test_sets_of_labels_are_bounded(most, held):
    """With the bound out of the way (the control) every label a caller thinks of is kept."""
    metrics = Metrics(most=most)
    for number in range(50):
        metrics.add("insource_refused_total", code=f"code-{number}")
        metrics.add("insource_refused_total", code="code-0")
    page = read_text(metrics.text().decode())["insource_refused_total"]
    assert len(page) == held and sum(value for _, value in page) == 100
    assert len(metrics._cells) == (4 if most == 3 else 51)
    assert metrics.value("insource_refused_total", code="code-0") == 51
    assert metrics.value("insource_refused_total", code=OTHER) == (47 if most == 3 else 0)


def test_the_hot_path_takes_no_lock_and_hands_nothing_over():
    metrics = Metrics()
    metrics.add("insource_requests_total", **REQUEST)
    metrics.flush()
    metrics.add("insource_requests_total", **REQUEST)
    assert metrics.registry.get_sample_value("insource_requests_total", REQUEST) == 1
    metrics.flush()
    assert metrics.registry.get_sample_value("insource_requests_total", REQUEST) == 2


def test_a_worker_counts_itself_and_names_follow_the_convention():
    assert Metrics().value("insource_workers") == 1
    for name, named in TABLE.items():
        assert name.startswith("insource_") and named.says.endswith(".")
        assert name.endswith("_total") == (named.kind is Counter)


def test_the_table_of_names_names_what_there_is():
    labels = {label for named in TABLE.values() for label in named.labels}
    told = {name.prometheus for name in NAMES.values()} - {None}
    assert told <= labels | set(TABLE)
    assert {name for name in told if name in TABLE} >= {"insource_request_seconds", "insource_first_byte_seconds"}


def uncounted(sources):
    """The metrics of the table that none of the sources touches."""
    return {name for name in TABLE if not any(f'"{name}"' in text for text in sources)}


def test_everything_in_the_table_is_counted_somewhere():
    gateway = Path(insource.__file__).parent / "gateway"
    sources = {
        path.name: path.read_text() for path in gateway.glob("*.py") if path.name not in ("metrics.py", "names.py")
    }
    assert uncounted(sources.values()) == {"insource_workers"}  # set where the metrics are made
    del sources["recorder.py"]
    assert "insource_upstream_failures_total" in uncounted(sources.values())  # the control


WORKER = """
import os, sys
from insource.gateway.metrics import Metrics
metrics = Metrics()
number = int(sys.argv[1])
metrics.add("insource_refused_total", number, code="overloaded")
metrics.observe("insource_first_byte_seconds", number, upstream="main")
metrics.set("insource_in_flight", number)
metrics.set("insource_ledger_lost_rows", number)
metrics.set("insource_upstream_breaker_open", number % 2, upstream="main")
metrics.set("insource_config_info", 1, digest="abc")
metrics.set("insource_active_version", number, task="triage")
metrics.flush()
print(os.getpid(), flush=True)
sys.stdin.readline()
sys.stdout.write(metrics.text().decode())
"""


def test_one_worker_tells_the_figures_of_all(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(Path(insource.__file__).parents[1])}
    env["PROMETHEUS_MULTIPROC_DIR"] = str(tmp_path)
    pipe = subprocess.PIPE
    workers = []
    for number in (1, 2, 3):
        workers.append(
            subprocess.Popen([sys.executable, "-c", WORKER, str(number)], env=env, stdin=pipe, stdout=pipe, text=True)
        )
        assert int(workers[-1].stdout.readline()) == workers[-1].pid
    everyone = workers[0].communicate("\n")[0].encode()
    figures = {
        "insource_refused_total": ({"code": "overloaded"}, 6), "insource_in_flight": ({}, 6),
        "insource_first_byte_seconds_sum": ({"upstream": "main"}, 6), "insource_ledger_lost_rows": ({}, 6),
        "insource_first_byte_seconds_count": ({"upstream": "main"}, 3),
        "insource_upstream_breaker_open": ({"upstream": "main"}, 1), "insource_workers": ({}, 3),
        "insource_config_info": ({"digest": "abc"}, 3), "insource_active_version": ({"task": "triage"}, 3),
    }  # fmt: skip
    assert {name: sample(everyone, name, **labels) for name, (labels, _) in figures.items()} == {
        name: value for name, (_, value) in figures.items()
    }
    call = "from insource.gateway.metrics import worker_died; worker_died(int(__import__('sys').argv[1]))"
    subprocess.run([sys.executable, "-c", call, str(workers[0].pid)], env=env, check=True)
    left = workers[1].communicate("\n")[0].encode()
    assert sample(left, "insource_workers") == 2 and sample(left, "insource_in_flight") == 5
    assert sample(left, "insource_refused_total", code="overloaded") == 6  # what was counted stays
    assert sample(left, "insource_ledger_lost_rows") == 6
    workers[2].communicate("\n")


def test_without_a_shared_folder_a_dead_worker_is_nobodys_business(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    worker_died(1)
