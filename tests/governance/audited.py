"""A home with what an auditor asks about: a promoted version, escalations, failures, a review, keys, a second start."""

from contextlib import ExitStack
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

from insource.config import Config, load
from insource.governance.auditing.answers import Sources, answers_of_request, answers_of_span
from insource.governance.auditing.handing import fill_with_request, fill_with_span
from insource.governance.auditing.told import Told
from insource.governance.verifier import verify_ledger
from insource.store.delivery import deliver, deliver_acts
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.proving import Prover
from insource.store.registry import Registry
from insource.types import (
    Audit,
    Calibration,
    Content,
    Decision,
    Key,
    Outcome,
    Reason,
    Sensitivity,
    Settlement,
)
from reliability.load import NOON

CERTIFIED = Calibration("cross-fit", 0.05, 0.95, 400, 0.42, 0.8, 320, 3, 0.03, 0.9)
DIGESTS = ("a" * 64, "b" * 64)
CANARY = "the canary's text"
TOML = """
[upstreams.frontier]
base_url = "https://api.example.com:8443/v1"
jurisdiction = "us"

[tasks.triage]
mode = "approve"
content = "full"

[tasks.other]
"""


class Filling:
    """Writes requests into a ledger, a second apart; `key` is what they come with."""

    def __init__(self, ledger: Ledger, clock: list[int], key: str) -> None:
        self.ledger, self._clock, self._key = ledger, clock, key

    def request(self, name: str, outcome: Outcome, reason: Reason, *, served_by: str | None, status: int = 200,
                detail: str | None = None, cost: str | None = None, audit: str | None = "", **told):  # fmt: skip
        """Decide a request; settle it where `served_by` is given, audit it where its coin fell and `audit` is text."""
        self._clock[0] += 1
        now = NOON + timedelta(seconds=self._clock[0])
        given = {"task": "triage", "version": 2, "digest": DIGESTS[1], "score": 0.9, "threshold": 0.42,
                 "sensitivity": Sensitivity.INTERNAL, "key": self._key, **told}  # fmt: skip
        decision = Decision(name, now, outcome, reason, detail=detail if outcome is Outcome.KEPT else None, **given)
        self.ledger.append_now(decision, Content(name, now, "triage", CANARY), keep_text=True)
        if decision.audited and audit is not None:
            self.ledger.audit(Audit(name, now, "triage", 2, True, None if audit else True, audit or None))
        if served_by is not None:
            spent = None if cost is None else Decimal(cost)
            self.ledger.settle(Settlement(name, now, status, served_by, 0.1, detail=detail, cost=spent)).result()


def fill(home: Path) -> str:
    """Fill a home, and return the id of the key that requests came with."""
    with Registry.open(home) as registry:
        key, _ = registry.create_key(
            Key("", "team-a", NOON, "ada", upstreams=("frontier",), sensitivity=Sensitivity.INTERNAL), "for team a"
        )
        first = {"snapshot": "c" * 64, "rows": {"train": 320, "test": 80}, "recipe": {"family": "encoder", "seed": 7}}
        registry.register("triage", "encoder", DIGESTS[0], CERTIFIED, first, NOON)
        smaller = {**first, "compressed_from": "triage@1", "learned": {"to": 40}}
        registry.register("triage", "encoder", DIGESTS[1], CERTIFIED, smaller, NOON)
        registry.promote("triage", 2, "ada", "held in the backtest", NOON)
        with Ledger.open(home, clock=lambda: NOON) as ledger:
            deliver_acts(registry, home, ledger.act_now)
            _requests(Filling(ledger, [0], key.id))
            registry.ask_review("kept-1", "triage", "x", None, NOON)
            registry.answer_review("kept-1", "card", "bo", NOON + timedelta(seconds=60))
            registry.suspend("triage", "steward", "risk crossed (row 30)", NOON + timedelta(seconds=61))
            deliver(registry, home, ledger.feedback_now)
            deliver_acts(registry, home, ledger.act_now)
        with Ledger.open(home, clock=lambda: NOON + timedelta(seconds=70)) as ledger:
            late = Filling(ledger, [100], key.id)
            late.request("open", Outcome.ESCALATED, Reason.SUSPENDED, served_by=None)
    return key.id


def _requests(filling: Filling) -> None:
    ask, here, up = filling.request, Outcome.ACCEPTED, Outcome.ESCALATED
    above, below = Reason.ABOVE_THRESHOLD, Reason.BELOW_THRESHOLD
    for number in range(3):
        ask(f"here-{number}", here, above, served_by="specialist:triage@2", cost="0")
    ask("audited", here, above, served_by="specialist:triage@2", audited=True)
    ask("audit-kept", here, above, served_by="specialist:triage@2", audited=True, audit="no reference: kept_local")
    ask("audit-lost", here, above, served_by="specialist:triage@2", audited=True, audit=None)
    ask("label", here, above, served_by="specialist:triage@2")
    for number in range(2):
        ask(f"up-{number}", up, below, served_by="frontier", cost="0.01")
    ask("up-audited", up, below, served_by="frontier", cost="0.01", audited=True)
    ask("up-public", up, below, served_by="frontier", cost="0.01", sensitivity=Sensitivity.PUBLIC)
    ask("up-restricted", up, below, served_by="frontier", cost="0.01", sensitivity=Sensitivity.RESTRICTED)
    ask("failed", up, below, served_by="none", status=502, detail="upstream_unreachable")
    ask("cut", up, below, served_by="frontier", status=503)
    ask("resting", up, below, served_by="none", status=503, detail="upstream_resting")
    ask("kept-1", Outcome.KEPT, Reason.KEPT_LOCAL, served_by="none", status=403, detail="review: below_threshold")
    ask("kept-2", Outcome.KEPT, Reason.KEPT_LOCAL, served_by="none", status=403, detail="below_threshold")
    none = dict.fromkeys(("task", "version", "digest", "score", "threshold"))
    ask("no-task", up, Reason.NO_TASK, served_by="frontier", cost="0.01", **none)
    ask("embedded", here, Reason.COMPUTED, served_by="embeddings:mini", cost="0", **none)
    ask("aborted", up, below, served_by=None)


def configured(home: Path) -> Config:
    """Return the configuration of the home that was filled; written beside it."""
    path = home.parent / "insource.toml"
    path.write_text(TOML)
    return load(path, flags={"store.home": home})


def quiet(done, of):
    """Hear nothing."""


class Home:
    def __init__(self, folder):
        self.home = folder / "home"
        self.key = fill(self.home)
        self.config = configured(self.home)

    def sources(self, opened, now=NOON):
        prover, registry = Prover(self.home), Registry.open(self.home)
        ledger = LedgerReader(self.home)
        for each in (prover, registry, ledger):
            opened.enter_context(each)
        return Sources(prover, ledger, Told(self.config, registry, now))

    def span(self, since=None, until=None, task=None, now=NOON):
        with ExitStack() as opened:
            sources = self.sources(opened, now)
            return answers_of_span(sources, sources.prover.span(since, until), task, report=quiet)

    def request(self, name, now=NOON):
        with ExitStack() as opened:
            return answers_of_request(self.sources(opened, now), name)[0]

    def hand_over(self, folder, *, contents=False, task=None, request=None, since=None):
        folder.mkdir()
        with ExitStack() as opened:
            sources = self.sources(opened)
            if request is not None:
                return fill_with_request(folder, sources, request)
            span = sources.prover.span(since, None)
            return fill_with_span(folder, sources, span, task, contents=contents, report=quiet)


def facts(answers, kind, source="rows"):
    return [each["facts"] for each in answers["statements"] if (each["kind"], each["source"]) == (kind, source)]


def text(answers):
    return " ".join(verify_ledger.page(answers).split())
