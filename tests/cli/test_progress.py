"""Bars on a terminal, and silence elsewhere."""

import io
import sys
import threading

from rich.console import Console

from insource.cli.progress import Bars


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)


def test_nothing_is_shown_where_nobody_watches(capsys):
    with Bars() as bars:
        report = bars.say("reading")
        report(1, 2)
        report(2, 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_rich_is_not_loaded_where_nobody_watches(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    with Bars() as bars:
        bars.say("reading")(1, 2)
    assert "rich" not in sys.modules


def test_a_bar_shows_title_share_and_times_once_it_has_lasted():
    console = terminal()
    with Bars(console, shown_after=0.0) as bars:
        bars.say("reading [may]")(50, 200)
        bars._progress.refresh()
    shown = console.file.getvalue()
    assert "reading [may]" in shown
    assert "25%" in shown
    assert "left" in shown


def test_what_is_done_at_once_never_shows():
    console = terminal()
    with Bars(console, shown_after=3600.0) as bars:
        report = bars.say("reading")
        report(1, 2)
        report(2, 2)
        bars._progress.refresh()
    assert "reading" not in console.file.getvalue()


def test_a_title_alone_shows_nothing():
    console = terminal()
    with Bars(console, shown_after=0.0) as bars:
        bars.say("fetching")
    assert console.file.getvalue() == ""


def test_an_unknown_total_may_become_known():
    with Bars(terminal(), shown_after=0.0) as bars:
        report = bars.say("fetching")
        report(10, None)
        (task,) = bars._progress.tasks
        assert task.total is None
        report(10, 40)
        assert (task.total, task.percentage) == (40, 25)


def test_many_threads_may_report_and_late_ones_are_ignored():
    with Bars(terminal()) as bars:
        report = bars.say("embedding")
        threads = [threading.Thread(target=lambda: [report(n, 100) for n in range(100)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(bars._progress.tasks) == 1
    report(100, 100)
