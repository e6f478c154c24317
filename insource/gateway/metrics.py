"""The gateway's metrics, their names in one table, on a registry of their own.

It counts; it reads nothing back and knows no request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Named:
    """One metric: its kind, what it says, and its labels."""

    kind: type[Counter] | type[Gauge] | type[Histogram]
    says: str
    labels: tuple[str, ...] = ()


TABLE: dict[str, Named] = {
    "insource_requests_total": Named(Counter, "Settled requests.", ("task", "outcome", "reason", "status")),
    "insource_request_seconds": Named(Histogram, "From receipt to the last byte, in seconds.", ("task", "outcome")),
    "insource_refused_total": Named(Counter, "Requests refused before a decision.", ("code",)),
    "insource_in_flight": Named(Gauge, "Requests being served now."),
    "insource_audits_total": Named(Counter, "Audited requests with a specialist's answer.", ("task", "agrees")),
    "insource_upstream_tokens_total": Named(Counter, "Tokens the upstream counted.", ("upstream", "kind")),
    "insource_upstream_cost_total": Named(Counter, "Money spent upstream, where prices are known.", ("currency",)),
    "insource_ledger_failures_total": Named(Counter, "Requests refused as they could not be recorded.", ("code",)),
    "insource_ledger_lost_rows": Named(Gauge, "Settlements, audits and acts that could not be written."),
    "insource_artifacts_refused_total": Named(Counter, "Versions whose artifact could not be opened.", ("task",)),
    "insource_active_version": Named(Gauge, "The version that serves; 0 for none.", ("task",)),
}


class Metrics:
    """All metrics of one gateway."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._all: dict[str, Any] = {}
        for name, named in TABLE.items():
            more: dict[str, Any] = {"buckets": _SECONDS} if named.kind is Histogram else {}
            self._all[name] = named.kind(name, named.says, named.labels, registry=self.registry, **more)

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        self._labelled(name, labels).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._labelled(name, labels).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add an observation to a histogram."""
        self._labelled(name, labels).observe(value)

    def value(self, name: str, **labels: str) -> float:
        """Return a counter's or gauge's value, 0 where it was never touched; for tests and status."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def text(self) -> bytes:
        """Return all in Prometheus's text format."""
        return generate_latest(self.registry)

    def _labelled(self, name: str, labels: dict[str, str]) -> Any:
        metric = self._all[name]
        return metric.labels(**labels) if labels else metric
