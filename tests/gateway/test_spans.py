"""Spans: under the GenAI conventions, with the client's trace above and the upstream's below, and without content."""

import gzip
import http.server
import inspect
import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace

import pytest
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
from opentelemetry.trace import SpanKind, StatusCode

import insource
from insource.errors import ConfigError, Overloaded, UpstreamUnreachable
from insource.gateway import names, spans
from insource.gateway.names import NAMES, OPERATIONS, attribute
from insource.gateway.spans import NO_SPANS, Traced, open_spans
from insource.types import Decision, Message, Outcome, Reason, Request, Sensitivity, Settlement, Usage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CANARY = "canary-7f3a"
TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def traced():
    exporter = InMemorySpanExporter()
    made = Traced(SimpleSpanProcessor(exporter))
    yield SimpleNamespace(spans=made, finished=lambda: {span.kind: span for span in exporter.get_finished_spans()})
    made.close()


def request(**changes):
    values = {
        "id": "r-1", "messages": (Message("user", CANARY),), "model": "gpt-4o", "stream": True,
        "fields": {"user": CANARY, "tools": [CANARY]}, "headers": {"traceparent": PARENT, "x-note": CANARY},
        "body": CANARY.encode(), "path": f"/v1/chat/completions?note={CANARY}",
    }  # fmt: skip
    return Request(**values | changes)


def decision(**changes):
    values = {
        "request_id": "r-1", "time": NOON, "outcome": Outcome.ESCALATED, "reason": Reason.BELOW_THRESHOLD,
        "task": "triage", "version": 3, "digest": "d" * 64, "score": 0.2, "threshold": 0.5, "tier": "vllm",
        "sensitivity": Sensitivity.INTERNAL, "detail": CANARY,
    }  # fmt: skip
    return Decision(**values | changes)


def settlement(**changes):
    values = {"request_id": "r-1", "time": NOON, "status": 200, "served_by": "main", "seconds": 0.5,
              "usage": Usage(10, 3), "detail": CANARY}  # fmt: skip
    return Settlement(**values | changes)


def whole(traced, **changes):
    """A request that goes up and comes back."""
    token = traced.spans.begin(request(**changes))
    headers = traced.spans.headers(token)
    traced.spans.end(token, decision(), settlement(), model="gpt-4o-2026", attempts=2)
    return headers


def test_one_server_span_below_the_clients_and_one_client_span_below_it(traced):
    headers = whole(traced)
    server, upstream = traced.finished()[SpanKind.SERVER], traced.finished()[SpanKind.CLIENT]
    assert len(traced.finished()) == 2
    assert server.name == upstream.name == "chat gpt-4o"
    assert f"{server.context.trace_id:032x}" == TRACE and f"{server.parent.span_id:016x}" == "b7ad6b7169203331"
    assert upstream.parent.span_id == server.context.span_id
    assert headers == {"traceparent": f"00-{TRACE}-{upstream.context.span_id:016x}-01"}


def test_the_attributes_are_those_of_the_table(traced):
    whole(traced)
    asked = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}
    replied = {
        "http.response.status_code": 200, "insource.served_by": "main", "gen_ai.response.model": "gpt-4o-2026",
        "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 3,
    }  # fmt: skip
    decided = {
        "insource.task": "triage", "insource.outcome": "escalated", "insource.reason": "below_threshold",
        "insource.score": 0.2, "insource.threshold": 0.5, "insource.tier": "vllm", "insource.version": 3,
        "insource.audited": False, "insource.sensitivity": "internal", "insource.request_id": "r-1",
        "gen_ai.provider.name": "insource", "gen_ai.request.stream": True,
    }  # fmt: skip
    found = traced.finished()
    assert dict(found[SpanKind.SERVER].attributes) == asked | replied | decided
    assert dict(found[SpanKind.CLIENT].attributes) == asked | replied | {
        "gen_ai.provider.name": "openai", "insource.attempts": 2,
    }  # fmt: skip
    assert found[SpanKind.SERVER].status.status_code is StatusCode.UNSET


def everything_told(found):
    return " ".join(
        f"{span.name} {dict(span.attributes)} {[(event.name, event.attributes) for event in span.events]} "
        f"{span.status.description} {span.context.trace_state} {span.resource.attributes} {span.links}"
        for span in found.values()
    )


def test_no_attribute_holds_a_word_of_the_request(traced):
    token = traced.spans.begin(request())
    traced.spans.headers(token)
    traced.spans.end(token, decision(), settlement(status=502), error=UpstreamUnreachable(f"no route for {CANARY}"))
    found = traced.finished()
    assert len(found) == 2 and found[SpanKind.CLIENT].status.status_code is StatusCode.ERROR
    assert found[SpanKind.SERVER].attributes["error.type"] == "upstream_unreachable"
    assert CANARY not in everything_told(found)


def test_a_canary_in_an_attribute_would_be_seen(traced):
    """The control: the same scan, with a span that tells too much."""
    token = traced.spans.begin(request())
    token.server.set_attribute("insource.detail", CANARY)
    traced.spans.end(token)
    assert CANARY in everything_told(traced.finished())
    token = traced.spans.begin(request())
    token.server.record_exception(ValueError(CANARY))
    traced.spans.end(token)
    assert CANARY in everything_told(traced.finished())


def test_what_is_answered_here_has_one_span(traced):
    token = traced.spans.begin(request(headers={}), perf_counter())
    traced.spans.end(token, decision(outcome=Outcome.ACCEPTED, tier=None, sensitivity=None), settlement(usage=None))
    (server,) = traced.finished().values()
    assert server.parent is None and server.start_time <= server.end_time
    assert server.attributes.keys().isdisjoint({"insource.tier", "insource.sensitivity", "gen_ai.usage.input_tokens"})


def test_a_request_refused_before_its_decision_says_why(traced):
    token = traced.spans.begin(request())
    traced.spans.end(token, error=Overloaded("busy"))
    traced.spans.end(token, decision(), settlement())
    assert traced.spans.headers(token) == {}
    (server,) = traced.finished().values()
    assert server.attributes["error.type"] == "overloaded"
    assert server.attributes["http.response.status_code"] == 429
    assert server.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize(("dialect", "name", "provider"), [
    ("chat", "chat m", "openai"), ("responses", "chat m", "openai"), ("messages", "chat m", "anthropic"),
    ("completions", "text_completion m", "openai"), ("embeddings", "embeddings m", "openai"),
    ("moderations", "moderation m", "openai"), ("other", "pass_through m", "openai"),
])  # fmt: skip
def test_each_dialect_has_its_name(traced, dialect, name, provider):
    whole(traced, dialect=dialect, model="m")
    assert traced.finished()[SpanKind.SERVER].name == name
    assert traced.finished()[SpanKind.CLIENT].attributes["gen_ai.provider.name"] == provider


def test_a_model_without_end_is_cut_and_no_model_is_none(traced):
    whole(traced, model="m" * 10_000)
    assert len(traced.finished()[SpanKind.SERVER].name) == len("chat ") + 128
    assert len(traced.finished()[SpanKind.SERVER].attributes["gen_ai.request.model"]) == 128
    whole(traced, model="")
    assert traced.finished()[SpanKind.SERVER].name == "chat"
    assert "gen_ai.request.model" not in traced.finished()[SpanKind.SERVER].attributes


@pytest.mark.parametrize(
    "broken", ["", "00-xyz", "ff-" + TRACE, PARENT + "\n", "00-" + "0" * 32 + "-b7ad6b7169203331-01"]
)
def test_a_broken_traceparent_starts_a_trace_of_our_own(traced, broken):
    headers = whole(traced, headers={"traceparent": broken})
    server = traced.finished()[SpanKind.SERVER]
    if server.parent is not None:  # white space around a good one is forgiven
        assert broken.strip() == PARENT
    assert headers["traceparent"].startswith(f"00-{server.context.trace_id:032x}-")


def test_a_client_that_does_not_sample_is_not_recorded_but_passed_on(traced):
    headers = whole(traced, headers={"traceparent": PARENT.removesuffix("01") + "00", "tracestate": "a=b"})
    assert traced.finished() == {}
    assert headers["traceparent"].startswith(f"00-{TRACE}-") and headers["traceparent"].endswith("-00")
    assert headers["tracestate"] == "a=b"


def test_off_costs_nothing_and_says_nothing():
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    for environment in ({}, {"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, endpoint | {"OTEL_SDK_DISABLED": "true"}):
        assert open_spans(environment) is NO_SPANS
    token = NO_SPANS.begin(request(), 0.0)
    assert token is None and NO_SPANS.headers(token) == {}
    NO_SPANS.end(token, decision(), settlement())
    NO_SPANS.close()


def test_another_protocol_is_refused():
    with pytest.raises(ConfigError, match="is 'grpc'; spans are sent as http/protobuf only"):
        open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


def child(code, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env = {**kept, "PYTHONPATH": str(Path(insource.__file__).parents[1]), **environment}
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


MISSING = """
import sys
sys.modules["opentelemetry.sdk"] = None
from insource.gateway.spans import open_spans
print(open_spans({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}))
"""


def test_a_missing_extra_prints_the_command():
    done = child(MISSING)
    assert done.returncode == 1
    assert "MissingExtra" in done.stderr and "Run: pip install 'insource[telemetry]'" in done.stderr


@pytest.mark.parametrize(("endpoint", "loaded"), [("", "False"), ("http://127.0.0.1:9", "True")])
def test_nothing_is_imported_unless_asked_for(endpoint, loaded):
    code = (
        "import sys; from insource.gateway.spans import open_spans;"
        f"open_spans({{'OTEL_EXPORTER_OTLP_ENDPOINT': {endpoint!r}}});"
        "print(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert child(code).stdout.strip() == loaded


def test_closing_does_not_wait_for_a_collector_that_does_not_answer(monkeypatch):
    monkeypatch.setattr("insource.gateway.spans.CLOSE_SECONDS", 0.05)
    held = []

    class Stuck(SpanProcessor):
        def shutdown(self):
            held.append(gate.wait())

    gate = threading.Event()
    Traced(Stuck()).close()
    assert held == []
    gate.set()


SENDER = """
from insource.gateway.spans import open_spans
from insource.types import Message, Request
spans = open_spans()
spans.end(spans.begin(Request("r-1", (Message("user", "canary-7f3a"),), "gpt-4o", body=b"canary-7f3a")))
spans.close()
"""


class Collector(http.server.BaseHTTPRequestHandler):
    """Keeps what it is sent."""

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["content-length"]))
        sent = gzip.decompress(sent) if self.headers.get("content-encoding") == "gzip" else sent
        self.server.sent.append((self.path, sent))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


def test_a_collector_gets_them_over_http():
    collector = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    collector.sent = []
    thread = threading.Thread(target=collector.serve_forever, args=(0.01,))
    thread.start()
    try:
        done = child(SENDER, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{collector.server_address[1]}")
    finally:
        collector.shutdown()
        thread.join()
        collector.server_close()
    assert done.returncode == 0 and done.stderr == ""
    ((path, sent),) = collector.sent
    assert path == "/v1/traces" and b"chat gpt-4o" in sent and b"insource" in sent
    assert CANARY.encode() not in sent


def constants(module):
    return {value for name, value in vars(module).items() if name.isupper() and isinstance(value, str)}


def test_the_names_are_those_of_the_conventions():
    ours = {name.opentelemetry for name in NAMES.values() if name.opentelemetry}
    theirs = {name for name in ours if name.startswith("gen_ai.")}
    assert len(theirs) >= 9
    assert theirs <= constants(gen_ai_attributes) | constants(gen_ai_metrics)
    assert all(name.startswith(("gen_ai.", "insource.", "http.response.status_code", "error.type")) for name in ours)
    known = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert set(OPERATIONS.values()) - known == {"moderation"}


def test_names_stand_in_the_table_only():
    """Nothing else spells one out, so that a change of the conventions is one of the table."""
    text = inspect.getsource(spans)
    assert "gen_ai." not in text and '"insource.' not in text
    assert "gen_ai." in inspect.getsource(names)
    with pytest.raises(KeyError):
        attribute("duration")
