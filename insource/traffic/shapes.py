"""The shapes of a traffic line, one small pure function each, in one table; nothing else knows them.

A shape takes the decoded line apart; `reading` checks the parts. It knows no file, no line number and no answer space.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from insource.traffic.fields import BadShape, kind_of, object_of, paired, reply_of, unpacked, usage_of
from insource.traffic.wire import ASKED_FORMATS, conversation_of
from insource.types import SUBJECT_FIELDS, SUBJECT_HEADER

Line = Mapping[str, Any]

_KNOWN = "a line with 'text' or 'messages', a request/response pair, an evals sample, a LiteLLM or a Langfuse export"


class Parts(NamedTuple):
    """What a line holds, still as decoded: texts may be any JSON value."""

    messages: Any
    answer: Any = None
    gold: Any = None
    task: Any = None
    time: Any = None
    group: Any = None
    model: Any = None
    fields: Mapping[str, Any] = {}
    usage: Any = None
    headers: Any = None


class Shape(NamedTuple):
    """One shape: its name, how to tell it, and how to take it apart."""

    name: str
    fits: Callable[[Line], bool]
    parts: Callable[[Line], Parts]


def own(line: Line) -> Parts:
    """`{"text" | "messages", "answer" | "label", "gold", "task", "time", "group", "subject"}`; of other keys only the
    model, the headers, `system` and the format asked for are read, as they stand in a request's body. A "context"
    beside "text" follows it on a line of its own. A "subject" is whom the text is about, as in the header.

    Without an answer, messages that end with the assistant's (as in files for tuning) hold the answer there.
    """
    messages = line["text"] if line.get("text") is not None else conversation_of(line)
    answer = line["answer"] if line.get("answer") is not None else line.get("label")
    if answer is None and isinstance(messages, list) and len(messages) > 1:
        last = messages[-1]
        if isinstance(last, dict) and last.get("role") == "assistant":
            messages, answer = messages[:-1], reply_of({"choices": [{"message": last}]})
    if line.get("text") is not None and not isinstance(messages, str):
        raise BadShape(f"'text' is {kind_of(messages)}; text was expected")
    if isinstance(messages, str) and line.get("text") is not None and line.get("context"):
        messages = paired(messages, line["context"])
    fields = {key: line[key] for key in (*ASKED_FORMATS, *SUBJECT_FIELDS) if key in line}
    headers = line.get("headers")
    if (subject := line.get("subject")) is not None:
        if not isinstance(subject, str):
            raise BadShape(f"'subject' is {kind_of(subject)}; text was expected")
        headers = {**(headers if isinstance(headers, dict) else {}), SUBJECT_HEADER: subject}
    return Parts(messages, answer, line.get("gold"), line.get("task"), line.get("time"), line.get("group"),
                 line.get("model"), fields, headers=headers)  # fmt: skip


def pair(line: Line) -> Parts:
    """`{"request": {...}, "response": {...}}` of chat completions, responses or messages, each perhaps in a "body" as
    in batches, the request's headers beside it.
    """
    outer = request = object_of(line.get("request") or line, "request")
    if "body" in request and "messages" not in request and "input" not in request:
        request = object_of(request["body"], "body")
    headers = outer.get("headers") or line.get("headers")
    response = line.get("response")
    body = response.get("body") if isinstance(response, dict) and "choices" not in response else response
    body = body if body is not None else response
    time = next((line[key] for key in ("time", "timestamp", "created_at") if line.get(key) is not None), None)
    if time is None and isinstance(body, dict):
        time = body.get("created")
    fields = {key: value for key, value in request.items() if key not in ("messages", "model", "headers")}
    return Parts(conversation_of(request), reply_of(body), line.get("gold"), line.get("task"), time, line.get("group"),
                 request.get("model"), fields, usage_of(body), headers)  # fmt: skip


def responses_body(line: Line) -> Parts:
    """`{"model", "instructions", "input", "text", ...}`, the body of a request to /v1/responses, perhaps with an
    "answer" and insource's other keys.
    """
    beside = {key: line[key] for key in ("gold", "task", "time", "group", "headers") if key in line}
    request = {key: value for key, value in line.items() if key not in ("answer", "response", *beside)}
    return pair({**beside, "request": request, "response": line.get("answer", line.get("response"))})


def evals_sample(line: Line) -> Parts:
    """`{"input": [messages] | text, "ideal": text | [texts]}` of OpenAI evals; the first ideal is answer and gold."""
    ideal = line["ideal"]
    if isinstance(ideal, list):
        ideal = ideal[0] if ideal else None
    return Parts(line["input"], ideal, ideal, line.get("task"), line.get("time"), line.get("group"))


def litellm(line: Line) -> Parts:
    """LiteLLM's StandardLoggingPayload (docs.litellm.ai, proxy/logging_spec); a failed call has no answer."""
    settings = line.get("model_parameters")
    fields = (
        {k: v for k, v in settings.items() if v is not None and v not in ({}, "")} if isinstance(settings, dict) else {}
    )
    return Parts(line["messages"], reply_of(line["response"]), line.get("gold"), line.get("task"),
                 line.get("startTime"), line.get("trace_id"), line.get("model_group") or line.get("model"), fields,
                 usage_of(line["response"]) or usage_of(line))  # fmt: skip


def langfuse(line: Line) -> Parts:
    """Langfuse's observations and traces, as its screens (camelCase) and its blob export (snake_case) write them."""
    given, wanted = unpacked(line["input"]), unpacked(line.get("output"))
    messages = given.get("messages") if isinstance(given, dict) else given
    group = line.get("sessionId") or line.get("session_id") or line.get("traceId") or line.get("trace_id")
    time = line.get("startTime") or line.get("start_time") or line.get("timestamp")
    usage = line.get("usage") or line.get("usageDetails") or line.get("usage_details")
    model = line.get("model") or line.get("providedModelName") or line.get("provided_model_name")
    return Parts(messages, reply_of(wanted), line.get("gold"), line.get("task"), time, group, model, {},
                 usage_of({"usage": usage}))  # fmt: skip


_NEEDED = {"messages", "input"}

SHAPES: tuple[Shape, ...] = (
    Shape("request/response pair", lambda line: isinstance(line.get("request"), dict), pair),
    Shape("responses", lambda line: "input" in line and (isinstance(line.get("text"), dict) or "instructions" in line),
          responses_body),
    Shape("text", lambda line: line.get("text") is not None, own),
    Shape("evals sample", lambda line: "input" in line and "ideal" in line, evals_sample),
    Shape("LiteLLM", lambda line: "messages" in line and "response" in line and "answer" not in line, litellm),
    Shape("messages", lambda line: line.get("messages") is not None, own),
    Shape("batch", lambda line: isinstance(line.get("body"), dict) and not _NEEDED.isdisjoint(line["body"]), pair),
    Shape("Langfuse", lambda line: line.get("input") is not None, langfuse),
)  # fmt: skip


def parts_of(line: Line) -> Parts:
    """Take a decoded line apart by the first shape that fits; raise BadShape where none does."""
    for shape in SHAPES:
        if shape.fits(line):
            return shape.parts(line)
    if "text" in line or "messages" in line:
        raise BadShape("no text: 'text' or 'messages' is null")
    keys = ", ".join(repr(key[:40]) for key in list(line)[:6]) or "no keys"
    raise BadShape(f"no known shape (it has {keys}); {_KNOWN} was expected")
