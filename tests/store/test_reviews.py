"""The queue of kept requests: answered once, by many processes at once, and erased in time."""

import subprocess
import sys
from datetime import timedelta

import apsw
import pytest

from insource.errors import UnknownReview, UserError
from insource.store.content_keys import ContentKeys
from insource.store.database import open_database
from insource.store.migrations import REGISTRY
from insource.store.registry import FILE, Registry
from insource.store.reviews import State
from insource.types import Stage

CANARY = "canary-7f3a where is my card?"
DAY = timedelta(days=1)


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path) as registry:
        yield registry


def ask(registry, noon, request_id="r-1", task="triage", text="where is my card?", time=None):
    registry.ask_review(request_id, task, text, "card", time or noon, 0.25)


def test_what_is_asked_waits_oldest_first(registry, noon):
    ask(registry, noon, "b", time=noon + DAY)
    ask(registry, noon, "a")
    ask(registry, noon, "c", task="other")
    assert [review.request_id for review in registry.reviews()] == ["a", "c", "b"]
    assert [review.request_id for review in registry.reviews("triage")] == ["a", "b"]
    assert registry.waiting_reviews() == 3
    review = registry.review("a")
    assert (review.task, review.text, review.suggestion, review.score) == ("triage", "where is my card?", "card", 0.25)
    assert (review.state, review.time, review.answer, review.who, review.answered_at) == ("waiting", noon, *[None] * 3)


def test_asking_twice_changes_nothing(registry, noon):
    ask(registry, noon)
    registry.answer_review("r-1", "refund", "ada", noon)
    ask(registry, noon, text="something else")
    assert registry.review("r-1").state is State.ANSWERED and registry.review("r-1").text == "where is my card?"


def test_an_answer_is_recorded_with_who_and_as_an_act_without_a_word_of_it(registry, noon):
    ask(registry, noon, text=CANARY)
    ask(registry, noon, "r-2", text=CANARY)
    review = registry.answer_review("r-1", CANARY, "ada", noon + DAY)
    assert (review.state, review.answer, review.who, review.answered_at) == ("answered", CANARY, "ada", noon + DAY)
    assert registry.dismiss_review("r-2", "grace", noon + DAY).state is State.DISMISSED
    assert registry.reviews() == () and registry.waiting_reviews() == 0
    assert [review.request_id for review in registry.reviews(state=None)] == ["r-1", "r-2"]
    acts = [(act.who, act.what, act.subject, act.detail) for act in registry.acts()]
    assert acts == [
        ("ada", "review", "r-1", "answered, task triage"),
        ("grace", "review", "r-2", "dismissed, task triage"),
    ]


def test_nothing_is_answered_twice_and_nothing_unknown(registry, noon):
    ask(registry, noon)
    registry.answer_review("r-1", "card", "ada", noon)
    for again in (lambda: registry.answer_review("r-1", "refund", "bob", noon),
                  lambda: registry.dismiss_review("r-1", "bob", noon)):  # fmt: skip
        with pytest.raises(UserError, match="was answered already, by ada; one that waits was expected"):
            again()
    with pytest.raises(UnknownReview, match="No request 'r-9' was queued.*insource review"):
        registry.answer_review("r-9", "card", "ada", noon)
    assert registry.review("r-9") is None
    assert registry.review("r-1").answer == "card" and len(registry.acts()) == 1


def test_export_gives_the_answered_as_gold(registry, noon):
    for number in range(3):
        ask(registry, noon, f"r-{number}", time=noon + number * DAY)
    ask(registry, noon, "other", task="other")
    registry.answer_review("r-1", "refund", "ada", noon)
    registry.answer_review("other", "yes", "ada", noon)
    registry.dismiss_review("r-2", "ada", noon)
    told = {"text": "where is my card?", "gold": "refund", "task": "triage", "time": noon + DAY}
    assert list(registry.export_reviews("triage")) == [told]
    assert [record["gold"] for record in registry.export_reviews()] == ["yes", "refund"]


def raw_bytes(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.glob(f"{FILE}*")))


def sealed_texts(registry):
    return [row[0].encode() for row in registry._read("SELECT text FROM reviews WHERE state <> 'waiting'", ())]


def test_texts_are_erased_once_they_have_outlived_their_retention(tmp_path, registry, noon):
    text = "canary-7f3a " * 600  # longer than a page
    ask(registry, noon, "old", text=text)
    ask(registry, noon, "small", text="canary-7f3a")
    ask(registry, noon, "waiting", text="still wanted")
    registry.answer_review("old", "card", "ada", noon)
    registry.dismiss_review("small", "ada", noon)
    assert registry.purge_reviews(noon + 30 * DAY - timedelta(seconds=1), 30 * DAY) == 0
    assert registry.review("old").text == text and b"canary-7f3a" not in raw_bytes(tmp_path)
    sealed = [piece for text in sealed_texts(registry) for piece in (text[:40], text[-40:])]
    assert len(sealed) == 4 and all(piece in raw_bytes(tmp_path) for piece in sealed)
    assert registry.purge_reviews(noon + 30 * DAY, 30 * DAY) == 2
    assert not any(piece in raw_bytes(tmp_path) for piece in sealed)  # neither in the file nor in its log
    old = registry.review("old")
    assert (old.text, old.suggestion, old.answer, old.who) == (None, None, "card", "ada")
    assert registry.review("waiting").text == "still wanted"
    assert registry.purge_reviews(noon + 400 * DAY, 30 * DAY) == 0
    assert list(registry.export_reviews()) == []


def test_a_task_may_keep_its_texts_for_longer_or_less_long_than_others(registry, noon):
    tasks = {"week": 7 * DAY, "year": 365 * DAY}
    for task in ("week", "year", "triage"):
        ask(registry, noon, task, task=task)
        registry.answer_review(task, "card", "ada", noon)
    ask(registry, noon, "waiting", task="week")

    def left(after):
        registry.purge_reviews(noon + after, 30 * DAY, tasks)
        return {review.request_id for review in registry.reviews(state=None) if review.text is not None}

    hair = timedelta(microseconds=1)
    assert left(7 * DAY - hair) == {"week", "year", "triage", "waiting"}
    assert left(7 * DAY) == left(30 * DAY - hair) == {"year", "triage", "waiting"}
    assert left(30 * DAY) == left(365 * DAY - hair) == {"year", "waiting"}
    assert left(365 * DAY) == {"waiting"}
    registry.dismiss_review("waiting", "ada", noon)
    assert registry.purge_reviews(noon + 7 * DAY, 30 * DAY, tasks) == 1


def test_without_secure_deletion_the_bytes_would_stay(tmp_path, noon):
    """The control: the scan of raw bytes does see what is only unlinked."""
    with Registry.open(tmp_path) as registry:
        registry._connection.execute("PRAGMA secure_delete = OFF")
        ask(registry, noon, "old", text="canary-7f3a " * 600)
        registry.answer_review("old", "card", "ada", noon)
        (sealed,) = sealed_texts(registry)
        assert registry.purge_reviews(noon + 30 * DAY, 30 * DAY) == 1
    assert sealed[-40:] in raw_bytes(tmp_path)


GUARDED = [
    ("UPDATE reviews SET answer = 'other'", "answered or dismissed once", "reviews_are_closed_once"),
    ("UPDATE reviews SET task = 'other'", "only the answer is added", "reviews_keep_their_question"),
    ("UPDATE reviews SET text = 'other'", "erased, never changed", "review_texts_are_erased_only"),
    ("DELETE FROM reviews", "never deleted", "reviews_are_not_deleted"),
]


@pytest.mark.parametrize(("write", "words", "trigger"), GUARDED)
def test_the_file_itself_refuses_to_rewrite_what_was_answered(tmp_path, registry, noon, write, words, trigger):
    ask(registry, noon)
    registry.answer_review("r-1", "card", "ada", noon)
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match=words):
        connection.execute(write)
    connection.execute(f"DROP TRIGGER {trigger}")  # the control: without its trigger the write goes through
    connection.execute(write)
    assert connection.changes() == 1
    connection.close()


def test_a_text_that_is_awaited_is_not_erased(tmp_path, registry, noon):
    ask(registry, noon)
    connection = apsw.Connection(str(tmp_path / FILE))
    with pytest.raises(apsw.ConstraintError, match="erased, never changed"):
        connection.execute("UPDATE reviews SET text = NULL")
    connection.close()


def test_a_lone_surrogate_can_be_asked_and_answered(registry, noon):
    ask(registry, noon, text="a\ud800b")
    assert registry.review("r-1").text == "a\\ud800b"
    assert registry.answer_review("r-1", "c\ud800", "ada", noon).answer == "c\\ud800"


def test_a_registry_of_the_first_schema_is_brought_up_to_date(tmp_path, noon):
    connection = apsw.Connection(str(tmp_path / FILE))
    REGISTRY[0](connection)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("INSERT INTO versions VALUES ('triage', 1, 'linear', 'd', 'active', 0, NULL, '{}')")
    connection.close()
    with Registry.open(tmp_path) as registry:
        assert registry.active("triage").stage is Stage.ACTIVE
        ask(registry, noon)
        assert registry.waiting_reviews() == 1


RACER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from insource.errors import UserError
from insource.store.registry import Registry
now = datetime(2026, 11, 21, tzinfo=UTC)
with Registry.open(Path(sys.argv[1])) as registry:
    for number in range(20):
        registry.ask_review(f"{sys.argv[2]}-{number}", "triage", "text", None, now)
        try:
            registry.answer_review(f"r-{number}", sys.argv[2], sys.argv[2], now)
        except UserError:
            pass
"""


def test_many_processes_ask_and_answer_at_once(tmp_path, registry, noon, child_environment):
    for number in range(20):
        ask(registry, noon, f"r-{number}")
    children = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), name], env=child_environment) for name in "xyz"
    ]
    assert [child.wait() for child in children] == [0, 0, 0]
    answered = registry.reviews(state="answered")
    assert len(answered) == 20 and len(registry.acts()) == 20  # each once, whoever was first
    assert {act.subject: act.who for act in registry.acts()} == {each.request_id: each.answer for each in answered}
    assert registry.waiting_reviews() == 60


def test_what_is_about_a_subject_is_erased_and_what_waits_is_dismissed(tmp_path, registry, noon):
    for name, subject in (("waits", "ada"), ("answered", "ada"), ("other", "bob"), ("nobody", None)):
        registry.ask_review(name, "triage", f"text of {name}", "card", noon, 0.25, subject)
    registry.answer_review("answered", "card", "carol", noon)
    with ContentKeys.open(tmp_path) as keys:
        ids = keys.erase("ada", noon)
    assert registry.review("waits").text is None  # already: its key is gone
    assert set(registry.erase_reviews(ids, "dpo", noon)) == {"waits", "answered"}
    assert registry.erase_reviews(ids, "dpo", noon) == ()
    waited, answered = registry.review("waits"), registry.review("answered")
    assert (waited.state, waited.who, waited.text, waited.suggestion) == ("dismissed", "dpo", None, None)
    assert (answered.state, answered.answer, answered.text) == ("answered", "card", None)
    assert [registry.review(name).text for name in ("other", "nobody")] == ["text of other", "text of nobody"]
    registry.ask_review("late", "triage", "text of late", None, noon, subject="ada")
    assert registry.review("late") is None


def test_reviews_of_an_older_insource_are_sealed_and_no_byte_of_them_stays(tmp_path, noon):
    connection = open_database(tmp_path / FILE, migrations=REGISTRY[:8])
    insert = "INSERT INTO reviews (request_id, time, task, text, suggestion, state) VALUES (?, 1, 't', ?, ?, 'waiting')"
    connection.execute("BEGIN")
    texts = {f"r-{n:04}": f"canary-7f3a {n} " * (1 + n % 40) for n in range(600)}
    connection.executemany(insert, [(name, text, "card") for name, text in texts.items()])
    connection.execute(insert, ("r-none", None, None))
    connection.execute("COMMIT")
    connection.close()
    assert b"canary-7f3a" in raw_bytes(tmp_path)  # the control
    with Registry.open(tmp_path) as registry:
        assert b"canary-7f3a" not in raw_bytes(tmp_path)
        assert {each.request_id: each.text for each in registry.reviews()} == {**texts, "r-none": None}
        assert registry.review("r-none").suggestion is None and registry.review("r-0001").suggestion == "card"
        for change in ("UPDATE reviews SET text = 'x'", "UPDATE reviews SET seal = NULL", "DELETE FROM reviews"):
            with pytest.raises(apsw.ConstraintError):
                registry._connection.execute(change)
