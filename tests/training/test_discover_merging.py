"""Which wordings are one job: equal answers are not enough, and each guard is needed."""

import random

import numpy as np
import pytest

from insource.training.develop import Promise
from insource.training.discovery import answer_kinds, discover, finding, merging, modelling, siblings
from insource.training.discovery.answer_kinds import AnswerKind, agree, answers_of
from insource.training.discovery.merging import Sample, merged, word_vectors
from insource.training.discovery.modelling import model
from tests.training.discovery_logs import FILLER, asking, chats, reviews, sentence, tickets

PROMISE = Promise(0.05, 0.95, {})


def sample(rows, **more):
    texts, labels = zip(*rows, strict=True)
    return Sample(texts, labels, answers_of(labels), more.get("around"), more.get("task"))


def quiet(done, total=None):
    pass


def about_parcels(seed, count):
    """The reviews again, with another question: does it speak of the phone or the website?"""
    for text, _ in reviews(seed, count):
        yield text, "yes" if {"phone", "website", "today", "again"} & set(text.lower().rstrip(".!?").split()) else "no"


def test_wordings_of_one_job_are_merged():
    assert merged([sample(tickets(seed, 300)) for seed in range(3)], quiet) == [[0, 1, 2]]


def test_yes_and_no_to_two_questions_stay_two_jobs():
    jobs = merged([sample(reviews(1, 400)), sample(about_parcels(2, 400)), sample(reviews(3, 400))], quiet)
    assert sorted(map(sorted, jobs)) == [[0, 2], [1]]


def test_without_the_transfer_they_would_be_one(monkeypatch):
    monkeypatch.setattr(merging._Test, "_transfers", lambda *_: True)
    assert merged([sample(reviews(1, 400)), sample(about_parcels(2, 400))], quiet) == [[0, 1]]


def shifted(seed, count):
    """The same question over other inputs: a text in front of each that no ticket has."""
    return [(f"{' '.join(random.Random(seed + n).choices('urgent forwarded chain mail thread'.split(), k=4))} {t}", a)
            for n, (t, a) in enumerate(tickets(seed, count))]  # fmt: skip


def test_the_same_question_over_other_inputs_stays_apart(monkeypatch):
    both = [sample(tickets(1, 400)), sample(shifted(2, 400))]
    assert merged(both, quiet) == [[0], [1]]
    around = ("You sort tickets.",)
    inside = [sample(tickets(1, 400), around=around), sample(shifted(2, 400), around=around)]
    assert merged(inside, quiet) == [[0, 1]]
    monkeypatch.setattr(merging, "TOLD_APART", 1.1)
    assert merged(both, quiet) == [[0, 1]]


def test_where_nothing_can_be_learned_nothing_is_merged():
    coin = random.Random(4)
    both = [sample([(text, coin.choice(["yes", "no"])) for text, _ in chats(seed, 300)]) for seed in (1, 2)]
    assert merged(both, quiet) == [[0], [1]]


def test_tasks_that_requests_name_are_never_merged():
    assert merged([sample(tickets(1, 300), task="a"), sample(tickets(2, 300), task="b")], quiet) == [[0], [1]]


def test_few_rows_are_not_merged():
    assert merged([sample(tickets(1, 300)), sample(tickets(2, 30))], quiet) == [[0], [1]]
    assert merged([], quiet) == [] and merged([sample(tickets(1, 30))], quiet) == [[0]]


def test_an_answer_that_is_missing_by_more_than_chance_sets_two_apart():
    first = answers_of(["ham"] * 90 + ["spam"] * 10)
    assert agree(first, answers_of(["ham"] * 18 + ["spam"] * 2))
    assert not agree(first, answers_of(["ham"] * 80 + ["spam"] * 10 + ["smishing"] * 10))
    assert not agree(first, answers_of(['{"x": "ham"}'] * 50 + ['{"x": "spam"}'] * 5))
    assert not agree(first, answers_of([f"text {n}" for n in range(50)]))


@pytest.mark.parametrize(
    ("raw", "kind", "distinct"),
    [
        (["a", "b"] * 20, AnswerKind.CLOSED, 2),
        (["Yes.", "yes", "NO"] * 20, AnswerKind.CLOSED, 2),
        (['{"label": "a"}', '{"label": "b"}'] * 20, AnswerKind.FIELDS, 2),
        ([f'{{"name": "n{n}", "date": "d{n}"}}' for n in range(40)], AnswerKind.FIELDS, None),
        ([f"a reply of its own, number {n}" for n in range(40)], AnswerKind.FREE, None),
        (["yes"] * 12 + [f"I think {n} things" for n in range(28)], AnswerKind.FREE, None),
        (["ok"] * 40, AnswerKind.ONE, None),
        ([None] * 40, AnswerKind.NONE, None),
        ([], AnswerKind.NONE, None),
    ],
)
def test_kinds_of_answers(raw, kind, distinct):
    found = answers_of(raw)
    assert found.kind is kind and (found.space is None if distinct is None else len(found.space) == distinct)


def test_fields_that_stay_open_and_closed_ones():
    rows = [f'{{"date": "{n} May", "people": {n % 4}, "unit": "guest"}}' for n in range(60)]
    fields = {field.name: field for field in answers_of(rows).fields}
    assert [fields[name].closed for name in ("date", "people", "unit")] == [False, True, True]
    assert answers_of(rows).label_of('{"date": null, "people": 3}') == "people"
    assert answers_of(rows).label_of("none") is None


def test_only_so_many_answers_are_read(monkeypatch):
    monkeypatch.setattr(answer_kinds, "READ", 100)
    assert answers_of(["a", "b", "c"] * 1_000).read == 100


def test_the_curve_rises_and_the_coverage_is_certified():
    texts, labels = zip(*tickets(5, 900), strict=True)
    found = model(texts, np.array([sorted(set(labels)).index(x) for x in labels]), tuple(sorted(set(labels))), PROMISE)
    accuracies = [point.accuracy for point in found.curve]
    assert accuracies[-1] > 0.97 > found.majority + 0.4 and accuracies[-1] >= accuracies[0]
    assert [point.rows for point in found.curve][:2] == [100, 300] and found.curve[-1].held_out == 900
    assert all(p.low <= p.accuracy <= p.high for p in found.curve)
    assert found.calibration.coverage > 0.8 and found.calibration.risk_upper_bound <= 0.05


def doubled():
    """Each text three times, with an answer that only its neighbours tell."""
    coin = random.Random(6)
    rows = [(sentence(coin, FILLER), coin.randint(0, 1)) for _ in range(150)]
    texts = [text for text, _ in rows for _ in range(3)]
    return texts, np.array([label for _, label in rows for _ in range(3)])


def test_near_duplicates_never_straddle(monkeypatch):
    texts, labels = doubled()
    assert model(texts, labels, ("no", "yes"), PROMISE).curve[-1].accuracy < 0.65
    monkeypatch.setattr(modelling, "near_duplicate_groups", lambda texts: np.arange(len(texts)))
    assert model(texts, labels, ("no", "yes"), PROMISE).curve[-1].accuracy > 0.9


def test_too_few_rows_make_no_model():
    assert model(["a b c"] * 10, np.zeros(10, np.intp), ("x", "y"), PROMISE) is None
    assert model(["the same words again"] * 60, np.arange(60) % 2, ("x", "y"), PROMISE) is None


def test_word_vectors_have_length_one_and_take_empty_texts():
    found = word_vectors(["", "one two", "", "three", ""])
    assert np.allclose(np.sqrt(found.multiply(found).sum(axis=1)).ravel(), [0, 1, 0, 1, 0])
    assert word_vectors([]).shape[0] == 0


OPENINGS = ("Hello team, ", "Good morning all, ", "Dear desk, ", "Once more, ", "Quick question, ", "Please help, ")


def forms(seed, count, question):
    """Tickets that begin in one of six ways, as forms do."""
    return [(f"{question}\n{OPENINGS[n % 6]}{text}", topic) for n, (text, topic) in enumerate(tickets(seed, count))]


def found_in(rows):
    examples = [asking(number, text, answer) for number, (text, answer) in enumerate(rows)]
    found = discover(examples, schema_of=lambda request: None, promise=PROMISE, say=lambda title: quiet)
    return [len(proposal.wordings) for proposal in found.proposals], found


def test_data_that_begins_in_a_few_ways_is_one_wording(monkeypatch):
    rows = forms(1, 300, "Which topic has this ticket? One word.")
    ways, found = found_in(rows)
    assert ways == [1] and found.proposals[0].volume.requests == 300
    assert found.proposals[0].wordings[0].literals == ("Which topic has this ticket? One word.\n", "")
    monkeypatch.setattr(finding, "rejoined", lambda wordings, kinds, examples: (wordings, kinds))
    assert sum(found_in(rows)[0]) > 1


def test_questions_that_begin_alike_are_not_joined(monkeypatch):
    rows = [(f"Is this review here angry?\n{text}", answer) for text, answer in reviews(1, 300)]
    rows += [(f"Is this review here about a phone?\n{text}", answer) for text, answer in about_parcels(2, 300)]
    ways, found = found_in(rows)
    assert ways == [1, 1] and [p.volume.requests for p in found.proposals] == [300, 300]
    monkeypatch.setattr(siblings._Pool, "joins", lambda *_: True)
    assert len(found_in(rows)[0]) == 1


def test_a_branch_with_always_the_same_answer_comes_back_to_its_job():
    rows = forms(1, 300, "Which topic has this ticket? One word.")
    rows += [("Which topic has this ticket? One word.\nMy invoice refund, " + text, "billing")
             for text, topic in tickets(9, 200) if topic == "billing"]  # fmt: skip
    ways, found = found_in(rows)
    assert ways == [1] and found.left == () and found.proposals[0].volume.requests == len(rows)
