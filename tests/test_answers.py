"""Labels, JSON replies, and which answers are a closed set."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.answers import AnswerSpace, learn_answers
from insource.answers.folding import fold, json_object
from insource.errors import DataError, OpenEndedAnswers


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ("Billing", "billing"),
        ("  Billing. \n", "billing"),
        ('"Billing"', "billing"),
        ('"Billing."', "billing"),
        ("“Billing”.", "billing"),
        ("`billing`", "billing"),
        ("```\nBilling\n```", "billing"),
        ("```text\nBilling\n```", "billing"),
        ("card \n  arrival", "card arrival"),
        ("STRASSE", "strasse"),
        ("Straße", "strasse"),
        ("ＡＢＣ", "abc"),
        ("1", "1"),
        ("1.5", "1.5"),
        ("etc...", "etc..."),
        (".", "."),
        ('""', '""'),
        ("'", "'"),
        ("c++", "c++"),
        ("it's", "it's"),
        ("", None),
        (" \n", None),
    ],
)
def test_what_a_reply_says(raw, label):
    assert fold(raw) == label


@given(st.text(max_size=30))
def test_a_label_folds_to_itself(raw):
    label = fold(raw)
    assert label is None or fold(label) == label


@given(st.lists(st.text(max_size=8), min_size=1, max_size=12), st.integers(3, 6))
def test_every_rendered_label_is_normalised_to_itself(raws, times):
    try:
        space = learn_answers(raws * times)
    except DataError:
        return
    for index, label in enumerate(space.answers):
        assert space.normalise(space.render(label)) == label
        assert space.index(label) == index
        assert space.normalise(label) == label
        assert space.render(label) in raws
    assert AnswerSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


VALUES = st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


@given(st.lists(VALUES, min_size=2, max_size=6), st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3),
       st.sampled_from([None, 1]), st.booleans(), st.integers(2, 4))  # fmt: skip
def test_every_rendered_json_reply_keeps_its_bytes(values, constants, indent, fenced, times):
    raws = [json.dumps({**constants, "label": value}, indent=indent) for value in values]
    raws = [f"```json\n{raw}\n```" if fenced else raw for raw in raws]
    try:
        space = learn_answers(raws * times)
    except DataError:
        assert len({json.dumps(value) for value in values}) == 1
        return
    assert (space.kind, space.field) == ("json_field", "label")
    for label in space.answers:
        assert space.render(label) in raws
        assert space.normalise(space.render(label)) == label
    assert AnswerSpace.from_json(json.loads(json.dumps(space.to_json()))) == space


def test_the_most_common_form_is_the_reply():
    space = learn_answers(["Billing", "billing.", "billing.", "TECH", "tech", "tech"] * 2)
    assert space.answers == ("billing", "tech")
    assert space.forms == ("billing.", "tech")
    assert space.counts == (6, 6)
    assert space.render("billing") == "billing."
    assert space.same("BILLING", "'billing'")
    assert not space.same("billing", "tech")
    assert not space.same("other", "other")


def test_order_is_by_frequency_then_alphabet_and_not_by_place():
    raws = ["c"] * 3 + ["b"] * 2 + ["a"] * 2
    shuffled = random.Random(1).sample(raws, len(raws))
    assert learn_answers(raws).answers == ("c", "a", "b")
    assert learn_answers(shuffled) == learn_answers(raws)


def test_json_replies_of_another_form_have_no_label():
    space = learn_answers(['{"team": "A",  "v": 1}', '```json\n{"v":1,"team":"b"}\n```'] * 3)
    assert space.answers == ('"A"', '"b"')
    assert space.render('"A"') == '{"team": "A",  "v": 1}'
    assert space.normalise('{"v":1,"team":"A"}') == '"A"'
    assert space.normalise(' ```\n{"v":1, "team":"A"}\n``` ') == '"A"'
    for other in ('{"team":"A"}', '{"team":"A","v":2}', '{"team":"A","v":1,"w":0}', '{"team":"C","v":1}', "A", "",
                  '{"team":"A","v":1', '["A"]', "{" * 5_000):  # fmt: skip
        assert space.normalise(other) is None


def test_people_may_name_a_json_answer_by_its_value():
    space = learn_answers(['{"team": "Ops"}', '{"team": "Law"}', '{"team": 3}'] * 3)
    assert space.find("ops") == space.find('"Ops"') == space.find('{"team":"Ops"}') == '"Ops"'
    assert space.find("3") == "3"
    assert space.find("nobody") is None
    assert [space.display(label) for label in space.answers] == ["Law", "Ops", "3"]


def test_two_json_values_that_read_alike_are_not_guessed():
    assert learn_answers(['{"team": "ops"}', '{"team": "Ops"}'] * 3).find("OPS") is None


FIELDS = ['{"urgent" : true,\t"v": "é",  "team": "Ops"}', '{"team": "Law ß", "urgent": false, "v": "é"}',
          '{"v": "\\u00e9", "team": "Ops", "urgent": false}']  # fmt: skip


def test_the_combinations_of_several_fields_are_one_closed_set():
    space = learn_answers([*FIELDS * 3, FIELDS[0]])
    assert (space.kind, space.field, space.fields, space.varying) == ("json_fields", None, *[("team", "urgent")] * 2)
    ops, law, calm = '{"team":"Ops","urgent":true}', '{"team":"Law ß","urgent":false}', '{"team":"Ops","urgent":false}'
    assert (space.answers, space.counts) == ((ops, law, calm), (4, 3, 3))
    assert [space.render(label) for label in space.answers] == FIELDS  # order, spacing and escapes are the teacher's
    assert space.normalise('```json\n{"team":"Ops","v":"é","urgent":true}\n```') == ops
    assert [space.values(label) for label in (ops, law)] == [('"Ops"', "true"), ('"Law ß"', "false")]
    assert [space.display(label) for label in space.answers] == list(space.answers)
    assert space.same(FIELDS[0], '{"team":"Ops","v":"é","urgent":true}') and not space.same(FIELDS[0], FIELDS[2])
    unseen = '{"team": "Law ß", "urgent": true, "v": "é"}'
    for other in (unseen, ops, '{"team":"Ops","urgent":true,"v":"e"}', '{"team":"Ops","v":"é"}', "Ops", "",
                  '{"team":"Ops","urgent":true,"v":"é","w":0}', '{"team":"Ops","urgent":1,"v":"é"}'):  # fmt: skip
        assert space.normalise(other) is None


def test_people_may_name_a_combination_by_the_object_of_its_fields():
    space = learn_answers(FIELDS * 3)
    label = '{"team":"Ops","urgent":true}'
    for typed in (label, FIELDS[0], '{"urgent": true, "team": "Ops"}', '{"team":"ops","urgent":true}'):
        assert space.find(typed) == label
    for typed in ('{"team":"Law ß","urgent":true}', '{"team":"Ops"}', "{'team':'Ops'}", "Ops", "", "null"):
        assert space.find(typed) is None


@given(st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=4, max_size=12), st.permutations("abcd"),
       st.sampled_from([None, 1]), st.booleans())  # fmt: skip
def test_every_rendered_reply_of_several_fields_keeps_its_bytes(rows, keys, indent, ascii_only):
    raws = [
        json.dumps({key: {"a": a, "b": b, "c": c, "d": 7}[key] for key in keys}, indent=indent, ensure_ascii=ascii_only)
        for a, b, c in rows
    ]
    try:
        space = learn_answers(raws * 4)
    except DataError:
        assert len(set(raws)) == 1
        return
    for raw in raws:
        label = space.normalise(raw)
        assert space.render(label) == raw and space.find(label) == label
        assert dict(zip(space.varying, space.values(label), strict=True)).keys() <= set("abc")
    told = space.to_json()
    assert AnswerSpace.from_json(json.loads(json.dumps(told))) == space
    assert ("fields" in told) == (space.kind == "json_fields") == (len(space.varying) > 1)


def test_spaces_of_fewer_fields_are_stored_as_ever():
    assert json.dumps(learn_answers(["a", "B"] * 3).to_json()) == (
        '{"kind": "label", "answers": ["a", "b"], "forms": ["a", "B"], "field": null, "counts": [3, 3], "outside": 0}'
    )
    assert list(learn_answers(['{"x": 1, "v": 0}', '{"x": 2, "v": 0}'] * 3).to_json()) == [
        "kind", "answers", "forms", "field", "counts", "outside"
    ]  # fmt: skip


def test_a_field_of_free_text_among_others_is_refused_by_name():
    raws = [json.dumps({"team": i % 3, "urgent": i % 2, "why": f"because {i}"}) for i in range(60)]
    with pytest.raises(OpenEndedAnswers, match=r"60 distinct values of the field 'why' in 60 requests; 100 % "):
        learn_answers(raws)


def test_closed_fields_with_ever_new_combinations_are_refused_with_the_figures():
    raws = [json.dumps({"a": i // 8, "b": i % 8, "v": 1}) for i in range(64)] + ['{"a": 0, "b": 0, "v": 1}'] * 9
    with pytest.raises(
        OpenEndedAnswers,
        match=r"64 distinct combinations of the fields 'a' \(8 values\), 'b' \(8 values\) in 73 requests; 86 % ",
    ):
        learn_answers(raws)


def test_a_few_replies_of_another_form_stay_outside_and_are_counted():
    raws = ['{"team": "a"}', '{"team": "b"}'] * 50
    space = learn_answers([*raws, "I am sorry.", '{"team": "a", "note": 1}'])
    assert (space.answers, space.outside) == (('"a"', '"b"'), 2)
    with pytest.raises(DataError, match="one form was expected"):
        learn_answers(raws + ["a", "b"] * 25)
    with pytest.raises(DataError, match="same fields"):
        learn_answers(raws + ['{"other": "a"}'] * 40)


@pytest.mark.parametrize(
    "raws", [["a", "b"] * 5, [f"class {i}" for i in range(8)] * 8, ["a"] * 9 + ["b"], ["a", "a", "b", "c"],
             [f"c{i}" for i in range(150) for _ in range(2)] + [f"c{i}" for i in range(20)]]
)  # fmt: skip
def test_closed_sets_are_taken(raws):
    assert len(learn_answers(raws)) == len(set(raws))


def test_open_ended_answers_are_refused_with_their_figures():
    raws = [f"text {i}" for i in range(880)] + [f"often {i % 30}" for i in range(120)]
    with pytest.raises(OpenEndedAnswers) as refusal:
        learn_answers(raws)
    assert str(refusal.value).startswith(
        "910 distinct answers in 1,000 requests; 88 % of the requests have an answer seen only once; "
        "a closed set was expected (at most 10 %)."
    )


@pytest.mark.parametrize(
    "raws", [[f"text {i}" for i in range(30)], [f"text {i}" for i in range(10)], ["a", "b"],
             [f"{i % 1_001}" for i in range(30_000)], [json.dumps({"summary": f"s{i}"}) for i in range(50)],
             ["a", "b"] * 400 + [f"I think {i}" for i in range(200)]]
)  # fmt: skip
def test_what_is_no_closed_set_is_refused(raws):
    with pytest.raises(OpenEndedAnswers):
        learn_answers(raws)


def test_one_answer_or_none_is_refused():
    with pytest.raises(DataError, match="All 500 requests have the answer 'x'; at least two"):
        learn_answers(["x"] * 499 + ["X."])
    with pytest.raises(DataError, match="None of the 2 requests has an answer"):
        learn_answers(["", " "])
    with pytest.raises(DataError, match="empty JSON object"):
        learn_answers(["{}"] * 5)


def test_labels_seen_once_are_kept_and_listed():
    space = learn_answers(["a", "b"] * 50 + ["c"])
    assert "c" in space
    assert space.rare == ("c",)


def test_many_replies_are_normalised_in_their_order():
    space = learn_answers(["a", "b"] * 5)
    assert space.normalise_all(["A", None, "x", "b."]) == ["a", None, None, "b"]


@pytest.mark.parametrize(
    "change", [{"kind": "other"}, {"kind": "json_field"}, {"field": "x"}, {"answers": []}, {"forms": ["a"]},
               {"counts": [1]}, {"answers": ["a", "a"]}, {"answers": [1, 2]}, {"more": 1}, {"fields": ["x"]},
               {"fields": ["x", "y"]}, {"kind": "json_fields"}, {"kind": "json_fields", "fields": ["x", "y"]}]
)  # fmt: skip
def test_a_damaged_space_is_refused(change):
    with pytest.raises(DataError):
        AnswerSpace.from_json({**learn_answers(["a", "b"] * 5).to_json(), **change})


@pytest.mark.parametrize(
    "change", [{"fields": ["team"]}, {"fields": ["team", "team"]}, {"fields": ["team", "v"]}, {"field": "team"},
               {"kind": "label"}, {"kind": "json_field"}, {"fields": 3}]
)  # fmt: skip
def test_a_damaged_space_of_several_fields_is_refused(change):
    told = learn_answers(FIELDS * 3).to_json()
    assert AnswerSpace.from_json(told).fields == ("team", "urgent")
    with pytest.raises(DataError):
        AnswerSpace.from_json({**told, **change})


@given(st.text(max_size=40) | st.sampled_from(['{"a":1}', "{}", "{" * 9_999, '{"a":1e999}', '{"a":"\\ud800"}', "[1]"]))
def test_reading_json_never_fails(raw):
    assert json_object(raw) is None or isinstance(json_object(raw), dict)
