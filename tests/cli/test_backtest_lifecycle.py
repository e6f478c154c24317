"""`insource backtest --lifecycle`: what it prints, its JSON and its pages, what it refuses; and it leaves nothing."""

import json
import os
import re
import signal
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from insource.cli.backtest_lifecycle import ended_in_order, show_lifecycle, write_timelines
from insource.cli.output import console
from insource.cli.timeline import figure, page, png
from insource.cli.timeline.drawing import draw, runs
from insource.errors import UserError

SHORT = ("--family", "linear", "--warmup", "200", "--lifecycle", "--target-risk", "0.1", "--audit-rate", "0.1")
HOSTILE = "<script>alert('x')</script>\"'><img src=x onerror=alert(1)>&\x1b[31m‮"


@pytest.fixture
def month(write_traffic, tickets):
    return write_traffic(tickets(450, noise=0.02), "May 2026.jsonl")


def stage(stage, start, stop, share=0.0):
    return {"stage": stage, "from": start, "to": stop, "share": share, "why": "as the evidence says"}


def event(at, what, version=None, before=None, share=0.0, why="so"):
    return {"at": at, "time": "2026-05-01T00:00:00+00:00", "what": what, "version": version, "before": before,
            "share": share, "why": why}  # fmt: skip


@pytest.fixture
def result():
    """A result with all that can happen; made by hand, so that what is drawn is known."""
    common = {"family": "linear", "digest": "0" * 64, "threshold": 0.5, "accuracy": 0.9, "evidence": 200, "also": 10,
              "why": "asked for", "notes": []}  # fmt: skip
    versions = [
        {"version": 1, "at": 200, "certified_coverage": 0.8, "certified_risk": 0.04, "took_over": True, "accepted": 300,
         "wrong": 30, **common,
         "stages": [stage("candidate", 200, 200), stage("shadow", 200, 300), stage("canary", 300, 400, 0.05),
                    stage("active", 400, 1000)]},
        {"version": 2, "at": 400, "certified_coverage": 0.7, "certified_risk": 0.05, "took_over": False, "accepted": 0,
         "wrong": 0, **common,
         "stages": [stage("candidate", 400, 500), stage("shadow", 500, 600), stage("retired", 600, 1000)]},
        {"version": 3, "at": 700, "certified_coverage": 0.0, "certified_risk": None, "took_over": False, "accepted": 0,
         "wrong": 0, **common, "stages": [stage("candidate", 700, 1000)]},
    ]  # fmt: skip
    windows = [
        {"from": at, "to": at + 250, "coverage": coverage, "risk": risk, "accepted": round(250 * coverage),
         "wrong": round(250 * coverage * (risk or 0)), "audited": 9, "upstream_calls": at, "active": active,
         "certified_risk": 0.04 if active else None, "cost": str(at / 1000), "cost_upstream_only": str(at / 500)}
        for at, coverage, risk, active in ((0, 0.0, None, None), (250, 0.4, 0.02, 1), (500, 0.8, 0.9, 1),
                                           (750, 0.0, None, 1))
    ]  # fmt: skip
    return {
        "task": "tickets", "requests": 1000, "family": "linear", "seed": 0, "warmup": 200, "target_risk": 0.05,
        "confidence_level": 0.95, "coverage": 0.3, "accepted": 300, "upstream_calls": 750, "seconds": 1.0,
        "risk": {"realised": 0.1, "upper_bound": 0.13, "held": False}, "versions": versions, "timeline": windows,
        "cost": {"insource": "0.75", "upstream_only": "2.00", "currency": "EUR"},
        "suspensions": [{"from": 720, "to": None, "time": "", "version": None, "why": "risk", "ended": None}],
        "doubts": [{"from": 700, "to": 720, "time": "", "version": 1, "why": "drift", "ended": "known"}],
        "rollbacks": [event(600, "retired", 2, "shadow")],
        "events": [event(200, "trained", 1), event(300, "canary", 1, "shadow", 0.05), event(400, "active", 1, "canary"),
                   event(600, "retired", 2, "shadow", why=HOSTILE), event(720, "suspended", why="risk is above")],
    }  # fmt: skip


def drawn(text):
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.DOTALL)[0])


def test_what_is_printed_and_written(run, month):
    done = run("backtest", month, *SHORT, "--timeline", "way.html", "--json", "way.json", "--price-in", "2.5",
               "--price-out", "10")  # fmt: skip
    assert done.code == 0, done.err
    for said in ("backtest of may-2026", "versions", "2 trained, 0 active in turn: none", "suspended         never",
                 "stages, from request", "@1", "shadow 200, canary 1 %", "USD instead of"):  # fmt: skip
        assert re.sub(r"\s+", " ", said) in re.sub(r"\s+", " ", done.out), said
    assert "The timeline was written to way.html." in done.err
    found = json.loads(Path("way.json").read_text())
    text = Path("way.html").read_text()
    assert f"Lifecycle of may-2026: {found['requests']} requests" in text
    assert found["lifecycle"] is True and found["versions"][0]["stages"][1]["stage"] == "shadow"
    drawing = drawn(text)
    assert drawing.get("role") == "img" and "@1: shadow from 200 to" in drawing.get("aria-label")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--timeline", "way.html"), "--timeline was given without --lifecycle"),
        (("--new-answers",), "--new-answers was given without --lifecycle"),
        (("--lifecycle", "--timeline", "way.svg"), "'way.svg'; a name that ends in .html or .png was expected"),
        (("--lifecycle", "--timeline", "nowhere/way.html"), "a file in a folder that exists was expected"),
        (("--lifecycle", "--budget", "100"), "--budget stands instead of a promise, and --lifecycle keeps one"),
        (("--lifecycle", "--warmup", "450"), "more than 450 were expected, since the first version is trained"),
        (("--lifecycle", "--family", "svm"), "--family is 'svm'"),
    ],
)
def test_wrong_flags(run, month, arguments, said):
    done = run("backtest", month, "--family", "linear", *arguments)
    assert done.code == 2 and said in " ".join(done.err.split()) and done.out == ""


def test_a_timeline_that_cannot_be_written_is_an_error_that_says_so(result, tmp_path):
    (tmp_path / "way.html").mkdir()
    with pytest.raises(UserError, match="cannot be written .Is a directory.*choose another path for --timeline"):
        write_timelines(result, [tmp_path / "way.html"])


def test_without_matplotlib_a_png_is_refused_before_any_work(run, month, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = run("backtest", month, *SHORT, "--timeline", "way.png")
    assert done.code == 2 and done.out == "" and "pip install 'insource[plots]'" in done.err


def test_a_png_is_drawn(result, tmp_path):
    path = tmp_path / "way.png"
    png.write(figure.figure_of(result), path)
    data = path.read_bytes()
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and width == 1650 and height > 1_000
    assert b"Suspended" not in data and b"Lifecycle of tickets: 1,000 requests" in data
    png.write(figure.figure_of(result), tmp_path / "again.png")
    assert (tmp_path / "again.png").read_bytes() == data


def test_the_drawing_shows_what_the_result_says(result):
    found = figure.figure_of(result)
    assert [band.name for band in found.bands] == ["task", "@1", "@2"]  # @3 was never tried
    assert [(span.stage, span.start, span.stop) for span in found.bands[0].spans] == [
        ("doubted", 700, 720), ("suspended", 720, 1000)
    ]  # fmt: skip
    assert [span.text for span in found.bands[1].spans] == ["shadow", "5 %", "active"]
    assert found.bands[2].back == 600 and found.suspended == ((720, 1000),)
    assert [panel.title for panel in found.panels] == [
        "Coverage",
        "Risk of accepted answers",
        "Upstream calls",
        "Money (EUR)",
    ]
    risk = {line.name: line for line in found.panels[1].lines}
    assert found.panels[1].top == pytest.approx(0.3)
    assert risk["promise"].points == ((0.0, 0.05), (1000.0, 0.05))
    assert risk["realised so far"].points[-1] == (1000.0, pytest.approx(182 / 300))
    drawing = ElementTree.fromstring(draw(found))
    rects = [each.get("class") for each in drawing.iter("rect")]
    assert rects.count("off") == 1 + len(found.panels)
    texts = [each.text for each in drawing.iter("text")]
    assert {"rolled back", "active", "suspended", "100 %", "Money (EUR)"} <= set(texts)
    triangles = [each for each in drawing.iter("path") if each.get("d").endswith("l5 8h-10z")]
    assert len(triangles) == 1 and triangles[0].find("title").text == "around request 625: 90.0 %"


def test_without_prices_no_money_is_drawn(result):
    cost = {"insource": None, "upstream_only": None, "currency": None}
    windows = [{**window, "cost": None, "cost_upstream_only": None} for window in result["timeline"]]
    text = page.render({**result, "cost": cost, "timeline": windows})
    assert not [each for each in drawn(text).iter("text") if "Money" in each.text]
    assert "Money saved" not in text and "Money saved" in page.render(result)


def test_what_comes_from_outside_stays_text(result, capsys):
    text = page.render({**result, "task": HOSTILE})
    assert "<script" not in text and "<img" not in text and "\x1b" not in text
    assert "&lt;script&gt;" in text and "default-src &#x27;none&#x27;" not in text and "default-src 'none'" in text
    assert re.findall(r"(?:src|href)=", drawing_free(text)) == []
    show_lifecycle(console(), result)
    assert "\x1b" not in capsys.readouterr().out


def drawing_free(text):
    return text.replace("&lt;img src=", "")


@pytest.mark.parametrize(
    ("top", "most"), [(1.0, 5), (0.3, 4), (13_083.0, 8), (0.0035, 4), (7.0, 4), (1e-9, 4), (1e9, 8)]
)
def test_ticks_are_round_and_few(top, most):
    found = figure.ticks(top, most)
    assert found[0] == 0.0 and found[-1] <= top * (1 + 1e-9) and 2 <= len(found) <= most + 1
    assert float(f"{found[1]:.1e}") == pytest.approx(found[1])


def test_gaps_part_a_line():
    assert list(runs([(0, None), (1, 2.0), (2, 3.0), (3, None), (4, 5.0)])) == [[(1, 2.0), (2, 3.0)], [(4, 5.0)]]
    assert figure.ticks(0.0) == (0.0,)


def test_an_end_by_signal_unwinds_and_the_handler_goes_back(tmp_path):
    before, left = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(SystemExit) as ended, ended_in_order():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)  # it is delivered at once; this only gives the interpreter a place to do so
        finally:
            left.append("cleaned")
    assert ended.value.code == 143 and left == ["cleaned"]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_no_files(started, write_traffic, tickets, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    child = started("backtest", write_traffic(tickets(6_000, noise=0.02)), *SHORT)
    registry = tmp_path / "tmp"
    while not list(registry.glob("insource-backtest-*/registry.db")):
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.02)
    child.terminate()
    child.communicate(timeout=60)
    assert child.returncode == 143 and list(registry.iterdir()) == []
