"""`insource compare`: what it prints, its JSON, its page and its PNG, and what it refuses."""

import json
import re
import sys
import time
import xml.etree.ElementTree as ElementTree
from decimal import Decimal
from pathlib import Path

import pytest

from insource.cli.comparison import page, png
from insource.cli.comparison.figure import Scale, chart_of, placed
from insource.cli.comparison.plots import write_plots
from insource.cli.comparison.show import about, show
from insource.cli.output import console
from insource.errors import UserError
from insource.store.artifacts import ArtifactStore
from insource.store.registry import Registry

HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&\x1b[31m"
OUTSIDE = r"<\w[^<>]*\s(?:src|href)=|@import|url\("
CONFIG = """
[gateway]
default_upstream = "far"
[upstreams.far]
base_url = "https://api.example.com/v1"
jurisdiction = "US"
price_in = 2.5
price_out = 10
currency = "EUR"
[tasks.triage]
target_risk = 0.3
[tasks.triage.require]
size_mb = 0.19
"""


def candidate(name, version, accuracy, cost, ms, **more):
    return {
        "name": name, "version": version, "family": "linear", "digest": "0" * 64, "accuracy": accuracy,
        "accuracy_interval": {"low": accuracy - 0.01, "high": accuracy + 0.01}, "macro_f1": accuracy,
        "calibration": {"threshold": 0.4, "coverage": 0.8, "risk_upper_bound": 0.04}, "accepted": 0.8,
        "cost_per_thousand": {"compute": "0.00002", "energy": "0.000001", "training": "0.0001", "upstream": cost,
                              "total": cost},
        "joules_per_thousand": 8.0, "latency_ms": {"p50": ms, "p99": 4 * ms}, "sent_up": 0.24,
        "size_bytes": 24_000_000, "training_seconds": 30.0, "on_front": True, "misses": [], "expected_seconds": 20.0,
        "seconds": 31.0, **more,
    }  # fmt: skip


@pytest.fixture
def result():
    """A result with all that can happen; made by hand, so that what is drawn is known."""
    return {
        "task": "triage", "seconds": 400.0, "time_budget": 600.0, "concurrency": 4, "seed": 0, "test_rows": 1500,
        "interval": {"kind": "exact binomial", "level": 0.95},
        "complexity": {"rows": 10000, "answers": 77, "answer_form": "closed", "largest_share": 0.02,
                       "smallest_rows": 30, "evenness": 0.98, "groups": 9900, "median_words": 10.0,
                       "label_noise": 0.03,
                       "curves": [{"family": "linear", "per_doubling": 0.05,
                                   "points": [{"rows": 1000, "accuracy": 0.7}, {"rows": 2000, "accuracy": 0.75}]}]},
        "require": {"accuracy": 0.93, "coverage": None, "latency_ms": 3.0, "size_mb": None},
        "prices": {"currency": "EUR", "core_hour": "0.04", "kilowatt_hour": "0.25", "requests_per_month": 100000},
        "upstream": {"places": [{"name": "far", "jurisdiction": "US"}, {"name": "near", "jurisdiction": None}],
                     "may_leave": True, "cost_per_thousand": "1.25"},
        "candidates": [
            candidate("linear", 1, 0.912, "0.31", 0.1, misses=["accuracy 91.2% under 93.0%"]),
            candidate("two-tier", 2, 0.936, "0.21", 1.9),
            candidate("encoder-frozen", 3, 0.935, "0.22", 2.2, on_front=False),
            candidate("encoder", 4, 0.941, "0.19", 2.2, calibration=None),
            candidate(HOSTILE, 5, 0.941, "0.2", 2.3, on_front=False),
        ],
        "not_tried": [{"name": "encoder-frozen, int4", "what": "left out", "why": HOSTILE, "seconds": 90.0}],
        "next_point": [{"before": "linear", "after": "two-tier", "points": 2.4, "money": Decimal("-41.6"),
                        "milliseconds": 0.75, "megabytes": 7.0, "within_noise": False},
                       {"before": "two-tier", "after": "encoder", "points": 0.5, "money": Decimal("-40"),
                        "milliseconds": 0.6, "megabytes": 0.2, "within_noise": True}],
        "recommendation": {"name": "two-tier", "version": 2, "why": "the cheapest of 2 that tell nothing", "met": True},
        "changes": [{"condition": "if an answer may take 0.1 ms at most", "name": "linear", "told": "-2.4 points"},
                    {"condition": "with --time-budget 12m", "name": None, "told": "more would be tried"}],
        "skipped": 0, "energy": "modelled",
    }  # fmt: skip


def drawn(text):
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.DOTALL)[0])


def test_a_whole_comparison(run, write_traffic, tickets, tiny_base):
    Path("insource.toml").write_text(CONFIG)
    path = write_traffic(tickets(240, noise=0.03), "t.jsonl")
    done = run("compare", path, "--task", "triage", "--base", tiny_base, "--time-budget", "10m", "--concurrency", 2,
               "--plot", "c.html", "--json", "c.json")  # fmt: skip
    assert done.code == 0, done.err
    out = " ".join(done.out.split())
    for said in (
        "what triage needs", "3 in a closed set", "linear: ", "points a doubling", "2 callers at once",
        "upstream alone", "EUR/1,000", "not measured", "Recommended: ", "leave the house, escalated or audited, to far",
        "Next: insource promote triage@",
    ):  # fmt: skip
        assert said in out, said
    told = json.loads(Path("c.json").read_text())
    assert told["time_budget"] == 600 and told["concurrency"] == 2 and told["seconds"] < 600
    linear = told["candidates"][0]
    assert linear["name"] == "linear" and Decimal(linear["cost_per_thousand"]["upstream"]) > 0
    assert told["upstream"]["places"] == [{"name": "far", "jurisdiction": "US"}]
    listed = json.loads(run("tasks", "triage", "--json", "-").out)["versions"]
    assert {each["version"] for each in listed} >= {each["version"] for each in told["candidates"]}
    assert {each["stage"] for each in listed} == {"candidate"}
    text = Path("c.html").read_text()
    assert "Recommended: " in drawn(text).get("aria-label")
    assert not re.search(OUTSIDE, text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--time-budget", "soon"), "a time was expected, such as 90s, 10m or 1h30m"),
        (("--plot", "c.svg"), "a name that ends in .html or .png was expected"),
        (("--plot", "nowhere/c.html"), "a file in a folder that exists was expected"),
        (("--core-hour", "-1"), "--core-hour is '-1'; an amount of at least 0 was expected"),
        (("--kilowatt-hour", "nan"), "--kilowatt-hour is 'nan'"),
        (("--concurrency", "0"), "0 is not in the range"),
        (("--price-in", "cheap"), "--price-in"),
    ],
)
def test_wrong_flags_are_refused_before_any_work(run, traffic, arguments, said):
    done = run("compare", traffic, "--task", "triage", *arguments)
    assert done.code == 2 and said in " ".join(done.err.split()) and done.out == ""


def test_without_matplotlib_a_png_is_refused_before_any_work(run, traffic, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("compare", traffic, "--task", "triage", "--plot", "c.png")
    assert done.code == 2 and done.out == "" and "pip install 'insource[plots]'" in done.err


def test_the_tables_fit_a_hundred_columns(result, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "100")
    result["candidates"][4]["name"] = "encoder-frozen, int8-static"
    show(console(), result)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100
    said = " ".join(out.split())
    for told in ("two-tier @2* 93.6 (92.6-94.6) 80.0 % 0.21 1.9 · 7.6 24.0 % 24.0", "linear (misses)", "within noise",
                 "-41.60", "Recommended: two-tier (triage@2)", "0.000020 compute", "The upstream alone: 1.25.",
                 "if an answer may take 0.1 ms at most: linear (-2.4 points)"):  # fmt: skip
        assert told in said, told


def test_an_unknown_price_and_a_policy_that_keeps_are_said(result):
    result["upstream"] |= {"cost_per_thousand": None, "may_leave": False}
    result["candidates"][1]["cost_per_thousand"] |= {"upstream": None, "total": "0.0001"}
    told = " ".join(about(result))
    assert "at a price that is unknown" in told and "Nothing may leave: 24.0 % of the requests are kept" in told


def test_what_certifies_nothing_and_misses_is_said(result):
    result["recommendation"]["name"] = "encoder"
    result["candidates"][3]["misses"] = ["size"]
    assert "certifies nothing" in " ".join(about(result)) and "misses what the task requires: size" in about(result)[0]


def test_the_page_is_whole_and_escapes_all(result):
    text = page.render(result)
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert "default-src 'none'" in text
    drawing = drawn(text)
    assert not {"src", "href"} & {name for each in drawing.iter() for name in each.keys()}
    titles = [each.text for each in drawing.iter("title")]
    assert len([each for each in titles if each.startswith("two-tier: accuracy 93.6 %")]) == 2  # in both panels
    circles = [each for each in drawing.iter("circle") if each.find("title") is not None]
    assert [each.get("class") for each in circles].count("d-chosen") == 2
    assert [each.get("class") for each in circles].count("d-misses") == 2
    assert "required: at most 3 ms" in text and "upstream alone 1.2" in text and "required: 93.0 %" in text


def test_the_png_is_one(result, tmp_path):
    result["candidates"][4]["name"] = "encoder-frozen, int4"
    png.write(chart_of(result), tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG") and (tmp_path / "c.png").stat().st_size > 20_000


def test_a_plot_that_cannot_be_written_is_an_error_that_says_so(result, tmp_path):
    (tmp_path / "c.html").mkdir()
    with pytest.raises(UserError, match="cannot be written .Is a directory.*choose another path for --plot"):
        write_plots(result, [tmp_path / "c.html"])


def test_dots_stand_where_the_figures_say(result):
    cost, latency = chart_of(result).panels
    by_name = {dot.name: dot for dot in cost.dots}
    assert by_name["encoder"].x < by_name["two-tier"].x < by_name["linear"].x
    assert by_name["linear"].y < by_name["two-tier"].y < by_name["encoder"].y
    assert all(0 <= share <= 1 for dot in (*cost.dots, *latency.dots) for share in (dot.x, dot.y, dot.low, dot.high))
    assert (cost.rules[0].at, cost.rules[0].text) == (1.0, "upstream alone 1.25 \u2192")  # four times the dearest
    result["upstream"]["cost_per_thousand"] = "0.5"
    (near, _) = chart_of(result).panels[0].rules
    assert near.at < 1.0 and near.text == "upstream alone 0.50"
    ways = [y for _, y in latency.front]
    assert ways == sorted(ways) and latency.front[-1][0] == 1.0


def test_labels_do_not_cover_each_other(result):
    result["candidates"] = [
        candidate(f"encoder-frozen, {n}", n, 0.93 + n / 5000, "0.2", 2 + n / 100) for n in range(1, 6)
    ]
    result["recommendation"] = {"name": "encoder-frozen, 3", "version": 3, "why": "so", "met": True}
    for panel in chart_of(result).panels:
        heights = sorted(dot.label[1] for dot in panel.dots)
        assert all(after - before > 0.05 for before, after in zip(heights, heights[1:], strict=False))
    assert len(list(placed(panel.dots))) == 5


SCALES = [([0.1, 3.0], True), ([0.19, 0.31], True), ([1e-6, 5.0], True), ([0.9, 0.95], False), ([0.5], True),
          ([0.9], False)]  # fmt: skip


@pytest.mark.parametrize(("values", "log"), SCALES)
def test_a_scale_has_marks_within_it(values, log):
    scale = Scale.of(values, log=log)
    assert all(0 <= scale.at(each) <= 1 for each in values)
    marks = scale.marks()
    assert 1 <= len(marks) <= 14 and all(scale.first <= mark <= scale.last * 1.000001 for mark in marks)


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_the_versions_that_were_done(started, run, home, write_traffic, tickets, tiny_base):
    path = write_traffic(tickets(600, noise=0.1), "t.jsonl")
    child = started("compare", path, "--task", "triage", "--base", tiny_base, "--time-budget", "3m")
    end = time.monotonic() + 120
    while not (home / "registry.db").exists() or not _versions(home):
        assert child.poll() is None and time.monotonic() < end
    child.kill()
    child.wait()
    for version in _versions(home):
        ArtifactStore(home).open(version.digest)
        told = json.loads(run("evaluate", version.name, path, "--json", "-").out)
        assert told["rows"] == 600
    again = run("compare", path, "--task", "triage", "--base", tiny_base, "--time-budget", "3m", "--json", "-")
    assert again.code == 0 and json.loads(again.out)["candidates"][0]["version"] > 1


def _versions(home):
    with Registry.open(home) as registry:
        return registry.versions("triage") if registry.tasks() else []
