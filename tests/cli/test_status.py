"""`insource status`: the gateway's own figures beside the stored ones, with a gateway, without one, and live."""

import asyncio
import http.server
import io
import json
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.console import Console

from insource.cli.gateway_state import GatewayState, look
from insource.cli.status import Sparing, Stored, drawn, follow
from insource.config import load
from insource.config.digest import config_digest
from insource.gateway.metrics import Metrics
from insource.store.ledger import Ledger
from insource.store.registry import Registry
from insource.types import Audit, Calibration, Decision, Outcome, Reason, Settlement

CERTIFIED = Calibration("band", 0.05, 0.95, 400, 0.7, 0.8, 320, 4, 0.03, 0.9)
LOADED = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
CONFIG = """
[gateway]
port = {port}
[upstreams.main]
base_url = "http://127.0.0.1:9/v1"
[upstreams.vllm]
base_url = "http://127.0.0.1:9/v1"
[tasks.triage]
upstream = "main"
tiers = ["vllm"]
"""


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers from its server's table of pages."""

    def do_GET(self):
        status, body = self.server.pages.get(self.path, (404, b"not found"))
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@contextmanager
def answering(pages):
    """A server on loopback with these pages; gives its port."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.pages = pages
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def metrics(digest="abc"):
    told = Metrics()
    told.set("insource_in_flight", 3)
    told.set("insource_ledger_waiting", 1234)
    told.set("insource_ledger_lost_rows", 0)
    told.set("insource_upstream_breaker_open", 0, upstream="vllm")
    told.set("insource_upstream_breaker_open", 1, upstream="main")
    told.set("insource_config_info", 1, digest=digest)
    told.set("insource_config_info", 0, digest="the one before")
    told.set("insource_config_loaded_seconds", LOADED)
    told.add("insource_config_reloads_total", result="refused")
    return told.text()


@pytest.fixture
def gateway():
    with answering({"/readyz": (200, b"{}"), "/metrics": (200, metrics())}) as port:
        yield port


@pytest.fixture
def configured(tmp_path, home):
    def write(port):
        path = tmp_path / "insource.toml"
        path.write_text(CONFIG.format(port=port))
        return load(path, flags={"store.home": home})

    return write


@pytest.fixture
def served(home):
    """A home whose task served eight requests here and two above, just now, one of which was kept."""
    now = datetime.now(UTC)
    with Registry.open(home) as registry:
        registry.register("triage", "linear", "d" * 64, CERTIFIED, {}, now)
        registry.promote("triage", 1, "ada", "test", now)
        registry.ask_review("r-9", "triage", "text", None, now)
    with Ledger.open(home, clock=lambda: now) as ledger:
        for i in range(11):
            outcome, reason = Outcome.ACCEPTED, Reason.ABOVE_THRESHOLD
            if i >= 8:
                outcome, reason = Outcome.ESCALATED, Reason.BELOW_THRESHOLD
            if i == 9:
                outcome, reason = Outcome.KEPT, Reason.KEPT_LOCAL
            when = now - timedelta(hours=2) if i == 10 else now
            audited = i < 4
            decision = Decision(f"r-{i}", when, outcome, reason, "triage", 1, audited=audited, audit_rate=0.05)
            ledger.append_now(decision)
            seconds = 0.002 if i < 8 else 0.5
            ledger.settle(Settlement(f"r-{i}", when, 200, "x", seconds))
            if audited:
                ledger.audit(Audit(f"r-{i}", when, "triage", 1, True, i > 0))
    return home


def test_without_a_gateway_the_stored_figures_are_shown_and_the_code_is_1(run, served, configured):
    configured(1)
    done = run("status")
    assert done.code == 1, done.err
    assert "not reachable: Connection refused; what follows is what is stored" in done.out
    assert "10 requests, 80.0 % (" in done.out and "answered here" in done.out and "1 waiting" in done.out
    row = next(line for line in done.out.splitlines() if "@1" in line)
    assert row.split()[:8] == ["triage", "@1", "active", "vllm", "10", "80.0", "%", "1"]
    assert "25.0 %" in row and "3.0 %" in row and "5.0 %" in row and "2.0 ms" in row and "500 ms" in row


def test_a_gateway_tells_of_itself(run, served, configured, gateway):
    configured(gateway)
    done = run("status")
    assert done.code == 0, done.err
    told = {line.split("  ")[0].strip(): " ".join(line.split()) for line in done.out.splitlines()}
    assert told["state"] == "state ready" and told["workers"] == "workers 1" and told["in flight"] == "in flight 3"
    assert told["ledger"] == "ledger 1,234 rows waiting, 0 lost"
    assert told["upstream main"].endswith("resting: its circuit breaker is open")
    assert told["upstream vllm"] == "upstream vllm asked"
    assert "abc, loaded 2026-11-21 12:00:00 UTC; the file here says" in told["configuration"]
    assert told["configuration"].endswith("1 reloads refused")


def test_the_same_configuration_is_not_remarked_upon(run, configured, home):
    pages = {"/readyz": (503, b"{}")}
    with answering(pages) as port:
        pages["/metrics"] = (200, metrics(config_digest(configured(port))))
        done = run("status")
    assert done.code == 0 and "the file here says" not in done.out
    assert "starting or draining: it takes no requests now" in done.out


def test_json_has_the_same_figures(run, served, configured, gateway):
    config = configured(gateway)
    told = json.loads(run("status", "triage", "--json", "-").out)
    assert told["gateway"]["reachable"] and told["gateway"]["upstreams"] == {"main": "open", "vllm": "closed"}
    assert told["gateway"]["configurations"] == {"abc": 1} and told["configuration"] == config_digest(config)
    assert (told["requests"], told["reviews_waiting"]) == (10, 1)
    (task,) = told["tasks"]
    assert (task["version"], task["stage"], task["tiers"], task["kept"]) == (1, "active", ["vllm"], 1)
    assert (task["coverage"]["value"], task["risk"]["value"], task["risk_upper_bound"]) == (0.8, 0.25, 0.03)


def test_what_is_kept_is_told_with_what_that_makes_impossible(run, served, tmp_path, home):
    (tmp_path / "insource.toml").write_text(
        f"{CONFIG.format(port=1)}content = 'full'\nretention_days = 90\n[tasks.other]\n"
        "[tasks.secret]\ncontent = 'none'\n[tasks.secret.guard]\nfraud = 0.1\n"
    )
    told = " ".join(run("status").out.split())
    assert "content of triage: texts for 90 days" in told and "triage: texts for 90 days;" not in told
    assert "content of other: digests for 30 days; impossible: learning from its traffic" in told
    assert "content of secret: nothing; impossible: learning from its traffic, seeing drift" in told
    assert "watching its guards while it serves, proving what a text said" in told
    assert "content of secret: nothing" in run("status", "secret").out and "other" not in run("status", "secret").out
    found = {row["task"]: row["keeping"] for row in json.loads(run("status", "--json", "-").out)["tasks"]}
    assert found["triage"] == {"content": "full", "days": 90, "impossible": [], "review_days": None}
    assert (found["other"]["content"], found["other"]["days"], len(found["other"]["impossible"])) == ("digest", 30, 4)
    assert (found["secret"]["days"], len(found["secret"]["impossible"])) == (None, 6)


def test_an_unknown_task_is_a_mistake(run, configured):
    configured(1)
    done = run("status", "nobody")
    assert done.code == 2 and "Task 'nobody' is neither configured nor trained" in done.err


def test_a_ledger_that_cannot_be_read_is_told_beside_the_gateway(run, configured, gateway, home):
    configured(gateway)
    home.mkdir()
    (home / "ledger.db").write_text("no ledger\n" * 100)
    done = run("status")
    assert done.code == 0 and "! the stored figures cannot be read: " in done.out and "ready" in done.out


@pytest.mark.parametrize(("pages", "told"), [
    ({}, "what answers there is no insource gateway"),
    ({"/readyz": (200, b""), "/metrics": (200, b"nginx_up 1\n")}, "what answers there is no insource gateway"),
    ({"/readyz": (200, b""), "/metrics": (200, b"\xff not a page {")}, "what answers there is no insource gateway"),
])  # fmt: skip
def test_something_else_at_the_address_is_told(pages, told):
    with answering(pages) as port:
        state = asyncio.run(look("127.0.0.1", port))
    assert (state.reachable, state.detail) == (False, told)


async def test_one_that_says_nothing_is_given_up():
    gate = asyncio.Event()

    async def silent(reader, writer):
        await gate.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    state = await look("127.0.0.1", server.sockets[0].getsockname()[1], seconds=0.05)
    assert (state.reachable, state.detail) == (False, "no answer within 0.05 s")
    gate.set()
    server.close()
    await server.wait_closed()


async def test_one_that_speaks_something_else_is_told():
    async def babble(reader, writer):
        writer.write(b"220 mail ready\r\n")
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    state = await look("127.0.0.1", server.sockets[0].getsockname()[1])
    assert state.detail in ("what answers there is no insource gateway", "Connection reset by peer")
    server.close()
    await server.wait_closed()
    assert (await look("127.0.0.1", 0)).detail.startswith("gateway.port is 0")


def test_watch_wants_a_terminal(run, configured, gateway):
    configured(gateway)
    for arguments in (("--watch",), ("--watch", "--json", "-")):
        done = run("status", *arguments)
        assert done.code == 2 and "--watch draws on a terminal" in done.err


@pytest.mark.parametrize("last", [True, False])
def test_watch_draws_again_and_again_until_it_is_ended(configured, last):
    config, waited = configured(1), []
    states = iter([GatewayState("http://one", reachable=True), GatewayState("http://two", reachable=last)])
    shown = Console(file=io.StringIO(), force_terminal=True, width=120)

    def wait(seconds):
        waited.append(seconds)
        if len(waited) == 2:
            raise KeyboardInterrupt

    reached = follow(lambda: (next(states), Stored(trouble="gone")), config, wait, shown)
    assert reached is last and waited == [1.0, 1.0]
    assert "http://one" in shown.file.getvalue() and "http://two" in shown.file.getvalue()


def test_a_large_ledger_is_read_for_a_small_share_of_the_time():
    now, reads = SimpleNamespace(at=0.0), []

    def read():
        reads.append(now.at)
        now.at += 3.0  # so long does reading take
        return Stored(reviews=len(reads))

    sparing = Sparing(read, lambda: now.at)
    for _ in range(300):
        sparing()
        now.at += 1.0
    assert 3.0 * len(reads) / now.at == pytest.approx(0.1, abs=0.02)
    quick = Sparing(lambda: Stored(reviews=reads.append(0)), lambda: now.at)
    reads.clear()
    for _ in range(5):
        quick()
        now.at += 1.0
    assert len(reads) == 5


def test_what_others_wrote_cannot_steer_the_terminal(configured):
    shown = Console(file=io.StringIO(), width=120)
    state = GatewayState("http://x", reachable=True, upstreams={"\x1b[31mred": "open"})
    shown.print(drawn(configured(1), state, Stored(trouble="bad \x1b[31m")))
    assert "\x1b" not in shown.file.getvalue()


def test_the_digest_is_of_the_values_not_of_their_order(tmp_path, home):
    def digest(text):
        path = tmp_path / "insource.toml"
        path.write_text(text)
        return config_digest(load(path, flags={"store.home": home}))

    one = digest("[tasks.a]\n[tasks.b]\ntarget_risk = 0.02\n")
    assert one == digest("# said otherwise\n[tasks.b]\ntarget_risk = 0.02\n[tasks.a]\n")
    assert one != digest("[tasks.a]\n[tasks.b]\ntarget_risk = 0.03\n")
    assert len(one) == 12
