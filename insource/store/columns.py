"""How the nouns of `types` become rows, and rows nouns again.

It knows the order of the columns; it does not know connections. Times are integer microseconds, money is text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from insource.types import Audit, Content, Decision, Outcome, Reason, Sensitivity, Settlement, Stage, Usage

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)

Values = tuple[Any, ...]

DECISION = (
    "request_id, time, task, outcome, reason, version, digest, score, threshold, audited, audit_rate, detail, "
    "content_digest, tier, sensitivity, answer, key"
)
SETTLEMENT = (
    "request_id, time, status, served_by, seconds, upstream_seconds, prompt_tokens, completion_tokens, cost, "
    "cost_saved, joules, detail, content_digest, agrees, reference"
)
AUDIT = "request_id, time, task, version, accepted, agrees, detail, content_digest, accepts, stage, score, seconds"
ACT = "time, who, what, subject, detail"
INSERT_ACT = f"INSERT INTO acts ({ACT}) VALUES (?, ?, ?, ?, ?)"
FEEDBACK = "request_id, time, task, answer, who, source"
CONTENT = "salt, text, answer, reference, time, task, expires, subject"


@dataclass(frozen=True, slots=True)
class Act:
    """An administrative act: who did what to which subject, and when."""

    time: datetime
    who: str
    what: str
    subject: str
    detail: str | None = None


class Source(StrEnum):
    """Where a person gave an answer: over HTTP, with `insource label`, or in the review queue."""

    FEEDBACK = "feedback"
    LABEL = "label"
    REVIEW = "review"


@dataclass(frozen=True, slots=True)
class Feedback:
    """What a person says is the right answer to a decided request; of several for one request the latest holds."""

    request_id: str
    time: datetime
    task: str
    answer: str
    who: str
    source: Source


def micros(time: datetime) -> int:
    """Return whole microseconds since 1970; `time` must carry its zone (TypeError otherwise)."""
    return (time - EPOCH) // MICROSECOND


def moment(value: int) -> datetime:
    """Return the UTC time of `value` microseconds since 1970."""
    return EPOCH + timedelta(microseconds=value)


def money(amount: Decimal | None) -> str | None:
    """Return the exact figures as text; ValueError for what is not a finite amount."""
    if amount is None:
        return None
    if not amount.is_finite():
        raise ValueError(f"{amount} is not an amount of money; a finite Decimal or None was expected")
    return str(amount)


def amount(text: str | None) -> Decimal | None:
    """Return the Decimal whose figures stand in `text`."""
    return None if text is None else Decimal(text)


def plain(text: str | None) -> str | None:
    """Return `text` with lone surrogates, which no UTF-8 file can hold, escaped."""
    if text is None or text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def decision_values(decision: Decision, digest: bytes | None) -> Values:
    """Return the values in the order of DECISION."""
    return (
        decision.request_id, micros(decision.time), decision.task, decision.outcome, decision.reason,
        decision.version, decision.digest, decision.score, decision.threshold, decision.audited,
        decision.audit_rate, plain(decision.detail), digest, decision.tier, decision.sensitivity,
        decision.answer, decision.key,
    )  # fmt: skip


def settlement_values(settlement: Settlement, digest: bytes | None) -> Values:
    """Return the values in the order of SETTLEMENT."""
    usage = settlement.usage
    return (
        settlement.request_id, micros(settlement.time), settlement.status, settlement.served_by, settlement.seconds,
        settlement.upstream_seconds, usage and usage.prompt_tokens, usage and usage.completion_tokens,
        money(settlement.cost), money(settlement.cost_saved), settlement.joules, plain(settlement.detail), digest,
        settlement.agrees, settlement.reference,
    )  # fmt: skip


def audit_values(audit: Audit, digest: bytes | None) -> Values:
    """Return the values in the order of AUDIT."""
    return (
        audit.request_id, micros(audit.time), audit.task, audit.version, audit.accepted, audit.agrees,
        plain(audit.detail), digest, audit.accepts, audit.stage, audit.score, audit.seconds,
    )  # fmt: skip


def act_values(act: Act) -> Values:
    """Return the values in the order of ACT."""
    return (micros(act.time), act.who, act.what, act.subject, plain(act.detail))


def feedback_values(feedback: Feedback) -> Values:
    """Return the values in the order of FEEDBACK."""
    return (
        feedback.request_id, micros(feedback.time), feedback.task, plain(feedback.answer), plain(feedback.who),
        feedback.source,
    )  # fmt: skip


def to_decision(row: Sequence[Any]) -> Decision:
    """Read the columns of DECISION."""
    request_id, time, task, outcome, reason, version, digest, score, threshold, audited, rate, detail = row[:12]
    tier, sensitivity, answer, key = row[13:]
    return Decision(
        request_id, moment(time), Outcome(outcome), Reason(reason), task, version, digest, score, threshold,
        bool(audited), rate, detail, tier, None if sensitivity is None else Sensitivity(sensitivity),
        answer, key,
    )  # fmt: skip


def to_settlement(row: Sequence[Any]) -> Settlement:
    """Read the columns of SETTLEMENT."""
    request_id, time, status, served_by, seconds, upstream, prompt, completion, cost, saved, joules, detail = row[:12]
    agrees, reference = row[13:]
    usage = None if prompt is None else Usage(prompt, completion)
    return Settlement(
        request_id, moment(time), status, served_by, seconds, upstream, usage, amount(cost), amount(saved), joules,
        detail, _said(agrees), reference,
    )  # fmt: skip


def to_audit(row: Sequence[Any]) -> Audit:
    """Read the columns of AUDIT."""
    request_id, time, task, version, accepted, agrees, detail, _, accepts, stage, score, seconds = row
    return Audit(
        request_id, moment(time), task, version, bool(accepted), _said(agrees), detail, _said(accepts),
        None if stage is None else Stage(stage), score, seconds,
    )  # fmt: skip


def to_act(row: Sequence[Any]) -> Act:
    """Read the columns of ACT."""
    time, who, what, subject, detail = row
    return Act(moment(time), who, what, subject, detail)


def to_feedback(row: Sequence[Any]) -> Feedback:
    """Read the columns of FEEDBACK."""
    request_id, time, task, answer, who, source = row
    return Feedback(request_id, moment(time), task, answer, who, Source(source))


def to_content(request_id: str, parts: Sequence[Sequence[Any]]) -> Content | None:
    """Join the parts of one exchange (columns of CONTENT, oldest first); None where only digests were kept."""
    text, answer, reference = (_latest([part[column] for part in parts]) for column in (1, 2, 3))
    if text is None:
        return None
    return Content(request_id, moment(parts[0][4]), parts[0][5], text, answer, reference)


def _said(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _latest(values: Sequence[bytes | None]) -> str | None:
    given = [value for value in values if value is not None]
    return given[-1].decode("utf-8", "surrogatepass") if given else None
