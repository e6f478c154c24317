"""Learning: which references are taken and with which answer, what may certify, and what is refused aloud."""

import random
from dataclasses import replace
from datetime import timedelta

import pytest

from insource.answers import learn_answers
from insource.errors import DataError, UserError
from insource.inputs import MESSAGES, InputSettings
from insource.lifecycle.learn import Learned, NotYet, School, check_form
from insource.lifecycle.lessons import Lesson, choose, gather, unbiased
from insource.store.artifacts import ArtifactStore
from insource.store.columns import Feedback, Source
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry
from insource.training.recipe import Recipe
from insource.types import Audit, Content, Decision, Message, Outcome, Reason, Request, Settlement, Task
from reliability.rehearsed import NOON

TASK = Task("triage", content="full")
UP, ACCEPTED = Outcome.ESCALATED, Outcome.ACCEPTED


class Home:
    """A real ledger and registry; requests are written by kind."""

    def __init__(self, path):
        self.path, self.number = path, 0
        path.mkdir()
        self.registry = Registry.open(path)
        self.ledger = Ledger.open(path, clock=lambda: NOON)

    def write(self, text, reference, *, reason=Reason.NO_SPECIALIST, outcome=UP, audited=False, said=None, keep=True,
              days=0):  # fmt: skip
        """Write one request as the gateway does, with a clock that is off by so many days, and return its id."""
        self.number += 1
        name, when = f"r-{self.number}", NOON + timedelta(days=days, seconds=self.number)
        decision = Decision(name, when, outcome, reason, "triage", None if outcome is UP else 1, audited=audited)
        self.ledger.append_now(decision, Content(name, when, "triage", text, answer=said), keep_text=keep)
        if outcome is UP:
            told = Content(name, when, "triage", text, reference=reference)
            self.ledger.settle(Settlement(name, when, 200, "up", 0.1), told, keep_text=keep).result()
        elif audited:
            told = Content(name, when, "triage", text, reference=reference)
            self.ledger.audit(Audit(name, when, "triage", 1, True, said == reference), told, keep_text=keep).result()
        return name

    def school(self):
        """Return what learns here."""
        return School(LedgerReader(self.path), self.registry, ArtifactStore(self.path), home=self.path,
                      say=lambda title: lambda done, of=None: None, now=lambda: NOON)  # fmt: skip

    def lessons(self):
        """Return what there is to learn."""
        with LedgerReader(self.path) as ledger:
            return gather(ledger.references("triage"), self.registry.reviews("triage", "answered"), ledger.decision,
                          ledger.feedback)  # fmt: skip

    def correct(self, name, answer, source=Source.FEEDBACK, after=0):
        """Record a person's answer."""
        self.ledger.feedback_now(
            Feedback(name, NOON + timedelta(days=1, seconds=after), "triage", answer, "ada", source)
        )


@pytest.fixture
def home(tmp_path):
    made = Home(tmp_path / "home")
    yield made
    made.ledger.close()
    made.registry.close()


@pytest.fixture
def filled(home, tickets):
    def fill(n, seed=0, **told):
        for line in tickets(n, seed=seed):
            home.write(line["text"], line["answer"], **told)
        return home

    return fill


def lesson(seq, text="t", answer="card", source="upstream", fair=True):
    return Lesson(seq, f"r-{seq}", NOON, text, answer, source, fair)


def test_an_accepted_answer_is_never_learned_and_its_audit_is(home):
    home.write("mine", None, outcome=ACCEPTED, reason=Reason.ABOVE_THRESHOLD, said="card")
    home.write("theirs", "refund", outcome=ACCEPTED, reason=Reason.ABOVE_THRESHOLD, said="card", audited=True)
    assert [(each.text, each.answer, each.unbiased) for each in home.lessons()] == [("theirs", "refund", True)]


def test_any_other_source_is_refused():
    with pytest.raises(ValueError, match="gold or upstream"):
        gather([(1, "r", NOON, "text", "card", "specialist", None)], (), lambda request: None)


def test_gold_counts_above_the_teacher_and_feedback_above_a_review(home):
    plain, corrected, reviewed, both = (home.write(f"text {n}", "card") for n in range(4))
    home.correct(corrected, "refund")
    home.correct(reviewed, "login", Source.REVIEW)
    home.correct(both, "refund")
    home.correct(both, "login", Source.REVIEW, after=5)
    found = {each.request_id: (each.answer, each.source) for each in home.lessons()}
    assert found == {plain: ("card", "upstream"), corrected: ("refund", "gold"), reviewed: ("login", "review"),
                     both: ("refund", "gold")}  # fmt: skip


def test_clocks_that_jump_change_neither_the_order_of_lessons_nor_what_certifies(home):
    draw = random.Random(0)
    for number in range(40):
        home.write(f"text {number}", "card", days=draw.randint(-400, 400),
                   reason=draw.choice([Reason.NO_SPECIALIST, Reason.BELOW_THRESHOLD]))  # fmt: skip
    lessons = home.lessons()
    assert [lesson.text for lesson in lessons] == [f"text {number}" for number in range(40)]
    chosen = choose(lessons, evidence_after=lessons[19].seq, window=10)
    assert {lesson.text for lesson in lessons[30:]} <= {each.text for each in (*chosen.evidence, *chosen.also)}
    assert chosen.evidence and all(each.seq > lessons[19].seq and each.unbiased for each in chosen.evidence)


def test_a_later_correction_replaces_an_earlier_one(home):
    name = home.write("text", "card")
    home.correct(name, "refund")
    home.correct(name, "login", after=5)
    assert [each.answer for each in home.lessons()] == ["login"]


def test_a_kept_request_that_a_person_answered_teaches_and_does_not_certify(home):
    decision = Decision("k-1", NOON, Outcome.KEPT, Reason.KEPT_LOCAL, "triage", audited=True)
    home.ledger.append_now(decision)
    home.registry.ask_review("k-1", "triage", "secret", None, NOON)
    home.registry.answer_review("k-1", "card", "ada", NOON)
    (found,) = home.lessons()
    assert (found.text, found.answer, found.gold, found.unbiased) == ("secret", "card", True, False)


@pytest.mark.parametrize(("reason", "audited", "fair"), [
    (Reason.NO_SPECIALIST, False, True), (Reason.NO_THRESHOLD, False, True), (Reason.SUSPENDED, False, True),
    (Reason.BELOW_THRESHOLD, False, False), (Reason.BELOW_THRESHOLD, True, True),
    (Reason.SPECIALIST_FAILED, False, False), (Reason.UNSUPPORTED_FIELD, False, False),
])  # fmt: skip
def test_what_is_unbiased(reason, audited, fair):
    assert unbiased(Decision("r", NOON, UP, reason, "triage", audited=audited)) is fair


def test_evidence_keeps_its_repeats_and_what_only_teaches_does_not():
    lessons = [lesson(1, "a"), lesson(2, "a"), lesson(3, "b", fair=False), lesson(4, "b", fair=False),
               lesson(5, "a", fair=False), lesson(6, "b", "refund", fair=False)]  # fmt: skip
    found = choose(lessons)
    assert [each.seq for each in found.evidence] == [1, 2]
    assert [each.seq for each in found.also] == [4, 6]
    assert found.left_out == {"repeated": 2}


def test_the_newest_are_all_taken_and_of_the_older_as_many_at_random():
    found = choose([lesson(n, f"t{n}") for n in range(1_000)], window=100, seed=1)
    taken = [each.seq for each in found.evidence]
    assert len(taken) == 200 and taken[100:] == list(range(900, 1_000))
    assert max(taken[:100]) - min(taken[:100]) > 600
    assert choose([lesson(n, f"t{n}") for n in range(1_000)], window=100, seed=1) == found


def test_after_a_suspension_only_what_came_since_certifies():
    found = choose([lesson(n, f"t{n}") for n in range(10)], evidence_after=6)
    assert ([each.seq for each in found.evidence], found.also, len(found.older)) == ([7, 8, 9], (), 7)
    mixed = choose([lesson(n, f"t{n}", fair=n % 2 == 0) for n in range(10)], evidence_after=6)
    assert [[each.seq for each in part] for part in (mixed.evidence, mixed.also)] == [[8], [7, 9]]
    assert [each.seq for each in mixed.older] == list(range(7))


TALKS = (
    (Message("system", "Sort."), Message("user", "my card"), Message("assistant", "card: yes"), Message("user", "so?")),
    (Message("user", "a: b\nuser: c"),),
    (Message("developer", ""), Message("user", "my card: lost")),
    (Message("user", "x" * 30_000),),
)


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("messages", MESSAGES)
def test_what_is_learned_reads_as_what_was_served(talk, messages):
    """The recorder keeps what the specialist sees; read again as training reads, it has to be the same."""
    inputs = InputSettings(messages)
    seen = inputs.text_of(Request("r", talk))
    assert inputs.text_of(lesson(1, seen).example(messages).request) == seen


def test_control_as_a_user_s_message_a_conversation_would_read_differently():
    inputs = InputSettings("all")
    seen = inputs.text_of(Request("r", TALKS[0]))
    assert inputs.text_of(lesson(1, seen).example().request) == f"user: {seen}"


def test_a_conversation_is_trained_on_as_it_was_served(home, tickets):
    task = replace(TASK, messages="all")
    for line in tickets(300):
        home.write(f"system: Sort.\nuser: {line['text']}", line["answer"])
    found = home.school().learn(task, Recipe("linear"))
    assert {text[:20] for text in found.trained.snapshot.texts} == {"system: Sort.\nuser: "}


def test_a_first_version_and_then_nothing_until_there_is_a_quarter_more(filled):
    home = filled(400)
    found = home.school().learn(TASK, Recipe("linear"))
    assert isinstance(found, Learned) and (found.evidence, found.new) == (400, 400)
    version = home.registry.get("triage")
    assert version.calibration.threshold is not None and version.lineage["learned"]["evidence"] == 400
    assert home.school().learn(TASK, Recipe("linear")) == NotYet("0 new references of 400; at least 80 were expected")
    filled(110, seed=1, reason=Reason.BELOW_THRESHOLD)
    found = home.school().learn(TASK, Recipe("linear"))
    assert isinstance(found, Learned) and (found.evidence, found.also, found.new) == (400, 110, 110)
    assert home.registry.get("triage").version == 2


def test_what_is_to_stay_the_same_is_the_last_version_s(filled):
    home = filled(100)
    school = home.school()
    school.learn(TASK, Recipe("linear", base="some/model", balance=0.5, seed=3), same=("base", "balance"))  # the first
    for same, found in ((("base", "balance"), ("some/model", 0.5)), (("base",), ("some/model", 0.0))):
        school.learn(TASK, Recipe("linear"), anyway=True, same=same)
        told = home.registry.versions("triage")[-1].lineage["recipe"]
        assert (told["base"], told["balance"]) == found and told["seed"] == 0
    school.learn(TASK, Recipe("linear"), anyway=True)
    assert home.registry.versions("triage")[-1].lineage["recipe"]["base"] == Recipe().base


def test_biased_rows_teach_and_neither_certify_nor_test(filled):
    home = filled(300)
    filled(200, seed=1, reason=Reason.BELOW_THRESHOLD)
    found = home.school().learn(TASK, Recipe("linear"))
    assert sum(found.trained.figures.rows[::2]) == 300  # rows to fit with a certificate, and to test
    assert found.trained.version.calibration.rows <= 300
    assert found.also == 200


def test_digests_teach_nothing_and_that_is_said(home):
    home.write("text", "card", keep=False)
    with pytest.raises(UserError, match=r'content = "full" was expected'):
        home.school().learn(replace(TASK, content="digest"))
    assert home.lessons() == []


def test_a_teacher_that_changed_its_format_overnight_is_refused_until_a_person_says_so(filled, tickets):
    home = filled(300)
    home.school().learn(TASK, Recipe("linear"))
    for line in tickets(150, seed=2):
        home.write(line["text"], f"Category: {line['answer']}!")
    with pytest.raises(DataError, match=r"150 of 150 new references .* 'Category: "):
        home.school().learn(TASK, Recipe("linear"))
    assert len(home.registry.versions("triage")) == 1
    found = home.school().learn(TASK, Recipe("linear"), new_answers=True)
    assert len(found.trained.snapshot.answers) == 6


def test_a_few_strange_references_are_left_out_and_counted(filled):
    home = filled(300)
    home.school().learn(TASK, Recipe("linear"))
    filled(150, seed=2)
    for n in range(3):
        home.write(f"odd {n}", "I cannot help with that.")
    found = home.school().learn(TASK, Recipe("linear"))
    assert found.left_out["outside the closed set"] == 3
    assert len(found.trained.snapshot.answers) == 3


def test_a_person_may_bring_a_new_answer():
    space = learn_answers(["card", "refund"] * 10)
    check_form(TASK, [lesson(n, answer="card") for n in range(30)], space)
    with pytest.raises(DataError):
        check_form(TASK, [lesson(n, answer="login") for n in range(30)], space)


def test_while_suspended_it_learns_from_as_many_as_can_certify(filled):
    home = filled(400)
    home.school().learn(TASK, Recipe("linear"))
    home.registry.suspend("triage", "steward", "risk (ledger row 801)", NOON)
    found = home.school().learn(TASK, Recipe("linear"))
    assert found == NotYet("0 of 59 unbiased references since the last suspension or re-certification")
    filled(80, seed=3, reason=Reason.SUSPENDED, audited=True)
    found = home.school().learn(TASK, Recipe("linear"))
    assert (found.evidence, found.also) == (80, 400)
    again = home.school().learn(TASK, Recipe("linear"))
    assert again == NotYet(
        "0 new references of 80 since the last suspension or re-certification; at least 16 were expected"
    )
