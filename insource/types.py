"""The nouns of insource, frozen: what travels between rooms.

They hold data and nothing else: no input or output, no clock, no third-party type. Times are UTC, money is Decimal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """Selective prediction's two outcomes, and a third: neither answered here nor allowed to leave."""

    ACCEPTED = "accepted"
    ESCALATED = "escalated"
    KEPT = "kept"


class Reason(StrEnum):
    """Why a request had its outcome; a closed set."""

    ABOVE_THRESHOLD = "above_threshold"
    BELOW_THRESHOLD = "below_threshold"
    NO_TASK = "no_task"
    NO_SPECIALIST = "no_specialist"
    NO_THRESHOLD = "no_threshold"
    UNSUPPORTED_FIELD = "unsupported_field"
    NO_INPUT = "no_input"
    SPECIALIST_FAILED = "specialist_failed"
    SPECIALIST_SLOW = "specialist_slow"
    ARTIFACT_DAMAGED = "artifact_damaged"
    BUDGET_SPENT = "budget_spent"
    KEPT_LOCAL = "kept_local"
    COMPUTED = "computed"
    SUSPENDED = "suspended"


class Sensitivity(StrEnum):
    """How far a text may travel; `strictest` orders them."""

    PUBLIC = "public"
    INTERNAL = "internal"
    RESTRICTED = "restricted"

    @property
    def rank(self) -> int:
        """0 for public, 1 for internal, 2 for restricted."""
        return _RANKS[self]


_RANKS = {sensitivity: rank for rank, sensitivity in enumerate(Sensitivity)}


def strictest(*given: Sensitivity | None) -> Sensitivity | None:
    """Return the strictest of those given; None where none is."""
    known = [sensitivity for sensitivity in given if sensitivity is not None]
    return max(known, key=_RANKS.__getitem__) if known else None


class WhenKept(StrEnum):
    """What becomes of a request that nothing here may answer and that may not leave."""

    REFUSE = "refuse"
    BEST = "best"
    REVIEW = "review"


class Stage(StrEnum):
    """A version's place in the rollout."""

    CANDIDATE = "candidate"
    SHADOW = "shadow"
    CANARY = "canary"
    ACTIVE = "active"
    RETIRED = "retired"


class Mode(StrEnum):
    """Who moves a task's versions through the stages: nobody's hand, a named person at each step, or people alone."""

    AUTO = "auto"
    APPROVE = "approve"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; content is text, or the wire's list of parts."""

    role: str
    content: str | tuple[Mapping[str, Any], ...] | None

    @property
    def text(self) -> str | None:
        """The text of the message, or None where a part is not text (an image, a sound, a tool's call)."""
        if self.content is None or isinstance(self.content, str):
            return self.content
        if not all(part.get("type") == "text" and isinstance(part.get("text"), str) for part in self.content):
            return None
        return "".join(part["text"] for part in self.content)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one key may take; None asks for nothing.

    `rate` is how many requests in how many seconds, `concurrency` how many at once; `money` (in `currency`) and
    `tokens` how much in a "day", a "month" (both UTC) or in "total".
    """

    rate: tuple[int, float] | None = None
    concurrency: int | None = None
    money: tuple[Decimal, str] | None = None
    currency: str = "USD"
    tokens: tuple[int, str] | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A virtual key without its secret: whom it lets in, to what, until when, and within which limits.

    `tasks` and `upstreams` None mean all of them; `sensitivity` is the highest that may leave with it. `id` is public:
    it begins the key and stands in decisions.
    """

    id: str
    name: str
    created: datetime
    created_by: str
    tasks: tuple[str, ...] | None = None
    upstreams: tuple[str, ...] | None = None
    sensitivity: Sensitivity = Sensitivity.RESTRICTED
    admin: bool = False
    expires: datetime | None = None
    limits: Limits = Limits()
    revoked: datetime | None = None
    revoked_by: str | None = None

    def lets_in(self, now: datetime) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or self.expires > now)

    def may_ask(self, task: str | None) -> bool:
        """Whether requests of a task (None: of no task) are within its scope."""
        return self.tasks is None or task in self.tasks

    def may_send(self, upstream: str, sensitivity: Sensitivity) -> bool:
        """Whether a text of this sensitivity may go to an upstream with it."""
        return sensitivity.rank <= self.sensitivity.rank and (self.upstreams is None or upstream in self.upstreams)


SUBJECT_HEADER = "x-insource-subject"
SUBJECT_FIELDS = ("user", "safety_identifier")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came: the conversation, the other fields as decoded, and the bytes to forward untouched.

    `dialect` names the wire format that it came in and that its reply must have ("chat", "completions", "responses",
    "embeddings", "moderations", "messages"; "other" for what is passed on unread). `sensitivity` None means that
    nobody judged it: then nothing may leave. `key` is the one that it came with, None where the gateway is open.
    """

    id: str
    messages: tuple[Message, ...]
    model: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    path: str = "/v1/chat/completions"
    stream: bool = False
    method: str = "POST"
    dialect: str = "chat"
    sensitivity: Sensitivity | None = None
    key: Key | None = None

    @property
    def system_prompt(self) -> str | None:
        """The text of the leading system (or developer) message, if there is one."""
        if self.messages and self.messages[0].role in ("system", "developer"):
            return self.messages[0].text
        return None

    @property
    def subject(self) -> str | None:
        """Whom it is about, as far as it says so: the header x-insource-subject, the field `user` or
        `safety_identifier`, or `metadata.user_id`.
        """
        if named := self.headers.get(SUBJECT_HEADER):
            return named
        metadata = self.fields.get("metadata")
        given = [self.fields.get(name) for name in SUBJECT_FIELDS]
        if isinstance(metadata, dict):
            given.append(metadata.get("user_id"))
        return next((value for value in given if isinstance(value, str) and value), None)

    def judged(self, sensitivity: Sensitivity | None, key: Key | None) -> Request:
        """Return it with this sensitivity and key."""
        return Request(  # replace() would take five times as long
            self.id,
            self.messages,
            self.model,
            self.fields,
            self.headers,
            self.body,
            self.path,
            self.stream,
            self.method,
            self.dialect,
            sensitivity,
            key,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one reply, as the wire counts them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Relay:
    """A reply on its way through: status, headers and body bytes, to be passed on as they are.

    `whole` is the whole body where it had arrived together with the head; `chunks` gives it then, too.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    chunks: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]
    whole: bytes | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """What was done with one request, and why.

    `version`, `digest`, `score` and `threshold` are those of the tier that was asked last; `tier` names it where it
    is not the specialist but an upstream in the house. `answer` is the number of the specialist's answer in its closed
    set, where the task keeps contents. `key` is the public id of the key that the request came with.
    """

    request_id: str
    time: datetime
    outcome: Outcome
    reason: Reason
    task: str | None = None
    version: int | None = None
    digest: str | None = None
    score: float | None = None
    threshold: float | None = None
    audited: bool = False
    audit_rate: float = 0.0
    detail: str | None = None
    tier: str | None = None
    sensitivity: Sensitivity | None = None
    answer: int | None = None
    key: str | None = None

    @property
    def decider(self) -> str | None:
        """The name under which the registry holds the version that was asked last: the task's, or TASK/TIER."""
        return self.task if self.task is None or self.tier is None else f"{self.task}/{self.tier}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a backend returns: content (or a relay of the upstream's own bytes), score, and the decision behind it.

    `label` is the normalised answer where the answer comes from a closed set, `probabilities` what the specialist gave
    each of that set, where it was asked for them (a moderation). `seconds` says how long each step took, `attempts`
    how often an upstream was asked.
    """

    served_by: str
    content: str | None = None
    label: str | None = None
    score: float | None = None
    usage: Usage | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    decision: Decision | None = None
    relay: Relay | None = None
    probabilities: Mapping[str, float] | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a decided request: status on the wire, tokens, money, energy and time.

    Of an escalated one whose reference was read, `agrees` says whether the specialist's answer was the same, and, where
    the task keeps contents, `reference` its number in that specialist's closed set, -1 for one outside.
    """

    request_id: str
    time: datetime
    status: int
    served_by: str
    seconds: float
    upstream_seconds: float | None = None
    usage: Usage | None = None
    cost: Decimal | None = None
    cost_saved: Decimal | None = None
    joules: float | None = None
    detail: str | None = None
    agrees: bool | None = None
    reference: int | None = None


@dataclass(frozen=True, slots=True)
class Audit:
    """What was learned of one version from one request: did its answer agree with the reference?

    `accepted` says whether that answer was the one served, `accepts` whether the version would accept it at its own
    threshold, served or not (None where nobody recorded it). `agrees` is None where no reference came. `stage` is the
    version's then, `score` what it attached to the answer, `seconds` what the answer took.
    """

    request_id: str
    time: datetime
    task: str
    version: int
    accepted: bool
    agrees: bool | None
    detail: str | None = None
    accepts: bool | None = None
    stage: Stage | None = None
    score: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The text of one exchange, kept apart from the decision so that it can be erased.

    `subject` names whom it is about, where the request says so; `days` is for how long it is kept (None: as the store
    is set).
    """

    request_id: str
    time: datetime
    task: str | None
    text: str
    answer: str | None = None
    reference: str | None = None
    subject: str | None = None
    days: int | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One request of a traffic file with the answer taken as right for it, and gold where there is gold.

    `seal` has the ids of the keys that its text is kept under already, None where it comes from a file.
    """

    request: Request
    answer: str | None
    gold: str | None = None
    task: str | None = None
    time: datetime | None = None
    group: str | None = None
    usage: Usage | None = None
    seal: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class GuardResult:
    """One guard's certificate: of `rows` requests whose reference is `answer`, `missed` were accepted wrongly."""

    answer: str
    limit: float
    rows: int
    missed: int
    missed_upper_bound: float | None
    held: bool
    rows_lacking: int = 0


@dataclass(frozen=True, slots=True)
class Calibration:
    """The procedure and the stored result that fixed a threshold.

    `threshold` None accepts nothing. `coverage`, `errors` and `risk_upper_bound` are those of the certified rows;
    `ranking` is the area under the curve of the score against "agrees with the reference".
    """

    method: str
    target_risk: float
    confidence_level: float
    rows: int
    threshold: float | None
    coverage: float
    accepted: int
    errors: int
    risk_upper_bound: float | None
    ranking: float | None
    guards: tuple[GuardResult, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpecialistVersion:
    """A registered version: the artifact by digest, its calibration, its stage and its lineage.

    `share` is the share of the task's requests that a version in canary answers; 0 in every other stage.
    """

    task: str
    version: int
    family: str
    digest: str
    stage: Stage
    created: datetime
    calibration: Calibration | None
    lineage: Mapping[str, Any] = field(default_factory=dict)
    share: float = 0.0

    @property
    def name(self) -> str:
        """NAME@V."""
        return f"{self.task}@{self.version}"


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a version from stage to stage: when, by whom and why. `share` is that of a canary."""

    time: datetime
    task: str
    version: int
    before: Stage
    stage: Stage
    share: float
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Suspension:
    """A task's acceptance is off: since when, at whose word and why. Everything escalates until it is lifted."""

    task: str
    time: datetime
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """Something drifted under the active version: until it is known whether that does harm, all requests are audited.

    `kinds` names what moved, `row` the row of the ledger up to which was read. Under another version it is void.
    """

    task: str
    version: int
    time: datetime
    kinds: tuple[str, ...]
    row: int
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Match:
    """How a task knows its requests, besides `model = "task:NAME"` and the task header, which always match.

    `headers` are pairs of a header's name (small letters) and its exact value; `system_templates` are system prompts
    with {slots}, `user_templates` the same for the user's last message; `schemas` are names, or "sha256:" digests, of
    the JSON schema asked for.
    """

    models: tuple[str, ...] = ()
    system_prompts: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    system_templates: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    user_templates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Require:
    """The bar a specialist must meet to be chosen; None asks for nothing. Latency in milliseconds, size in MB."""

    accuracy: float | None = None
    coverage: float | None = None
    latency_ms: float | None = None
    size_mb: float | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of request worth taking over, with the promise its owner chose.

    `target_risk` and `confidence_level` are the promise; `guard` maps an answer to the share of its requests that may
    be accepted with another answer. `audit_rate` is what audits may cost in upstream calls, as a share of requests.
    `content` is "full", "digest" or "none", kept for `retention_days` (None: as the store is set); `messages` says
    which of a conversation's messages the specialist sees: "last_user", "user" (all the user's) or "all".

    `upstreams` are the names to escalate to with the weight of each, 0 for one that only steps in on failure; empty
    for the gateway's default. `tiers` are upstreams in the house that stand between specialist and upstream.
    `sensitivity` None leaves it to the policy. `moderation_safe` are the answers that flag nothing.

    `mode` says who moves versions through the stages. `margin` is by how much a new version may answer worse than the
    one before it, as a share of the requests that both accept; `labels_per_day` how many references beyond escalations
    and audits may be bought from the teacher each day (UTC).
    """

    name: str
    match: Match = Match()
    target_risk: float = 0.05
    confidence_level: float = 0.95
    guard: Mapping[str, float] = field(default_factory=dict)
    audit_rate: float = 0.05
    content: str = "digest"
    upstreams: tuple[tuple[str, float], ...] = ()
    upstream_model: str | None = None
    messages: str = "last_user"
    deadline_ms: float = 250.0
    require: Require = Require()
    sensitivity: Sensitivity | None = None
    when_kept: WhenKept = WhenKept.REFUSE
    tiers: tuple[str, ...] = ()
    moderation_safe: tuple[str, ...] = ()
    mode: Mode = Mode.APPROVE
    margin: float = 0.02
    labels_per_day: int = 0
    retention_days: int | None = None
