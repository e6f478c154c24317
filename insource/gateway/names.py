"""The one table of telemetry names: what each quantity is called in Prometheus and in OpenTelemetry.

It holds names and no values. OpenTelemetry's are those of its GenAI conventions (open-telemetry/semantic-conventions-
genai), and insource.* where these have none; as they still change, nothing else spells them out.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Name:
    """One quantity: a Prometheus metric (`insource_...`) or label, and an OpenTelemetry attribute or metric.

    None where a quantity is not told in that place. `attribute` says whether spans carry the OpenTelemetry name.
    """

    prometheus: str | None
    opentelemetry: str | None
    says: str
    attribute: bool = True


NAMES: dict[str, Name] = {
    "operation": Name(None, "gen_ai.operation.name", "chat, text_completion, embeddings, moderation or pass_through."),
    "provider": Name(None, "gen_ai.provider.name", "insource on its own span; on the upstream's, whose API it speaks."),
    "request_model": Name(None, "gen_ai.request.model", "The model that the request named."),
    "response_model": Name(None, "gen_ai.response.model", "The model that the upstream's reply named."),
    "input_tokens": Name("insource_upstream_tokens_total", "gen_ai.usage.input_tokens", "Tokens of the request."),
    "output_tokens": Name("insource_upstream_tokens_total", "gen_ai.usage.output_tokens", "Tokens of the reply."),
    "stream": Name(None, "gen_ai.request.stream", "Whether the reply was asked for as a stream."),
    "status": Name("status", "http.response.status_code", "The status on the wire."),
    "error": Name("code", "error.type", "The error's code, or the status, where the request failed."),
    "request_id": Name(None, "insource.request_id", "The id in x-insource-request-id."),
    "task": Name("task", "insource.task", "The task that the request belongs to."),
    "outcome": Name("outcome", "insource.outcome", "accepted, escalated or kept."),
    "reason": Name("reason", "insource.reason", "Why it had that outcome."),
    "score": Name(None, "insource.score", "The specialist's score."),
    "threshold": Name(None, "insource.threshold", "The score at which it accepts."),
    "tier": Name(None, "insource.tier", "The upstream in the house that was asked last."),
    "version": Name("insource_active_version", "insource.version", "The specialist's version."),
    "sensitivity": Name(None, "insource.sensitivity", "How far the text was allowed to travel."),
    "audited": Name(None, "insource.audited", "Whether the audit coin picked the request."),
    "served_by": Name("upstream", "insource.served_by", "The version or upstream that answered."),
    "attempts": Name("insource_upstream_attempts_total", "insource.attempts", "How often upstreams were asked."),
    "duration": Name(
        "insource_request_seconds", "gen_ai.server.request.duration", "From receipt to the last byte.", False
    ),
    "first_byte": Name(
        "insource_first_byte_seconds",
        "gen_ai.server.time_to_first_token",
        "From receipt to the reply's first byte.",
        False,
    ),
}
OPERATIONS = {
    "chat": "chat",
    "responses": "chat",
    "messages": "chat",
    "completions": "text_completion",
    "embeddings": "embeddings",
    "moderations": "moderation",
}
"""The convention's name for what each dialect asks; "moderation" and "pass_through" are our own."""

PASS_THROUGH = "pass_through"
PROVIDERS = {"messages": "anthropic"}
"""Whose API a dialect is; the others are "openai"."""


def attribute(quantity: str) -> str:
    """Return the name of a quantity's span attribute; KeyError for one that spans do not carry."""
    name = NAMES[quantity]
    if name.opentelemetry is None or not name.attribute:
        raise KeyError(quantity)
    return name.opentelemetry
