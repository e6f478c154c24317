import json

import anthropic
import pytest
from anthropic.types import ErrorResponse

from insource.errors import (
    Forbidden,
    InsourceError,
    KeptLocal,
    Overloaded,
    RequestError,
    RequestTooLarge,
    StoreFull,
    UnknownTask,
    UpstreamResting,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from insource.gateway.wire import broken_off, envelope


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("Odd."), "invalid_request_error"),
        (Overloaded("x"), "insource_error"),
        (StoreFull("x"), "insource_error"),
    ],
)
def test_errors_come_in_openais_envelope(error: InsourceError, kind):
    told = json.loads(envelope(error))["error"]
    assert told == {"message": f"{error} {error.hint}", "type": kind, "param": None, "code": error.code}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RequestError("Odd."), "invalid_request_error"),
        (Forbidden("x"), "permission_error"),
        (KeptLocal("x"), "permission_error"),
        (UnknownTask("x"), "not_found_error"),
        (RequestTooLarge("x"), "request_too_large"),
        (Overloaded("x"), "rate_limit_error"),
        (UpstreamUnreachable("x"), "api_error"),
        (UpstreamResting("x"), "overloaded_error"),
        (UpstreamTimeout("x"), "timeout_error"),
        (StoreFull("x"), "api_error"),
    ],
)
def test_errors_come_in_anthropics_envelope(error: InsourceError, kind):
    told = json.loads(envelope(error, "messages", request_id="abc"))
    message = f"{error} {error.hint}"
    assert told == {
        "type": "error",
        "error": {"type": kind, "message": message, "code": error.code},
        "request_id": "abc",
    }
    if kind != "request_too_large":  # the API sends it; the client's types do not list it
        assert ErrorResponse.model_validate(told).error.message == message


def test_the_status_that_is_sent_names_the_kind():
    error = InsourceError("x")
    assert json.loads(envelope(error, "messages", status=503))["error"]["type"] == "overloaded_error"
    assert json.loads(envelope(error, "messages"))["error"]["type"] == "api_error"


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "messages", "other"])
def test_a_broken_stream_ends_with_an_event_that_says_why(dialect):
    blank, event = (
        broken_off(UpstreamTimeout("Silence."), dialect)[:2],
        broken_off(UpstreamTimeout("Silence."), dialect),
    )
    assert blank == b"\n\n" and event.endswith(b"\n\n")
    lines = event.strip().split(b"\n")
    assert (lines[0] == b"event: error") is (dialect in ("messages", "responses"))
    told = json.loads(lines[-1].removeprefix(b"data: "))
    assert "Silence." in (told if dialect == "responses" else told["error"])["message"]


def test_anthropics_names_are_those_of_its_client():
    assert anthropic.types.ErrorObject is not None
