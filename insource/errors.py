"""Every exception insource raises, in one tree; each class says its code, HTTP status and whether to retry.

It knows nothing of the rest of the package. A message says what happened (with the value), what was expected, and
what to do. Abstaining, escalating and finding no threshold are values, not errors.

    InsourceError
    ├── UserError                     the person's mistake; the command line exits with 2
    │   ├── ConfigError               insource.toml, environment or flags
    │   ├── TrafficError              a traffic file that cannot be read as it is
    │   ├── DataError                 readable data that cannot do what was asked
    │   │   └── OpenEndedAnswers      answers that are not a closed set
    │   ├── UnknownTask               a task that nobody configured or trained
    │   ├── UnknownVersion            a version that the registry does not hold
    │   ├── UnknownKey                a key that was never made
    │   ├── UnknownReview             a request that was never queued for review
    │   ├── StageConflict             a version is not in the stage from which it was to be moved
    │   └── MissingExtra              an optional package that is not installed
    ├── TrainingFailed                a tuning whose loss is no number any more
    ├── ParityError                   a compressed version that loses more than was agreed
    ├── FetchError                    a package that could not be had, or is not the one pinned
    ├── StoreError
    │   ├── ArtifactDamaged           bytes that do not match their digest
    │   ├── StoreBusy                 the ledger has its writer already
    │   ├── StoreFull                 no room left to write
    │   └── StoreTooNew               written by a newer insource
    ├── RequestError                  the HTTP client's mistake
    │   ├── Unauthorised              no key, or none that lets anybody in
    │   ├── CostUnknown               a budget is set, and nobody can say what the request may cost at most
    │   ├── Forbidden                 a web page, or a name that was led to this machine
    │   │   └── OutOfScope            beyond what the key allows
    │   ├── KeptLocal                 neither answered here nor allowed to leave
    │   │   └── AwaitingReview        kept, and queued for a person
    │   ├── UnknownRequest            feedback for a request that was never decided
    │   ├── RequestTooLarge
    │   └── RequestTooSlow            a body that does not arrive in time
    ├── Overloaded                    no permit free
    ├── LimitReached                  of a key's limits
    │   ├── RateReached               requests in a time
    │   ├── ConcurrencyReached        requests at once
    │   └── BudgetReached             money or tokens
    └── UpstreamError
        ├── UpstreamUnreachable
        ├── UpstreamTimeout
        └── UpstreamResting           its circuit breaker is open, or no retry is left
"""

from __future__ import annotations

from typing import ClassVar


class InsourceError(Exception):
    """The root; catch it to catch all that insource raises on purpose."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    hint: ClassVar[str] = "Please report this with the command and its output."
    exit_code: ClassVar[int] = 1
    retry_after: float | None = None
    """In how many seconds a repeat may help; None where nobody knows."""


class UserError(InsourceError):
    """Something the person at the keyboard can put right."""

    code = "user_error"
    status = 400
    hint = "Change what the message names and run the command again."
    exit_code = 2


class ConfigError(UserError):
    """The configuration is wrong; the message names the key and where it stands."""

    code = "config_invalid"
    hint = "`insource config show` prints every value and its origin."


class TrafficError(UserError):
    """A traffic file has lines that cannot be read; the message names the first ten and the count."""

    code = "traffic_unreadable"
    hint = "Mend the lines, or pass --skip-bad to leave them out and have them counted."


class DataError(UserError):
    """The data were read but cannot do what was asked."""

    code = "data_insufficient"
    hint = "Collect more labelled traffic, or ask for less."


class OpenEndedAnswers(DataError):
    """The answers are not a closed set, so no classifier may be made of them."""

    code = "answers_open_ended"
    hint = "Only tasks whose answers come from a closed set can be taken over."


class UnknownTask(UserError):
    """The named task is neither configured nor trained."""

    code = "task_unknown"
    status = 404
    hint = "`insource tasks` lists the tasks."


class UnknownVersion(UserError):
    """The registry holds no such version of the task."""

    code = "version_unknown"
    status = 404
    hint = "`insource tasks NAME` lists the versions."


class UnknownKey(UserError):
    """No key with this id was ever made."""

    code = "key_unknown"
    status = 404
    hint = "`insource keys list` shows the ids."


class UnknownReview(UserError):
    """No request with this id was queued for review."""

    code = "review_unknown"
    status = 404
    hint = "`insource review` lists what waits."


class StageConflict(UserError):
    """A version is not where it was to be moved from, or another stands where it was to go; nothing was changed."""

    code = "stage_conflict"
    status = 409
    hint = "`insource tasks NAME` shows the stages as they are now; look at them and decide again."


class MissingExtra(UserError):
    """A feature needs an optional package; the message prints the exact command that installs it."""

    code = "extra_missing"
    hint = "Run the command that the message prints."


class TrainingFailed(InsourceError):
    """A tuning went astray: its loss is not a number; nothing was kept of it."""

    code = "training_failed"
    hint = "Tune with a lower --rate, or another base model."


class ParityError(InsourceError):
    """A compressed version loses more than was agreed, or is no better in any way; nothing was kept of it."""

    code = "parity_lost"
    hint = "Take out less, or agree to a greater loss."


class FetchError(InsourceError):
    """A pinned package or a hub's model could not be fetched, or its bytes are not those that were told."""

    code = "fetch_failed"
    retryable = True
    hint = "Check the connection to your package index or hub; a second run goes on from what was fetched."


class StoreError(InsourceError):
    """The ledger, the registry or an artifact could not be read or written."""

    code = "store_failed"
    hint = "`insource doctor` checks the store."


class ArtifactDamaged(StoreError):
    """An artifact's bytes do not match its digest; it is never loaded."""

    code = "artifact_damaged"
    hint = "Train the version again, or restore its folder from a backup; until then the upstream serves."


class StoreBusy(StoreError):
    """Another process is the ledger's writer, or holds the registry for longer than we wait."""

    code = "store_busy"
    status = 503
    retryable = True
    hint = "Stop the other gateway, or give this one its own INSOURCE_HOME."


class StoreFull(StoreError):
    """No room is left on the device that holds the store; nothing already stored is lost."""

    code = "store_full"
    status = 507
    retryable = True
    hint = "Free some space; the gateway writes again by itself."


class StoreTooNew(StoreError):
    """The file was written by a newer version of insource."""

    code = "store_too_new"
    hint = "Install the newer insource, or restore a backup made by this one."


class RequestError(InsourceError):
    """The HTTP request is wrong; the caller can put it right."""

    code = "invalid_request"
    status = 400
    hint = "Correct the request."


class UnknownRequest(RequestError):
    """The ledger holds no decision with this request id."""

    code = "unknown_request"
    status = 404
    hint = "Send the id that a reply's x-insource-request-id header gives."


class RequestTooLarge(RequestError):
    """The body is longer than the gateway's limit."""

    code = "request_too_large"
    status = 413
    hint = "Send less, or raise gateway.max_body_mb."


class RequestTooSlow(RequestError):
    """The body did not arrive within the gateway's receipt deadline."""

    code = "request_too_slow"
    status = 408
    retryable = True
    hint = "Send the body at once, or raise gateway.receipt_s."


class Forbidden(RequestError):
    """The request came from where nothing may come from."""

    code = "forbidden"
    status = 403
    hint = "Send the request from this machine, to its loopback address."


class OutOfScope(Forbidden):
    """The request's key is sound and does not allow what was asked."""

    code = "out_of_scope"
    hint = "Ask whoever runs the gateway for a key that allows it."


class Unauthorised(RequestError):
    """No key came with the request, or one that lets nobody in; which of these, is not said."""

    code = "invalid_key"
    status = 401
    hint = "Send a key that is valid as `Authorization: Bearer KEY` or `x-api-key: KEY`."


class CostUnknown(RequestError):
    """The request's key has a budget, and the most that the request may cost cannot be told; it was not sent."""

    code = "cost_unknown"
    hint = "Say in the request how many tokens the reply may have, or ask whoever runs the gateway."


class KeptLocal(RequestError):
    """No specialist may answer the request, and the policy lets its text go to no upstream.

    `decision` is the one that kept it, if any.
    """

    code = "kept_local"
    status = 403
    hint = "Ask with a lower sensitivity if the text allows it, or let the policy name an upstream for it."
    decision: object | None = None


class AwaitingReview(KeptLocal):
    """The request was kept in the house and waits for a person; its id stands in x-insource-request-id."""

    code = "awaiting_review"
    hint = "A person answers it with `insource review`; GET /v1/insource/reviews/ID then gives the answer."


class Overloaded(InsourceError):
    """No permit is free; the request was refused at once and nothing was done."""

    code = "overloaded"
    status = 429
    retryable = True
    hint = "Try again after the time in Retry-After, or raise gateway.max_concurrency."


class LimitReached(InsourceError):
    """A limit of the request's key is reached; the message says which and what is left."""

    code = "limit_reached"
    status = 429
    retryable = True
    hint = "Try again after the time in Retry-After."


class RateReached(LimitReached):
    """The key has sent as many requests as it may for now."""

    code = "rate_reached"


class ConcurrencyReached(LimitReached):
    """As many requests of the key are being served as may be at once."""

    code = "concurrency_reached"


class BudgetReached(LimitReached):
    """What is left of the key's budget is less than what the request may cost at most; it was not sent."""

    code = "budget_reached"


class UpstreamError(InsourceError):
    """The upstream failed before it sent a reply of its own; `decision` is the one behind the escalation, if any."""

    code = "upstream_failed"
    status = 502
    retryable = True
    hint = "Check the upstream; the specialists still answer what they may."
    decision: object | None = None


class UpstreamUnreachable(UpstreamError):
    """No connection, or one that broke before the reply's headers."""

    code = "upstream_unreachable"


class UpstreamTimeout(UpstreamError):
    """The upstream kept silent for longer than its deadline."""

    code = "upstream_timeout"
    status = 504


class UpstreamResting(UpstreamError):
    """The upstream failed repeatedly or asked for a pause; it is not asked again before that is over.

    `retry_after` says in how many seconds that may be, None where nobody knows.
    """

    code = "upstream_resting"
    status = 503
    hint = "Try again after the time in Retry-After; the specialists still answer what they may."
