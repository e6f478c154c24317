"""What the gateway writes down: decisions before the reply, settlements after it, audits when they are known.

It turns an exchange into the ledger's rows and the metrics' counts; it takes no decision and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from time import perf_counter
from typing import Protocol

from insource.backends.reply import Reply
from insource.cascade.audit_sample import Finding
from insource.cascade.choice import Choice
from insource.config import Config, UpstreamConfig
from insource.errors import StoreError
from insource.gateway.metrics import Metrics
from insource.gateway.money import MeanCost, cost_of
from insource.gateway.spans import Spans, Token
from insource.gateway.stack import NOT_COMPARED, Compared
from insource.gateway.taken import Taken
from insource.inputs import text_of
from insource.policy.member import Attempt
from insource.store.columns import Feedback
from insource.store.writer import LedgerWriter
from insource.types import Content, Decision, Outcome, Reason, Request, Settlement, Task, WhenKept

Energy = Callable[[str, float], float | None]
"""Takes what served and for how many seconds; returns joules, or None where nothing is known."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One decided request: what it belongs to, what was chosen, which upstreams there are, and when it arrived.

    `started` is of perf_counter; `token` holds its spans, None where none are kept; `taken` what was reserved for it.
    """

    request: Request
    task: Task | None
    upstreams: Mapping[str, UpstreamConfig]
    choice: Choice
    started: float
    token: Token | None = None
    taken: Taken | None = None


class Surroundings(Protocol):
    """What the recorder needs of the gateway's parts."""

    @property
    def config(self) -> Config:
        """The configuration at the start: when a decision must be durable cannot change while the gateway runs."""
        ...

    @property
    def clock(self) -> Callable[[], datetime]:
        """The time now, UTC."""
        ...

    @property
    def energy(self) -> Energy:
        """Joules."""
        ...

    @property
    def spans(self) -> Spans:
        """Where requests are traced."""
        ...


class Recorder:
    """Writes to one ledger and one set of metrics.

    An accepted request that the coin picked is settled when its audit is known, as only then its cost is: the
    upstream was asked for it as well, so that nothing was saved. So is one for which a label is to be bought.
    """

    def __init__(self, ledger: LedgerWriter, metrics: Metrics, parts: Surroundings) -> None:
        self._ledger = ledger
        self._metrics = metrics
        self._clock = parts.clock
        self._energy = parts.energy
        self._spans = parts.spans
        self._waits = parts.config.store.record == "before_reply"
        self._mean = MeanCost()
        self._held: dict[str, tuple[Exchange, Settlement]] = {}
        self._early: dict[str, Finding] = {}

    async def decided(self, exchange: Exchange) -> None:
        """Return once the decision is durable; raise StoreError or Overloaded where it is not: then nothing is sent.

        With `record = "after_reply"` it is queued; while the ledger fails it is waited for, and refused, as else.
        """
        answer, decision = exchange.choice.answer, exchange.choice.decision
        content = _content(exchange.request, exchange.task, decision.time, answer=answer.content if answer else None)
        kept = _kept(exchange.task)
        try:
            if self._waits or self._ledger.failing is not None:  # an append that succeeds ends the failing
                await self._ledger.append(decision, content, keep_text=kept)
            else:
                self._ledger.note(decision, content, keep_text=kept)
        except BaseException as error:  # cancelled, too: nothing was sent
            if exchange.taken is not None:
                exchange.taken.give_back()
            if isinstance(error, StoreError):
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
        attempts: int | None = None,
        compared: Compared = NOT_COMPARED,
    ) -> None:
        """Record what became of a request; `seconds` is how long what served it took, `reply` the upstream's.

        `attempts` is how often upstreams were asked, None where none was; `compared` what the reply said of the
        specialist's answer.
        """
        decision = exchange.choice.decision
        accepted = decision.outcome is Outcome.ACCEPTED
        usage = reply.usage if reply else None
        settlement = Settlement(
            request_id=decision.request_id,
            time=self._clock(),
            status=status,
            served_by=served_by,
            seconds=perf_counter() - exchange.started,
            upstream_seconds=None if accepted else seconds,
            usage=usage,
            cost=self._cost(exchange, served_by, reply),
            cost_saved=self._saved(decision),
            joules=self._energy(served_by, seconds),
            detail=detail,
            agrees=compared.agrees,
            reference=compared.reference,
        )
        if exchange.taken is not None:
            whole = reply is not None and reply.whole
            exchange.taken.settle(settlement, replied=reply is not None, whole=whole, attempts=attempts)
        self._count(exchange, settlement)
        self._spans.end(exchange.token, decision, settlement, attempts=attempts)
        if not accepted or decision.tier is not None:
            self._spent(exchange, settlement)
        if exchange.choice.picked or (accepted and decision.audited and exchange.choice.scored is not None):
            self._hold(exchange, settlement)
        else:
            content = _replied(exchange, reply) if reply and reply.content is not None else None
            self._ledger.settle(settlement, content, keep_text=_kept(exchange.task))

    async def found(self, task: Task, finding: Finding) -> None:
        """Record an audit, and settle the accepted request that waited for it, or for the label bought for it.

        A request has one of the version that decided, which its content goes with, and one of each asked beside it.
        """
        audit = finding.audit
        if finding.bought is not None:
            self._release(finding)
        if audit is None:
            return
        agrees = "unknown" if audit.agrees is None else str(audit.agrees).lower()
        name = "insource_shadow_audits_total" if finding.beside else "insource_audits_total"
        self._metrics.add(name, task=task.name, agrees=agrees)
        said = finding.reference
        content = _content(finding.request, task, audit.time, reference=said) if said is not None else None
        self._ledger.audit(audit, content, keep_text=_kept(task))
        if audit.accepted:
            self._release(finding)

    async def feedback(self, feedback: Feedback) -> None:
        """Return once a person's answer is durable; raise StoreError or Overloaded where it is not."""
        await self._ledger.feedback(feedback)
        self._metrics.add("insource_feedback_total", task=feedback.task)

    def dropped(self, task: Task, number: int) -> None:
        """Count answers that a version beside the one that decided was not asked for."""
        self._metrics.add("insource_shadow_dropped_total", number, task=task.name)

    def attempted(self, attempt: Attempt) -> None:
        """Count an attempt at an upstream, whatever it was for: an escalation, a tier, an audit."""
        name = attempt.upstream
        self._metrics.add("insource_upstream_attempts_total", attempt.sent, upstream=name)
        if attempt.repeats:
            self._metrics.add("insource_upstream_retries_total", attempt.repeats, upstream=name)
        if attempt.failure is not None:
            self._metrics.add("insource_upstream_failures_total", upstream=name, code=attempt.failure)

    def flush(self) -> None:
        """Settle what still waits for an audit; their cost is unknown."""
        for exchange, settlement in self._held.values():
            self._settle_audited(exchange, settlement, None)
        self._held.clear()

    def _cost(self, exchange: Exchange, served_by: str, reply: Reply | None) -> Decimal | None:
        """Return what the request cost: nothing where no upstream had a part in it, None where nobody knows."""
        decision = exchange.choice.decision
        if decision.outcome is Outcome.KEPT or (decision.outcome is Outcome.ACCEPTED and decision.tier is None):
            return Decimal(0)
        return cost_of(reply.usage if reply else None, exchange.upstreams.get(decision.tier or served_by))

    def _saved(self, decision: Decision) -> Decimal | None:
        """Return what an accepted answer saved; None where nothing is known, or nothing could have been bought."""
        bought = decision.outcome is Outcome.ACCEPTED and decision.reason is not Reason.KEPT_LOCAL
        return self._mean.of(decision.task) if bought and decision.task else None

    def _hold(self, exchange: Exchange, settlement: Settlement) -> None:
        early = self._early.pop(settlement.request_id, None)
        if early is None:
            self._held[settlement.request_id] = (exchange, settlement)
        else:
            self._settle_audited(exchange, settlement, early)

    def _release(self, finding: Finding) -> None:
        held = self._held.pop(finding.request.id, None)
        if held is None:
            self._early[finding.request.id] = finding
        else:
            self._settle_audited(*held, finding)

    def _settle_audited(self, exchange: Exchange, settlement: Settlement, finding: Finding | None) -> None:
        if finding is not None and finding.bought is False:  # nobody was asked
            self._ledger.settle(settlement)
            return
        usage, asked_by = (finding.usage, finding.served_by) if finding else (None, None)
        cost = cost_of(usage, exchange.upstreams.get(asked_by or ""))
        if settlement.cost is None or cost is None:
            cost = None
        else:
            cost += settlement.cost
        audited = replace(settlement, usage=usage, cost=cost, cost_saved=Decimal(0))
        self._spent(exchange, audited, asked_by)
        task, said = exchange.task, finding.reference if finding is not None and finding.bought else None
        content = _content(exchange.request, task, audited.time, reference=said) if said is not None else None
        self._ledger.settle(audited, content, keep_text=_kept(task))

    def _spent(self, exchange: Exchange, settlement: Settlement, served_by: str | None = None) -> None:
        """Count what an upstream took for a request."""
        usage = settlement.usage
        if settlement.status == 200 and exchange.task is not None:
            self._mean.learn(exchange.task.name, settlement.cost)
        name = served_by or exchange.choice.decision.tier or settlement.served_by
        upstream = exchange.upstreams.get(name)
        if upstream is None or usage is None:
            return
        for kind, tokens in (("prompt", usage.prompt_tokens), ("completion", usage.completion_tokens)):
            self._metrics.add("insource_upstream_tokens_total", tokens, upstream=name, kind=kind)
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
        if decision.reason is Reason.KEPT_LOCAL:
            how = exchange.task.when_kept.value if exchange.task is not None else WhenKept.REFUSE.value
            self._metrics.add("insource_kept_total", task=task, how=how)


def _replied(exchange: Exchange, reply: Reply) -> Content | None:
    """Return what goes with a settlement: a task's reply is its reference, too."""
    task, time = exchange.task, exchange.choice.decision.time
    reference = reply.content if reply.status == 200 and task is not None else None
    return _content(exchange.request, task, time, answer=reply.content, reference=reference)


def _content(
    request: Request, task: Task | None, time: datetime, *, answer: str | None = None, reference: str | None = None
) -> Content | None:
    """Return what may be kept of an exchange, None for a task of which nothing is, not even a digest."""
    if task is not None and task.content == "none":
        return None
    name, days = (task.name, task.retention_days) if task is not None else (None, None)
    return Content(request.id, time, name, _text(request, task), answer, reference, request.subject, days)


def _text(request: Request, task: Task | None) -> str:
    """Return what the specialist would see; the whole body where there is no such text."""
    text = text_of(request, task.messages) if task is not None else None
    return text if text is not None else request.body.decode("utf-8", "replace")


def _kept(task: Task | None) -> bool:
    return task is not None and task.content == "full"
