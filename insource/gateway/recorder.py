"""What the gateway writes down: decisions before the reply, settlements after it, audits when they are known.

It turns an exchange into the ledger's rows and the metrics' counts; it takes no decision and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from time import perf_counter

from insource.backends.reply import Reply
from insource.cascade.audit_sample import Finding
from insource.cascade.choice import Choice
from insource.config import UpstreamConfig
from insource.errors import StoreError
from insource.gateway.metrics import Metrics
from insource.gateway.money import MeanCost, cost_of
from insource.inputs import text_of
from insource.store.ledger import Ledger
from insource.types import Content, Outcome, Request, Settlement, Task

Energy = Callable[[str, float], float | None]
"""Takes what served and for how many seconds; returns joules, or None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One decided request: what it belongs to, what was chosen, and when (perf_counter) it arrived."""

    request: Request
    task: Task | None
    upstream: UpstreamConfig | None
    choice: Choice
    started: float


class Recorder:
    """Writes to one ledger and one set of metrics.

    An accepted request that the coin picked is settled when its audit is known, as only then its cost is: the
    upstream was asked for it as well, so that nothing was saved.
    """

    def __init__(self, ledger: Ledger, metrics: Metrics, clock: Callable[[], datetime], energy: Energy) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._clock = clock
        self._energy = energy
        self._mean = MeanCost()
        self._held: dict[str, tuple[Exchange, Settlement]] = {}
        self._early: dict[str, Finding] = {}

    async def decided(self, exchange: Exchange) -> None:
        """Return once the decision is durable; raise StoreError or Overloaded where it is not: then nothing is sent."""
        answer = exchange.choice.answer
        content = self._content(exchange, answer=answer.content if answer else None)
        try:
            await self._ledger.append(exchange.choice.decision, content, keep_text=_kept(exchange.task))
        except StoreError as error:
            self._metrics.add("insource_ledger_failures_total", code=error.code)
            raise

    def settled(
        self,
        exchange: Exchange,
        status: int,
        served_by: str,
        *,
        reply: Reply | None = None,
        seconds: float = 0.0,
        detail: str | None = None,
    ) -> None:
        """Record what became of a request; `seconds` is how long what served it took, `reply` the upstream's."""
        decision = exchange.choice.decision
        accepted = decision.outcome is Outcome.ACCEPTED
        usage = reply.usage if reply else None
        cost = Decimal(0) if accepted else cost_of(usage, exchange.upstream)
        total = perf_counter() - exchange.started
        settlement = Settlement(
            request_id=decision.request_id,
            time=self._clock(),
            status=status,
            served_by=served_by,
            seconds=total,
            upstream_seconds=None if accepted else seconds,
            usage=usage,
            cost=cost,
            cost_saved=self._mean.of(decision.task) if accepted and decision.task else None,
            joules=self._energy(served_by, seconds),
            detail=detail,
        )
        self._count(exchange, settlement)
        if not accepted:
            self._spent(exchange, settlement)
        if accepted and decision.audited:
            self._hold(exchange, settlement)
        else:
            content = self._content(exchange, reply=reply) if reply and reply.content is not None else None
            self._ledger.settle(settlement, content, keep_text=_kept(exchange.task))

    async def found(self, task: Task, finding: Finding) -> None:
        """Record an audit, and settle the accepted request that waited for it."""
        audit = finding.audit
        agrees = "unknown" if audit.agrees is None else str(audit.agrees).lower()
        self._metrics.add("insource_audits_total", task=task.name, agrees=agrees)
        content = None
        if finding.reference is not None:
            text = _text(finding.request, task)
            content = Content(audit.request_id, audit.time, task.name, text, reference=finding.reference)
        self._ledger.audit(audit, content, keep_text=_kept(task))
        if not audit.accepted:
            return
        held = self._held.pop(audit.request_id, None)
        if held is None:
            self._early[audit.request_id] = finding
        else:
            self._settle_audited(*held, finding)

    def flush(self) -> None:
        """Settle what still waits for an audit; their cost is unknown."""
        for exchange, settlement in self._held.values():
            self._settle_audited(exchange, settlement, None)
        self._held.clear()

    def _hold(self, exchange: Exchange, settlement: Settlement) -> None:
        early = self._early.pop(settlement.request_id, None)
        if early is None:
            self._held[settlement.request_id] = (exchange, settlement)
        else:
            self._settle_audited(exchange, settlement, early)

    def _settle_audited(self, exchange: Exchange, settlement: Settlement, finding: Finding | None) -> None:
        usage = finding.usage if finding else None
        cost = cost_of(usage, exchange.upstream)
        settlement = replace(settlement, usage=usage, cost=cost, cost_saved=Decimal(0))
        self._spent(exchange, settlement)
        self._ledger.settle(settlement)

    def _spent(self, exchange: Exchange, settlement: Settlement) -> None:
        """Count what the upstream took for a request."""
        upstream, usage = exchange.upstream, settlement.usage
        if settlement.status == 200 and exchange.task is not None:
            self._mean.learn(exchange.task.name, settlement.cost)
        if upstream is None or usage is None:
            return
        for kind, tokens in (("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)):
            self._metrics.add("insource_upstream_tokens_total", tokens, upstream=upstream.name, kind=kind)
        if settlement.cost is not None:
            self._metrics.add("insource_upstream_cost_total", float(settlement.cost), currency=upstream.currency)

    def _count(self, exchange: Exchange, settlement: Settlement) -> None:
        decision = exchange.choice.decision
        task, outcome = decision.task or "", decision.outcome.value
        self._metrics.add(
            "insource_requests_total",
            task=task,
            outcome=outcome,
            reason=decision.reason.value,
            status=str(settlement.status),
        )
        self._metrics.observe("insource_request_seconds", settlement.seconds, task=task, outcome=outcome)
        self._metrics.set("insource_ledger_lost_rows", self._ledger.lost)

    def _content(self, exchange: Exchange, *, answer: str | None = None, reply: Reply | None = None) -> Content:
        decision, task = exchange.choice.decision, exchange.task
        said = reply.content if reply else answer
        reference = reply.content if reply and reply.status == 200 and task is not None else None
        text = _text(exchange.request, task)
        return Content(decision.request_id, decision.time, decision.task, text, said, reference)


def _text(request: Request, task: Task | None) -> str:
    """Return what the specialist would see; the whole body where there is no such text."""
    text = text_of(request, task.messages) if task is not None else None
    return text if text is not None else request.body.decode("utf-8", "replace")


def _kept(task: Task | None) -> bool:
    return task is not None and task.content == "full"
