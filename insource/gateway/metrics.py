"""The gateway's metrics, on a registry of their own: counted in plain numbers, handed to Prometheus when it asks.

It counts; it knows no request. What quantities are called elsewhere stands in `names`.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
MOST_CHILDREN = 1_000
OTHER = "other"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True)
class Named:
    """One metric: its kind, what it says, its labels, and of several workers' gauges what is told of them all.

    `across` is a mode of prometheus_client: "livesum" adds up the living, "sum" the dead, too; "livemax" takes the
    worst; "livemostrecent" the newest.
    """

    kind: type[Counter] | type[Gauge] | type[Histogram]
    says: str
    labels: tuple[str, ...] = ()
    across: str = "livesum"
    buckets: tuple[float, ...] = _SECONDS


TABLE: dict[str, Named] = {
    "insource_requests_total": Named(Counter, "Settled requests.", ("task", "outcome", "reason", "status")),
    "insource_request_seconds": Named(Histogram, "From receipt to the last byte, in seconds.", ("task", "outcome")),
    "insource_first_byte_seconds": Named(
        Histogram, "Of requests that went up: from receipt to the reply's first byte, in seconds.", ("upstream",)
    ),
    "insource_refused_total": Named(Counter, "Requests refused before a decision.", ("code",)),
    "insource_kept_total": Named(
        Counter, "Requests kept here, by what became of them: refuse, best or review.", ("task", "how")
    ),
    "insource_in_flight": Named(Gauge, "Requests being served now."),
    "insource_audits_total": Named(Counter, "Audited requests with a specialist's answer.", ("task", "agrees")),
    "insource_upstream_tokens_total": Named(Counter, "Tokens the upstream counted.", ("upstream", "kind")),
    "insource_upstream_cost_total": Named(Counter, "Money spent upstream, where prices are known.", ("currency",)),
    "insource_upstream_attempts_total": Named(Counter, "Times an upstream was asked.", ("upstream",)),
    "insource_upstream_failures_total": Named(
        Counter, "Times it failed, by the error's code or the status.", ("upstream", "code")
    ),
    "insource_upstream_retries_total": Named(Counter, "Attempts after the first one of a request.", ("upstream",)),
    "insource_upstream_breaker_open": Named(
        Gauge, "0 while the upstream is asked, 1 while its circuit breaker rests it or tries it.", ("upstream",),
        "livemax",
    ),
    "insource_ledger_failures_total": Named(Counter, "Requests refused as they could not be recorded.", ("code",)),
    "insource_ledger_lost_rows": Named(
        Gauge, "Settlements, audits and acts that could not be written.", across="sum"
    ),
    "insource_ledger_waiting": Named(Gauge, "Rows handed to the ledger and not yet durable."),
    "insource_reviews_waiting": Named(Gauge, "Kept requests that wait for a person.", across="livemostrecent"),
    "insource_artifacts_refused_total": Named(Counter, "Versions whose artifact could not be opened.", ("task",)),
    "insource_active_version": Named(
        Gauge, "The version that serves; 0 for none.", ("task",), across="livemostrecent"
    ),
    "insource_versions_opened_total": Named(Counter, "Versions that were verified and loaded.", ("task",)),
    "insource_trial_version": Named(
        Gauge, "The version in shadow or canary; 0 for none.", ("task",), across="livemostrecent"
    ),
    "insource_canary_share": Named(
        Gauge, "The share of requests that the version in canary decides.", ("task",), across="livemostrecent"
    ),
    "insource_task_suspended": Named(
        Gauge, "1 while nothing of the task is accepted, 0 else.", ("task",), across="livemostrecent"
    ),
    "insource_task_doubted": Named(
        Gauge, "1 while every request of the task is audited, as something drifted, 0 else.", ("task",),
        across="livemostrecent",
    ),
    "insource_shadow_audits_total": Named(
        Counter, "Audits of versions beside the one that decided the request.", ("task", "agrees")
    ),
    "insource_shadow_dropped_total": Named(
        Counter, "Such audits left out, as too many waited or the version did not come back.", ("task",)
    ),
    "insource_feedback_total": Named(Counter, "Answers that people gave to requests, over HTTP.", ("task",)),
    "insource_workers": Named(Gauge, "Processes that serve."),
    "insource_config_info": Named(Gauge, "Workers that serve under the configuration of this digest.", ("digest",)),
    "insource_config_loaded_seconds": Named(
        Gauge, "When the configuration was last taken over, in seconds since 1970.", across="livemax"
    ),
    "insource_config_reloads_total": Named(Counter, "Reloads, by result: loaded or refused.", ("result",)),
}  # fmt: skip


class _Cell:
    """What one labelled metric gained since it was last handed over; `child` is Prometheus's own."""

    __slots__ = ("bounds", "child", "counts", "pending", "touched")

    def __init__(self, child: Any, bounds: tuple[float, ...]) -> None:
        self.child = child
        self.pending = 0.0
        self.touched = False
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)

    def hand_over(self) -> None:
        if isinstance(self.child, Gauge):
            if self.touched:
                self.touched = False
                self.child.set(self.pending)
            return
        if isinstance(self.child, Counter):
            gained, self.pending = self.pending, 0.0
            if gained:
                self.child.inc(gained)
            return
        for number, count in enumerate(self.counts):  # `observe` takes one at a time and three locks each
            if count:
                self.child._buckets[number].inc(count)
                self.counts[number] = 0
        gained, self.pending = self.pending, 0.0
        if gained:
            self.child._sum.inc(gained)


class Metrics:
    """All metrics of one gateway; to be used on the event loop's thread only.

    `add`, `set` and `observe` touch a plain number each; `flush` hands these to Prometheus. A metric takes at most
    `most` sets of labels, what comes after is counted under "other": no caller can fill the memory.

    Where PROMETHEUS_MULTIPROC_DIR was set before prometheus_client was first imported, workers share a folder: then
    `flush` must be called every second or so, and `text` tells the figures of them all.
    """

    def __init__(self, *, most: int = MOST_CHILDREN) -> None:
        self.registry = CollectorRegistry()
        self._most = most
        self._all = {name: _made(name, named, self.registry) for name, named in TABLE.items()}
        self._cells: dict[tuple[str, ...], _Cell] = {}
        self._children: dict[str, dict[tuple[str, ...], _Cell]] = {name: {} for name in TABLE}
        self.set("insource_workers", 1)

    def add(self, name: str, amount: float = 1, /, **labels: str) -> None:
        """Add to a counter."""
        cell = self._cells.get((name, *labels, *labels.values())) or self._admit(name, labels)
        cell.pending += amount

    def set(self, name: str, value: float, /, **labels: str) -> None:
        """Set a gauge."""
        cell = self._cells.get((name, *labels, *labels.values())) or self._admit(name, labels)
        cell.pending = value
        cell.touched = True

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Add an observation to a histogram."""
        cell = self._cells.get((name, *labels, *labels.values())) or self._admit(name, labels)
        cell.counts[bisect_left(cell.bounds, value)] += 1
        cell.pending += value

    def value(self, name: str, /, **labels: str) -> float:
        """Return a counter's or gauge's value in this process, 0 where it was never touched."""
        self.flush()
        return self.registry.get_sample_value(name, labels) or 0.0

    def flush(self) -> None:
        """Hand everything to Prometheus; cheap, and needed by itself only where workers share a folder."""
        for cells in self._children.values():
            for cell in cells.values():
                cell.hand_over()

    def text(self) -> bytes:
        """Return all in Prometheus's text format: of all workers where they share a folder, else of this process."""
        self.flush()
        folder = os.environ.get(SHARED_FOLDER)
        if folder is None:
            return generate_latest(self.registry)
        from prometheus_client.multiprocess import MultiProcessCollector

        shared = CollectorRegistry()
        MultiProcessCollector(shared, path=folder)  # type: ignore[no-untyped-call]
        return generate_latest(shared)

    def _admit(self, name: str, labels: dict[str, str]) -> _Cell:
        """Return the cell of labels seen for the first time; ValueError for labels that the table does not have."""
        named, known = TABLE[name], self._children[name]
        if set(labels) != set(named.labels):
            raise ValueError(f"{name} has the labels {named.labels}, not {tuple(labels)}")
        values = tuple(str(labels[label]) for label in named.labels)
        full = values not in known and len(known) >= self._most
        if full:
            values = tuple(OTHER for _ in values)
        if values not in known:
            metric = self._all[name]
            bounds = named.buckets if named.kind is Histogram else ()
            known[values] = _Cell(metric.labels(*values) if values else metric, bounds)
        if not full:
            self._cells[(name, *labels, *labels.values())] = known[values]
        return known[values]


def worker_died(pid: int) -> None:
    """Take a worker's gauges out of the shared folder, where there is one; call it once the process has ended."""
    folder = os.environ.get(SHARED_FOLDER)
    if folder is not None:
        from prometheus_client.multiprocess import mark_process_dead

        mark_process_dead(pid, folder)  # type: ignore[no-untyped-call]


def read_text(text: str) -> Mapping[str, list[tuple[Mapping[str, str], float]]]:
    """Return the samples of a page of metrics by name, each with its labels; ValueError where it is no such page."""
    from prometheus_client.parser import text_string_to_metric_families

    found: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _made(name: str, named: Named, registry: CollectorRegistry) -> Any:
    more: dict[str, Any] = {}
    if named.kind is Histogram:
        more["buckets"] = named.buckets
    elif named.kind is Gauge:
        more["multiprocess_mode"] = named.across
    return named.kind(name, named.says, named.labels, registry=registry, **more)
