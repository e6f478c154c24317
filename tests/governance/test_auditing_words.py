"""What an auditor is told is what insource wrote: not what people say in an act, nor what no row can say of a tier."""

from dataclasses import replace

import pytest

from insource.config import UpstreamConfig
from insource.governance.auditing.answers import Sources, answers_of_span
from insource.governance.auditing.told import Told
from insource.governance.verifier import verify_ledger
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.proving import Prover
from insource.store.registry import Registry
from insource.types import Stage
from reliability.load import NOON
from tests.governance import audited
from tests.governance.audited import DIGESTS, facts, quiet, text


@pytest.mark.parametrize(("how", "who", "detail", "serves"), [
    ("move", "triage@1", f"agreed (shadow to canary at 5 %; digest {DIGESTS[0]}; row {'e' * 64})", True),
    ("move", "triage@1", f"x (canary at 5 % to canary at 1e-05 %; digest {DIGESTS[0]})", True),
    ("move", "triage@1", f"not to canary at once (candidate to shadow; digest {DIGESTS[0]})", False),
    ("move", "triage@1", f"x (shadow to canary at 5 %; digest {'f' * 64}) (canary at 5 % to retired; digest x)", False),
    ("rollback", "triage@2", "it errs (was active; serves now: triage@1)", True),
    ("rollback", "triage@2", "serves now: triage@1) (was canary at 5 %; serves now: none)", False),
    ("suspend", "triage", f"see mail (before: none; digest {'f' * 64})", False),
    ("rollback", "triage@2", f"x (was active; serves now: none; digest {'f' * 64})", False),
])  # fmt: skip
def test_people_s_words_in_an_act_are_no_facts(how, who, detail, serves):
    seen = verify_ledger.Seen(None)
    act = {"seq": 1, "time": 0, "who": "ada", "what": how, "subject": who, "detail": detail}
    seen.add({"kind": "acts", "row": act})
    (taken,) = seen.acts
    assert verify_ledger.puts_to_serve(taken, "triage@1") is serves
    found = verify_ledger.statements(seen, [], 1, 1)
    named = [each["facts"]["digest"] for each in found if each["kind"] == "artifact"]
    assert set(named) <= {DIGESTS[0]} and bool(named) == (how == "move" and "digest x" not in detail)


def test_every_ending_is_read_as_the_registry_writes_it(tmp_path):
    with Registry.open(tmp_path / "home") as registry:
        for version in (1, 2):
            registry.register("triage", "linear", DIGESTS[version - 1], audited.CERTIFIED, {}, NOON)
        registry.promote("triage", 1, "ada", "first", NOON)
        registry.move("triage", 2, expected=Stage.CANDIDATE, to=Stage.CANARY, share=1e-7, who="ada", why="x", now=NOON)
        registry.promote("triage", 2, "ada", "second", NOON)
        registry.rollback("triage", "ada", "it errs", NOON)
        acts = [verify_ledger.Act(0, 0, act.who, act.what, act.subject, act.detail) for act in registry.acts()]
    told = [(act.what, verify_ledger.ending(act).groupdict()) for act in acts if act.what in verify_ledger.ENDINGS]
    assert told == [
        ("promote", {"digest": DIGESTS[0]}), ("move", {"to": "canary at 1e-05 %", "digest": DIGESTS[1]}),
        ("promote", {"digest": DIGESTS[1]}), ("rollback", {"now": "triage@1"}),
    ]  # fmt: skip


def test_what_was_sent_to_a_tier_is_told_with_where_it_stands(tmp_path):
    """Whatever became of the request: answered by the tier, kept, refused, or answered by another upstream."""
    home = tmp_path / "home"
    here, up, kept = audited.Outcome.ACCEPTED, audited.Outcome.ESCALATED, audited.Outcome.KEPT
    below = audited.Reason.BELOW_THRESHOLD
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        ask, tier = audited.Filling(ledger, [0], "k").request, {"tier": "house", "version": 1, "digest": "e" * 64}
        ask("by", here, audited.Reason.ABOVE_THRESHOLD, served_by="tier:triage/house@1", cost="0.01", **tier)
        ask("kept", kept, audited.Reason.KEPT_LOCAL, served_by="none", status=403, detail="below_threshold", **tier)
        ask("refused", up, below, served_by="none", status=403, detail="kept_local", **tier)
        ask("above", up, below, served_by="frontier", cost="0.01", **tier)
        ask("specialist", here, audited.Reason.ABOVE_THRESHOLD, served_by="specialist:triage@2", cost="0")
    config = audited.configured(home)
    place = UpstreamConfig("house", base_url="http://10.0.0.9:8000/v1", jurisdiction="eu")
    config = replace(config, upstreams={**config.upstreams, "house": place})
    with Prover(home) as prover, LedgerReader(home) as reader:
        sources = Sources(prover, reader, Told(config, None, NOON))
        found = answers_of_span(sources, prover.span(None, None), None, report=quiet)
    left = {(each["purpose"], each["upstream"]): each["requests"] for each in facts(found, "left")}
    assert left == {("tier", "house"): 4, ("answer", "frontier"): 1}
    assert facts(found, "stayed") == [{"answered": 1, "kept": 0, "refused": 0}]
    assert {each["upstream"]: (each["host"], each["jurisdiction"]) for each in facts(
        found, "upstream", "configuration")}["house"] == ("10.0.0.9:8000", "eu")  # fmt: skip
    said = text(found)
    assert "4 requests rated internal, with key k, went to house, a tier" in said and "sent nowhere" not in said
    assert "triage/house@1 (artifact eeeeeeeeeeeeeeee, threshold 0.42) answered 1 request of task triage as" in said
    assert "insource train --tier" in said and "lost before its record" in said and "which tiers were asked" in said
