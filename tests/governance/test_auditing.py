"""An auditor's answers: what follows from a real ledger's rows, and what is only told."""

from datetime import timedelta

import apsw
import pytest

from insource.errors import StoreError, UserError
from insource.governance.auditing.answers import Sources, answers_of_request, answers_of_span
from insource.governance.auditing.told import Told
from insource.governance.verifier import verify_ledger
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.proving import Prover, Span
from insource.store.registry import Registry
from reliability.load import NOON
from tests.governance import audited
from tests.governance.audited import CANARY, DIGESTS, Home, facts, quiet, text


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    return Home(tmp_path_factory.mktemp("audited"))


def test_which_model_answered_how_often_with_what_outcome(filled):
    found = filled.span()
    own, embedded = facts(found, "accepted")
    assert (own["by"], own["digest"], own["threshold"], own["requests"]) == ("triage@2", DIGESTS[1], "0.42", 7)
    assert own["reasons"] == {"above_threshold": 7} and embedded["reasons"] == {"computed": 1}
    up = {each["task"]: each for each in facts(found, "escalated")}
    assert up["triage"]["requests"] == 6 and up["triage"]["statuses"] == {"200": 5, "503": 1}
    assert up[None]["upstream"] == "frontier" and up[None]["reasons"] == {"no_task": 1}
    assert facts(found, "unanswered")[0]["why"] == {"upstream_unreachable": 1, "upstream_resting": 1}
    assert facts(found, "kept") == [{"task": "triage", "requests": 2, "for_review": 1}]


def test_every_request_stands_in_exactly_one_answer_on_where_it_went(filled):
    left = {(each["purpose"], each["upstream"], each["sensitivity"]): each["requests"]
            for each in facts(filled.span(), "left")}  # fmt: skip
    assert left == {
        ("answer", "frontier", "internal"): 5,  # two, one audited, one cut off, one of no task
        ("answer", "frontier", "public"): 1,
        ("answer", "frontier", "restricted"): 1,
        ("failed", None, "internal"): 1,
        ("reference", None, "internal"): 1,
        ("label", None, "internal"): 1,
        ("open", None, "internal"): 3,  # its audit was lost, it was aborted, it is open
    }
    assert facts(filled.span(), "stayed") == [{"answered": 5, "kept": 2, "refused": 1}]
    assert sum(left.values()) + 8 == facts(filled.span(), "requests")[0]["decided"]


def test_where_it_went_and_whether_the_key_allowed_it_is_told_not_proved(filled):
    found = filled.span()
    assert facts(found, "upstream", "configuration") == [
        {"upstream": "frontier", "host": "api.example.com:8443", "jurisdiction": "us"}
    ]
    allowed = {(each["upstream"], each["sensitivity"]): each["allowed"] for each in facts(found, "key", "registry")}
    assert allowed == {("frontier", "internal"): True, ("frontier", "public"): True, ("frontier", "restricted"): False,
                       (None, "internal"): True}  # fmt: skip
    assert f"Key {filled.key} (team-a, made by ada) does NOT allow texts rated restricted" in text(found)


def test_a_version_s_row_is_proved_where_an_act_names_its_digest_and_told_else(filled):
    found = filled.span()
    (proved,) = facts(found, "version", verify_ledger.SEALED)
    assert (proved["version"], proved["snapshot"], proved["parents"]) == ("triage@2", "c" * 64, ["triage@1"])
    assert proved["rows"] == {"train": 320, "test": 80} and proved["recipe"]["seed"] == 7
    assert proved["source"] == "references in this ledger up to row 40"
    (told,) = facts(found, "version", "registry")
    assert told["version"] == "triage@1" and told["parents"] == []
    (artifact,) = facts(found, "artifact")
    assert artifact == {"version": "triage@2", "digest": DIGESTS[1], "decisions": 19, "acts": 1}


def test_who_approved_it(filled):
    (found,) = facts(filled.span(), "approval")
    assert found["by"] == "person" and found["act"]["who"] == "ada" and found["act"]["row"] < found["first"]
    assert "a person carries out each step. (told by the configuration)" in text(filled.span())


def test_an_approval_before_the_span_is_proved_by_itself(filled):
    found = filled.span(since=NOON + timedelta(seconds=3))
    assert found["first"] > 4
    (approval,) = facts(found, "approval")
    assert approval["act"]["row"] == 3 and approval["act"]["who"] == "ada"
    assert not facts(found, "elsewhere")  # it is told with the approval
    assert facts(found, "version", verify_ledger.SEALED)[0]["version"] == "triage@2"
    assert facts(filled.span(until=NOON + timedelta(seconds=3)), "elsewhere")[0]["what"] == "suspend"


def test_a_version_that_nobody_promoted_and_one_that_the_steward_did(tmp_path):
    with Registry.open(tmp_path / "home") as registry, Ledger.open(tmp_path / "home", clock=lambda: NOON) as ledger:
        filling = audited.Filling(ledger, [0], "k")
        for version in (1, 2):
            registry.register("triage", "linear", DIGESTS[version - 1], None, {}, NOON)
        ledger.record("steward", "move", "triage@2", f"31 of 31 agreed (shadow to canary at 5 %; digest {DIGESTS[1]})")
        ledger.record("ada", "move", "triage@1", "a look (candidate to shadow; digest x)")  # which answers nothing
        one, two = ({"version": number, "digest": DIGESTS[number - 1]} for number in (1, 2))
        for name, version in (("a", one), ("b", two)):
            filling.request(name, audited.Outcome.ACCEPTED, audited.Reason.ABOVE_THRESHOLD,
                            served_by="specialist", cost="0", **version)  # fmt: skip
    with Prover(tmp_path / "home") as prover, LedgerReader(tmp_path / "home") as reader:
        told = Told(audited.configured(tmp_path / "home"), None, NOON)
        found = answers_of_span(Sources(prover, reader, told), prover.span(None, None), None, report=quiet)
    first, second = facts(found, "approval")
    assert first["act"] is None and "No row that is proved here says who put triage@1 to serve" in text(found)
    assert second["by"] == "steward" and "31 of 31 agreed" in second["act"]["detail"]
    assert "no person is named in it" in text(found) and "triage@1 is not in the registry" in text(found)


def test_a_task_that_nobody_knows_is_refused(filled):
    for name in ("triag", " ", "triage/house"):
        with pytest.raises(UserError, match="the name of a task was expected"):
            filled.span(task=name)


def test_a_request_s_rows_say_nothing_of_restarts_and_proofs(filled):
    found = filled.request("aborted")
    assert facts(found, "requests") == [{"decided": 1, "settled": 0, "open": 1}] and not facts(found, "proofs")
    assert "started again" not in text(found) and "Refusals to sign" not in text(found)
    task = facts(filled.span(task="triage"), "requests")[0]
    assert task == {"decided": 19, "settled": 17, "aborted": 1, "open": 1}
    assert "decided before them" not in text(filled.span(task="triage"))


def test_what_was_changed_stands_in_order_with_who_and_why(filled):
    found = filled.span()
    assert [(each["who"], each["what"]) for each in facts(found, "act")] == [
        ("insource", "start"), ("ada", "create key"), ("ada", "promote"), ("steward", "suspend"), ("insource", "start"),
    ]  # fmt: skip
    assert facts(found, "acts") == [{"who": "bo", "what": "review", "times": 1}]
    assert facts(found, "feedback") == [{"task": "triage", "who": "bo", "source": "review", "answers": 1}]
    assert "for team a" in text(found) and "risk crossed (row 30)" in text(found)


def test_whether_the_record_is_complete(filled):
    found = filled.span()
    (told,) = facts(found, "rows")
    assert (told["first"], told["last"], told["rows"]) == (1, found["signed"], found["signed"])
    assert told["kinds"]["decisions"] == 21 and sum(told["kinds"].values()) == told["rows"]
    (requests,) = facts(found, "requests")
    assert requests == {"decided": 21, "settled": 19, "aborted": 1, "open": 1, "before": 0}
    assert set(facts(found, "proofs")[0].values()) == {0}
    late = filled.span(since=NOON + timedelta(seconds=70))
    assert facts(late, "requests")[0] == {"decided": 1, "settled": 0, "aborted": 0, "open": 1, "before": 0}


def test_acts_about_the_proofs_are_counted(tmp_path):
    """Refusals, a reconciling with its new key, rows from before there were proofs, and rows behind the span."""
    home = tmp_path / "home"
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        audited.Filling(ledger, [0], "k").request(
            "r", audited.Outcome.KEPT, audited.Reason.KEPT_LOCAL, served_by="none"
        )
    connection = apsw.Connection(str(home / FILE))
    connection.execute("DROP TRIGGER heads_are_not_deleted; DELETE FROM heads")
    connection.close()
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        assert ledger.keeper.refusal
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        ledger.keeper.reconcile("ada", "looked into it", ledger.record)
    with Prover(home) as prover, LedgerReader(home) as reader:
        sources = Sources(prover, reader, Told(audited.configured(home), None, NOON))
        found = answers_of_span(sources, prover.span(None, None), None, report=quiet)
        assert facts(found, "proofs") == [{"refusals": 2, "reconciles": 1, "keys": 1, "unproven": 0}]
        assert "ada: reconcile proof: looked into it" in text(found)


def test_one_task_alone(filled):
    found = filled.span(task="triage")
    assert {each["task"] for each in facts(found, "accepted")} == {"triage"}
    assert facts(found, "requests")[0]["decided"] == 19
    other = filled.span(task="other")
    assert not facts(other, "accepted") and not facts(other, "acts") and not facts(other, "feedback")
    assert [each["what"] for each in facts(other, "act")] == ["start", "create key", "start"]
    assert facts(other, "rows") == facts(found, "rows")  # the record is one


@pytest.mark.parametrize(("name", "told"), [
    ("here-0", "1 request of task triage here: 1 above_threshold"),
    ("failed", "no upstream's answer: 1 upstream_unreachable"),
    ("kept-1", "bo gave 1 answer of task triage (review)"),
    ("aborted", "may have left: no row says how they ended"),
])  # fmt: skip
def test_one_request(filled, name, told):
    found = filled.request(name)
    assert found["request"] == name and told in text(found)
    assert facts(found, "text", "ledger, unproven") == [
        {"kept": True, "text": CANARY, "answer": None, "reference": None}
    ]
    assert facts(found, "version", verify_ledger.SEALED)


def test_why_a_text_is_not_there(tmp_path):
    home = tmp_path / "home"
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for name, keep in (("full", True), ("digest", False)):
            decision = audited.Decision(name, NOON, audited.Outcome.KEPT, audited.Reason.KEPT_LOCAL, task="triage")
            ledger.append_now(decision, audited.Content(name, NOON, "triage", CANARY), keep_text=keep)
        ledger.append_now(audited.Decision("none", NOON, audited.Outcome.KEPT, audited.Reason.KEPT_LOCAL))

    def why(name, days=0):
        with Prover(home) as prover, LedgerReader(home) as reader:
            now = NOON + timedelta(days=days)
            sources = Sources(prover, reader, Told(audited.configured(home), None, now))
            return facts(answers_of_request(sources, name)[0], "text", "ledger, unproven")[0].get("why")

    assert why("full") is None and 'content = "digest" when it came' in why("digest")
    assert 'content = "none"' in why("none") and "more than 30 days have passed" in why("digest", 31)
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        ledger.record("ada", "erase", "subject", "asked for it")
    assert "was erased" in why("digest")
    with pytest.raises(UserError, match="no request's"):
        why("ledger")


@pytest.mark.parametrize(
    "how", ["UPDATE decisions SET outcome = 'kept' WHERE seq = 4", "DELETE FROM decisions WHERE seq = 50"]
)
def test_rows_that_are_not_those_that_were_signed_are_neither_answered_nor_handed_over(tmp_path, how):
    broken = Home(tmp_path)
    broken.hand_over(tmp_path / "before")
    connection = apsw.Connection(str(broken.home / FILE))
    connection.execute(f"DROP TRIGGER decisions_are_not_changed; DROP TRIGGER decisions_are_not_deleted; {how}")
    connection.close()
    with pytest.raises(StoreError, match="insource audit verify"):
        broken.span()
    with pytest.raises(StoreError, match="insource audit verify"):
        broken.hand_over(tmp_path / "out")


def test_acts_that_are_newer_than_the_checkpoint_are_said_so(filled, monkeypatch):
    def too_new(prover, subject):
        raise UserError(f"Row 60 of {subject} is newer than the last checkpoint.")

    monkeypatch.setattr(Prover, "prove", too_new)
    assert "Acts about triage@2 outside these rows are not proved: Row 60" in text(filled.span())


def test_names_in_acts_cannot_steer_a_terminal(tmp_path):
    with Ledger.open(tmp_path / "home", clock=lambda: NOON) as ledger:
        ledger.record("ada\x1b[2J", "create key", "x", "line\nWRONG: no")
    with Prover(tmp_path / "home") as prover, LedgerReader(tmp_path / "home") as reader:
        sources = Sources(prover, reader, Told(audited.configured(tmp_path / "home"), None, NOON))
        said = verify_ledger.page(answers_of_span(sources, Span(1, 2), None, report=quiet))
    assert "\x1b" not in said and "\nWRONG" not in said and "create key" in said
