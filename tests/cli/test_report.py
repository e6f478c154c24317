import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from click.testing import CliRunner

from insource.cli.main import cli
from insource.cli.report import parse_since
from insource.errors import UserError
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Audit, Calibration, Decision, Outcome, Reason, Settlement, Usage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CALIBRATION = Calibration("band", 0.05, 0.95, 400, 0.7, 0.8, 320, 4, 0.03, 0.9)
CONFIG = """
[gateway]
default_upstream = "main"
[upstreams.main]
base_url = "http://127.0.0.1:9/v1"
currency = "EUR"
[tasks.triage]
"""


@pytest.fixture
def home(tmp_path):
    """A home with one promoted version of `triage`."""
    with Registry.open(tmp_path / "home") as registry:
        registry.register("triage", "linear", "d" * 64, CALIBRATION, {}, NOON)
        registry.promote("triage", 1, "anna", "guard \x1b[31mheld", NOON)
    return tmp_path / "home"


@pytest.fixture
def served(home):
    """The same, having served: 8 accepted of which 2 were audited, 2 escalated, 1 of no task; in the far past."""
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for i in range(11):
            accepted, task = i < 8, "triage" if i < 10 else None
            reason = Reason.ABOVE_THRESHOLD if accepted else Reason.BELOW_THRESHOLD if task else Reason.NO_TASK
            outcome = Outcome.ACCEPTED if accepted else Outcome.ESCALATED
            version = 1 if task else None
            ledger.append_now(Decision(f"r-{i}", NOON, outcome, reason, task, version, audited=i < 2, audit_rate=0.05))
            if accepted:
                ledger.settle(Settlement(
                    f"r-{i}", NOON, 200, "specialist:triage@1", 0.002, cost=Decimal(0), cost_saved=Decimal("0.5"),
                    joules=0.008,
                ))  # fmt: skip
            else:
                ledger.settle(Settlement(f"r-{i}", NOON, 200, "main", 0.8, 0.8, Usage(100, 10), Decimal("0.5")))
            if i < 2:
                ledger.audit(Audit(f"r-{i}", NOON, "triage", 1, True, i == 0))
    return home


@pytest.fixture
def run(tmp_path):
    """Runs `insource report` on a home with the configuration above."""
    config = tmp_path / "insource.toml"
    config.write_text(CONFIG)

    def run_report(home, *args):
        wide = {"COLUMNS": "160"}
        return CliRunner().invoke(cli, ["--config", str(config), "--home", str(home), "report", *args], env=wide)

    return run_report


def test_the_terminal_tells_all_tasks(run, served):
    result = run(served)
    assert result.exit_code == 0
    for words in (
        "From the first request until", "11, 1 of them of no task", "72.7 %", "80.0 %", "@1 linear",
        "50.0 % (1.3 to 98.7 %)", "4.00 EUR", "undecided", "2.0 ms", "800 ms", "below_threshold", "modelled",
    ):  # fmt: skip
        assert words in result.stdout, words
    assert "guard" not in result.stdout  # versions are told for one task only


def test_one_task_is_told_with_its_versions(run, served):
    result = run(served, "--task", "triage")
    assert result.exit_code == 0
    for words in ("Certified on 400 requests", "Versions of triage", "2026-11-21 12:00 UTC by anna: guard", "3.0 %"):
        assert words in result.stdout, words
    assert "\x1b" not in result.stdout


def test_without_a_ledger_the_registry_is_listed(run, home):
    result = run(home)
    assert result.exit_code == 0
    assert "No ledger yet" in result.stdout and "@1 linear" in result.stdout
    assert not (home / "ledger.db").exists()


def test_an_empty_home_names_the_configured_task(run, tmp_path):
    result = run(tmp_path / "new")
    assert result.exit_code == 0
    assert "triage" in result.stdout and "not serving" in result.stdout


def test_json_alone_on_standard_output(run, served, tmp_path):
    result = run(served, "--json", "-", "--html", str(tmp_path / "page.html"))
    data = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (data["totals"]["requests"], data["totals"]["outside"]) == (11, 1)
    assert data["tasks"][0]["coverage"]["value"] == 0.8
    assert data["tasks"][0]["cost_saved"]["amount"] == "4.0"
    assert "page.html" in result.stderr


def test_html_and_json_are_written_beside_the_tables(run, served, tmp_path):
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    result = run(served, "--html", str(page), "--json", str(figures))
    assert result.exit_code == 0 and "triage" in result.stdout
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert json.loads(figures.read_text("utf-8"))["tasks"][0]["name"] == "triage"


def test_since_leaves_out_what_came_before(run, served):
    early = json.loads(run(served, "--since", "2026-11-21", "--json", "-").stdout)
    late = json.loads(run(served, "--since", "2026-11-22T00:00:00+00:00", "--json", "-").stdout)
    assert (early["totals"]["requests"], late["totals"]["requests"]) == (11, 0)
    assert late["since"] == "2026-11-22T00:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("7d", NOON - timedelta(days=7)),
        ("24h", NOON - timedelta(days=1)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00:00+02:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
    ],
)
def test_since_is_a_period_or_a_moment(text, meant):
    assert parse_since(text, NOON) == meant


@pytest.mark.parametrize("text", ["", "yesterday", "7", "d", "-3d", "99999d0", "99999999h", "99999h9"])
def test_since_of_another_form_is_refused(text):
    with pytest.raises(UserError, match="7d or 24h"):
        parse_since(text, NOON)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--task", "triag"), "Task 'triag' is neither configured nor trained here"),
        (("--since", "monday"), "--since is 'monday'"),
        (("--html", "/nowhere/at/all/page.html"), "cannot be written"),
    ],
)
def test_the_users_mistakes_exit_with_2(run, served, args, said):
    result = run(served, *args)
    assert result.exit_code == 2
    assert said in result.stderr and "Traceback" not in result.stderr
