"""Every key of insource.toml in one table: validation is driven by it, and the reference page is made from it.

It knows no file and no value that somebody set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from insource.config.amounts import RATE, RATE_EXPECTED
from insource.config.kinds import (
    Kind,
    address,
    choice,
    integer,
    money,
    number,
    pairs,
    text,
    texts,
    url,
    variable,
    weights,
)
from insource.types import Mode, Sensitivity, WhenKept

_RATE = text("rate", RATE_EXPECTED, RATE)
_TEXT = text("text", "text that is not empty", r".*\S.*")
_NAME = text("name", "a name of small letters, digits, dots, dashes and underscores", r"[a-z0-9][a-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class Setting:
    """One key: where it stands (NAME and ANSWER stand for any name), its kind, default and meaning.

    `variable` is the environment variable that sets it, None where only the file can.
    """

    key: str
    kind: Kind
    default: Any
    meaning: str
    required: bool = False
    variable: str | None = None

    @property
    def path(self) -> tuple[str, ...]:
        """The key's parts."""
        return tuple(self.key.split("."))


def _gateway(key: str, kind: Kind, default: Any, meaning: str) -> Setting:
    return Setting(f"gateway.{key}", kind, default, meaning, variable=f"INSOURCE_GATEWAY_{key.upper()}")


def _upstream(key: str, kind: Kind, default: Any, meaning: str, *, required: bool = False) -> Setting:
    return Setting(f"upstreams.NAME.{key}", kind, default, meaning, required)


def _task(key: str, kind: Kind, default: Any, meaning: str) -> Setting:
    return Setting(f"tasks.NAME.{key}", kind, default, meaning)


def _allowed(sensitivity: str) -> tuple[Setting, Setting]:
    where = f"that {sensitivity} text may go to; '*' for all. Upstreams and jurisdictions add up."
    return (
        Setting(f"policy.{sensitivity}.upstreams", texts("upstreams by name, '*', or [] for none", or_none=True), None,
                f"The upstreams, by name, {where} By default all, unless jurisdictions are named."),
        Setting(f"policy.{sensitivity}.jurisdictions", texts("jurisdictions"), (), f"The jurisdictions {where}"),
    )  # fmt: skip


_SENSITIVITY = choice(*(sensitivity.value for sensitivity in Sensitivity)).mapped(Sensitivity)
_SHARE = number(0, 1, low_open=True)
_SECONDS = number(0, 86_400, low_open=True)

SETTINGS: tuple[Setting, ...] = (
    _gateway("host", address(), "127.0.0.1",
             "The address the gateway listens on; one beyond loopback needs a key first (`insource keys create`)."),
    _gateway("port", integer(0, 65_535), 8600, "The port the gateway listens on; 0 takes any free one."),
    _gateway("max_concurrency", integer(1, 100_000), 256, "Requests served at once; further ones get 429."),
    _gateway("max_body_mb", integer(1, 2_048), 32, "The longest request body, in MB of 2**20 bytes."),
    _gateway("drain_s", number(0, 3_600), 30.0, "Seconds that requests under way may take when the gateway stops."),
    _gateway("receipt_s", _SECONDS, 15.0, "Seconds within which a request's body must have arrived."),
    _gateway("default_upstream", weights(), (),
             "The upstream of requests that belong to no task; the only one, where there is one. A list names "
             "fallbacks, a table weights."),
    _gateway("workers", integer(1, 64), 1, "Processes that serve; one further process writes the ledger for them all."),
    _gateway("retry_budget", number(0, 1), 0.2, "Retries and fallbacks at most, as a share of the requests sent up."),
    _gateway("metrics", choice("public", "key", "admin"), "admin",
             "Who may read /metrics once there are keys: anybody, who has a key, or who has an administrator's."),
    _gateway("key_rate", _RATE, None, "The requests that a key may send where it says nothing itself, such as 60/min."),
    _gateway("key_concurrency", integer(1, 100_000), None,
             "The requests of a key that are served at once where it says nothing itself."),
    _gateway("tls_cert", _TEXT, None, "A PEM file with the certificate to serve HTTPS with, its issuers after it. A "
             "relative path starts at the configuration's folder. SIGHUP reads it again."),
    _gateway("tls_key", _TEXT, None, "A PEM file with the certificate's private key, without a password."),
    _gateway("log", choice("text", "json"), "text", "How the log is written; never with a word of a request."),
    Setting("store.home", _TEXT, None, "The folder of all state; by default the platform's user data folder. In the "
            "file, a relative path starts at the file's folder.", variable="INSOURCE_HOME"),
    Setting("store.retention_days", integer(1, 36_500), 30, "Days after which stored content is erased, where its task "
            "says nothing else; rows of the ledger, which hold no text, stay.",
            variable="INSOURCE_STORE_RETENTION_DAYS"),
    Setting("store.record", choice("before_reply", "after_reply"), "before_reply", "When a decision must be durable: "
            "before its reply leaves, or soon after it (a crash then loses what was not written yet).",
            variable="INSOURCE_STORE_RECORD"),
    Setting("store.witness", _TEXT, None, "A file outside the home, best on another machine's disk, to which each "
            "signed checkpoint is written as well: it shows when the ledger was cut or restored.",
            variable="INSOURCE_STORE_WITNESS"),
    _upstream("base_url", url(), None, "Where the upstream's OpenAI-compatible interface lies.", required=True),
    _upstream("api_key_env", variable(), None,
              "The environment variable that holds the key; without it the client's own authorization is passed on."),
    _upstream("jurisdiction", _TEXT, None, "Where the upstream keeps and works on data, such as \"EU\"."),
    _upstream("price_in", money(), None, "Price of a million input tokens; without prices, money reads null."),
    _upstream("price_out", money(), None, "Price of a million output tokens."),
    _upstream("currency", text("currency", "three capital letters (ISO 4217), such as 'EUR'", r"[A-Z]{3}"), "USD",
              "The currency of the prices."),
    _upstream("timeout_s", _SECONDS, 600.0, "Seconds of silence after which the upstream counts as dead."),
    _upstream("connect_timeout_s", _SECONDS, 5.0, "Seconds within which a connection must stand."),
    _upstream("model", _TEXT, None, "The model to ask for where a request says task:NAME."),
    _upstream("key_header", choice("authorization", "x-api-key", "api-key"), "authorization",
              "The header that carries the key; Anthropic's API takes x-api-key."),
    _upstream("deadline_s", _SECONDS, None, "Seconds in which a reply must begin, over all attempts; none by default."),
    _upstream("reply_s", _SECONDS, 3_600.0, "Seconds in which a reply must be whole once it is asked for."),
    _upstream("retries", integer(0, 10), 1, "How often one request may be sent again after a failure."),
    _upstream("max_reply_tokens", integer(1, 10_000_000), None,
              "The most tokens a reply can have; keys with a budget need it where a request sets no max_tokens."),
    _upstream("breaker_failures", integer(1, 1_000), 5, "Failures in a row after which the upstream is left alone."),
    _upstream("breaker_rest_s", _SECONDS, 10.0, "Seconds for which it is left alone before one request tries it."),
    Setting("embeddings.NAME.trunk", _TEXT, None, "The digest, or the base model's name, of the trunk that computes.",
            required=True),
    Setting("embeddings.NAME.model", texts("a model's name, or a list of them"), (),
            "Requests to /v1/embeddings for one of these models are answered here, as are those for NAME."),
    Setting("policy.sensitivity", _SENSITIVITY, Sensitivity.INTERNAL,
            "The sensitivity of requests that neither task nor header rates."),
    *_allowed("public"),
    *_allowed("internal"),
    Setting("policy.restricted.upstreams", texts("upstreams by name, or [] for none", or_none=True), (),
            "The upstreams that restricted text may go to, by name; by default none."),
    _task("target_risk", number(0, 0.5, low_open=True, high_open=True), 0.05,
          "The promise: at most this share of the accepted answers differs from the reference."),
    _task("confidence_level", number(0.5, 1, high_open=True), 0.95, "The confidence level of that promise."),
    _task("audit_rate", number(0, 1), 0.05,
          "What audits may cost: upstream calls beyond escalations, as a share of all requests. The coin's rate is "
          "this over the certified coverage, at most 0.5."),
    _task("content", choice("digest", "full", "none"), "digest",
          "What the ledger keeps of a request's text: a salted digest, the text (needed to learn from traffic), or "
          "nothing at all. What that makes impossible is said at the start and by `insource status`."),
    _task("retention_days", integer(1, 36_500), None,
          "Days for which the task's contents are kept, and the texts of its reviews from their answer on; else "
          "store.retention_days. What is in the ledger already keeps the days it was written with."),
    _task("upstream", weights(), (), "The upstream that this task escalates to; else the gateway's default. A list "
          "names fallbacks, a table weights."),
    _task("tiers", texts("upstreams in the house, by name"), (),
          "Upstreams in the house that are asked between the specialist and the upstream."),
    _task("sensitivity", _SENSITIVITY, None, "How far the task's texts may travel; else policy.sensitivity."),
    _task("when_kept", choice(*(kept.value for kept in WhenKept)).mapped(WhenKept), WhenKept.REFUSE,
          "What becomes of a request that nothing here may answer and that may not leave: refuse it, send the "
          "specialist's best answer marked as such, or queue it for review."),
    _task("moderation_safe", texts("answers that flag nothing"), (),
          "For /v1/moderations: the answers that mean that nothing is flagged."),
    _task("mode", choice(*(mode.value for mode in Mode)).mapped(Mode), Mode.APPROVE,
          "Who moves a new version from shadow to canary to active: nobody's hand (auto), a person at each step that "
          "the evidence allows (approve), or people alone (manual)."),
    _task("margin", number(0, 1, high_open=True), 0.02,
          "By how much a new version may answer worse than the one before, as a share of the requests both accept."),
    _task("labels_per_day", integer(0, 10_000_000), 0,
          "References bought from the teacher each day (UTC), at most, beyond escalations and audits: for accepted "
          "requests near the threshold. Needs content = \"full\"."),
    _task("upstream_model", _TEXT, None, "The model to ask that upstream for; else the upstream's own setting."),
    _task("messages", choice("last_user", "user", "all"), "last_user", "Which messages the specialist sees."),
    _task("deadline_ms", number(0, 600_000, low_open=True), 250.0,
          "Milliseconds after which a specialist counts as slow and the request goes up."),
    _task("match.model", texts("a model's name, or a list of them"), (),
          "Requests that ask for one of these models belong to the task."),
    _task("match.system_prompt", texts("an exact system prompt, or a list of them"), (),
          "Requests with exactly one of these system prompts belong to the task."),
    _task("match.header", pairs("a table of header names and values"), (),
          "Requests with one of these headers, exactly so, belong to the task."),
    _task("match.system_template", texts("a system prompt with {slots}, or a list of them"), (),
          "Requests whose system prompt is one of these with something in each {slot} belong to the task."),
    _task("match.user_template", texts("a user's message with {slots}, or a list of them"), (),
          "Requests whose last message of the user is one of these with something in each {slot} belong to the task, "
          "and its specialist sees what stands in the slots. Whoever writes that message decides whether it matches."),
    _task("match.schema", texts("a JSON schema's name or sha256: digest, or a list of them"), (),
          "Requests that ask for an answer in one of these JSON schemas belong to the task; `insource tasks match` "
          "prints the digests."),
    _task("guard.ANSWER", number(0, 1, low_open=True, high_open=True), None,
          "Of the requests whose reference is ANSWER, the share that may be accepted with another answer."),
    _task("require.accuracy", _SHARE, None, "The accuracy a specialist must reach to be chosen."),
    _task("require.coverage", _SHARE, None, "The coverage a specialist must reach to be chosen."),
    _task("require.latency_ms", number(0, 600_000, low_open=True), None, "The most a specialist may take, median."),
    _task("require.size_mb", number(0, 1_000_000, low_open=True), None, "The most an artifact may weigh, in MB."),
)  # fmt: skip

SECTIONS = ("gateway", "store", "upstreams", "embeddings", "tasks", "policy")
