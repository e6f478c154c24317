"""OpenTelemetry spans, where they are asked for: one for each request, and one below it for the upstream's part.

It knows attributes, never content: nothing it writes is taken from a message, a reply or an exception's text.
OpenTelemetry is imported when OTEL_EXPORTER_OTLP_ENDPOINT asks for it, and not before.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from insource import __version__
from insource.errors import ConfigError, InsourceError, MissingExtra
from insource.gateway.names import OPERATIONS, PASS_THROUGH, PROVIDERS, attribute
from insource.types import Decision, Request, Settlement

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
CLOSE_SECONDS = 2.0
_LONGEST = 128
_NOTHING: Mapping[str, str] = {}


@dataclass(slots=True)
class Token:
    """One request's spans while they are open; `upstream` is None until the request goes up."""

    request: Request
    server: Span
    upstream: Span | None = None
    ended: bool = False


class Spans(Protocol):
    """What the gateway tells of a request: that it began, that it goes up, and how it ended. Every token is ended."""

    def begin(self, request: Request, started: float | None = None) -> Token | None:
        """Open a request's span; `started` is the perf_counter at its receipt. None where spans are off."""
        ...

    def headers(self, token: Token | None) -> Mapping[str, str]:
        """Open the span of the upstream's part and return the headers to send up in place of the client's."""
        ...

    def end(
        self,
        token: Token | None,
        decision: Decision | None = None,
        settlement: Settlement | None = None,
        *,
        model: str | None = None,
        attempts: int | None = None,
        error: InsourceError | None = None,
    ) -> None:
        """Close what is open; `model` is the one that the upstream's reply named. A second call does nothing."""
        ...

    def close(self) -> None:
        """Send what is left, for at most CLOSE_SECONDS."""
        ...


class _Off:
    def begin(self, request: Request, started: float | None = None) -> Token | None:
        return None

    def headers(self, token: Token | None) -> Mapping[str, str]:
        return _NOTHING

    def end(
        self,
        token: Token | None,
        decision: Decision | None = None,
        settlement: Settlement | None = None,
        *,
        model: str | None = None,
        attempts: int | None = None,
        error: InsourceError | None = None,
    ) -> None:
        return None

    def close(self) -> None:
        return None


NO_SPANS: Spans = _Off()


def open_spans(environment: Mapping[str, str] = os.environ) -> Spans:
    """Return spans that go to the OTLP endpoint which the standard OTEL_... variables name; NO_SPANS without one.

    Raises MissingExtra where the packages are not installed, ConfigError for a protocol other than http/protobuf.
    """
    asked = any(environment.get(name) for name in ENDPOINTS)
    if not asked or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return NO_SPANS
    protocol = next((environment[name] for name in PROTOCOLS if environment.get(name)), "http/protobuf")
    if protocol != "http/protobuf":
        raise ConfigError(
            f"OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}; spans are sent as http/protobuf only. Unset it, and name "
            "the collector's HTTP port (usually 4318) in OTEL_EXPORTER_OTLP_ENDPOINT."
        )
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtra(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for spans, and the OpenTelemetry packages are not installed; they were "
            "expected beside insource. Run: pip install 'insource[telemetry]'"
        ) from error
    return Traced(BatchSpanProcessor(OTLPSpanExporter()), environment)


class Traced:
    """Spans that are handed to a processor of the OpenTelemetry SDK; samplers and limits are its standard ones."""

    def __init__(self, processor: SpanProcessor, environment: Mapping[str, str] = _NOTHING) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        named = "OTEL_SERVICE_NAME" in environment or "service.name=" in environment.get("OTEL_RESOURCE_ATTRIBUTES", "")
        told = {"service.version": __version__} | ({} if named else {"service.name": "insource"})
        self._provider = TracerProvider(resource=Resource.create(told), shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("insource", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, request: Request, started: float | None = None) -> Token | None:
        """Open the request's span, below the client's where its traceparent names one."""
        from opentelemetry.trace import SpanKind

        attributes = _asked(request) | {
            attribute("provider"): "insource",
            attribute("request_id"): request.id,
            attribute("stream"): request.stream,
        }
        server = self._tracer.start_span(
            _title(request),
            context=self._propagator.extract(dict(request.headers)),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=None if started is None else time.time_ns() - int((time.perf_counter() - started) * 1e9),
        )
        return Token(request, server)

    def headers(self, token: Token | None) -> Mapping[str, str]:
        """Return traceparent (and the client's tracestate): the upstream's spans belong below ours."""
        from opentelemetry.trace import SpanKind, set_span_in_context

        if token is None or token.ended:
            return _NOTHING
        if token.upstream is None:
            request = token.request
            token.upstream = self._tracer.start_span(
                _title(request),
                context=set_span_in_context(token.server),
                kind=SpanKind.CLIENT,
                attributes=_asked(request) | {attribute("provider"): PROVIDERS.get(request.dialect, "openai")},
            )
        carried: dict[str, str] = {}
        self._propagator.inject(carried, context=set_span_in_context(token.upstream))
        return carried

    def end(
        self,
        token: Token | None,
        decision: Decision | None = None,
        settlement: Settlement | None = None,
        *,
        model: str | None = None,
        attempts: int | None = None,
        error: InsourceError | None = None,
    ) -> None:
        """Write down what was decided and what became of it, and close."""
        if token is None or token.ended:
            return
        token.ended = True
        replied = _replied(settlement, model)
        if token.upstream is not None:
            _close(token.upstream, replied | _known(attempts=attempts), settlement, error)
        _close(token.server, _decided(decision) | replied, settlement, error)

    def close(self) -> None:
        """Send what is left; a collector that does not answer holds nothing up for longer than CLOSE_SECONDS."""
        sending = threading.Thread(target=self._provider.shutdown, name="insource-spans", daemon=True)
        sending.start()
        sending.join(CLOSE_SECONDS)


def _title(request: Request) -> str:
    """Return "chat gpt-4o", as the convention wants it: the operation, and the model where there is one."""
    operation = OPERATIONS.get(request.dialect, PASS_THROUGH)
    return f"{operation} {request.model[:_LONGEST]}" if request.model else operation


def _asked(request: Request) -> dict[str, Any]:
    model = request.model[:_LONGEST] or None
    return _known(operation=OPERATIONS.get(request.dialect, PASS_THROUGH), request_model=model)


def _decided(decision: Decision | None) -> dict[str, Any]:
    if decision is None:
        return {}
    return _known(
        task=decision.task,
        outcome=decision.outcome.value,
        reason=decision.reason.value,
        score=decision.score,
        threshold=decision.threshold,
        tier=decision.tier,
        version=decision.version,
        audited=decision.audited,
        sensitivity=decision.sensitivity.value if decision.sensitivity else None,
    )


def _replied(settlement: Settlement | None, model: str | None) -> dict[str, Any]:
    if settlement is None:
        return {}
    usage = settlement.usage
    return _known(
        status=settlement.status,
        served_by=settlement.served_by,
        response_model=model[:_LONGEST] if model else None,
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
    )


def _known(**quantities: Any) -> dict[str, Any]:
    return {attribute(name): value for name, value in quantities.items() if value is not None}


def _close(span: Span, attributes: dict[str, Any], settlement: Settlement | None, error: InsourceError | None) -> None:
    """Set the attributes and end a span; what failed is told by its code or status, never by a message."""
    from opentelemetry.trace import Status, StatusCode

    status = error.status if error is not None else settlement.status if settlement is not None else 0
    failed = error.code if error is not None else str(status) if status >= 400 else None
    span.set_attributes(attributes | _known(error=failed, status=status or None))
    if status >= 500:
        span.set_status(Status(StatusCode.ERROR))
    span.end()
