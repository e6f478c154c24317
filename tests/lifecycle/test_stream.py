"""A recorded stream in arrays: what is kept, what is left out, and what it cost."""

from decimal import Decimal

import pytest

from insource.errors import DataError, OpenEndedAnswers
from insource.inputs import InputSettings
from insource.lifecycle.stream import cost_of, estimated_usage, to_stream
from insource.types import Example, Message, Request, Usage


def example(text, answer=None, gold=None, **more):
    return Example(Request("r", (Message("system", "be brief"), Message("user", text))), answer, gold, **more)


def asked(n=20):
    return [example(f"is number {number} odd", "yes" if number % 2 else "no") for number in range(n)]


def test_order_references_and_gold_are_kept():
    stream = to_stream([*asked(), example("gold alone", None, "yes"), example("both", "no", "yes")], InputSettings())
    assert len(stream) == 22 and stream.texts[0] == "is number 0 odd"
    assert stream.references[-2:] == ("yes", "no") and stream.gold[-2:] == ("yes", "yes") and stream.gold[0] is None


def test_what_is_left_out_is_counted():
    picture = Example(Request("p", (Message("user", ({"type": "image_url"},)),)), "yes")
    stream = to_stream([*asked(), example("no reference"), example("  ", "yes"), picture], InputSettings())
    assert (len(stream), stream.unlabelled, stream.textless) == (20, 1, 2)


def test_the_specialist_s_settings_choose_the_messages():
    stream = to_stream(asked(), InputSettings("all"))
    assert stream.texts[0] == "system: be brief\nuser: is number 0 odd"


def test_near_duplicates_and_given_groups_share_a_number():
    given = [*asked(), example("is number 0 odd", "no"), example("quite another", "no", group="g"),
             example("text altogether", "yes", group="g")]  # fmt: skip
    groups = to_stream(given, InputSettings()).groups.tolist()
    assert groups[20] == groups[0] and groups[22] == groups[21] == 21


@pytest.mark.parametrize("given", [[], [example("no reference")] * 5, [example(" ", "yes")] * 5])
def test_a_stream_without_a_request_to_learn_from_is_refused(given):
    with pytest.raises(DataError, match=f"None of {len(given)} requests has both a text and a reference; an answer in"):
        to_stream(given, InputSettings())


def test_open_ended_references_are_refused_with_the_figures():
    given = [example(f"tell me of {number}", f"a story about {number}") for number in range(300)]
    with pytest.raises(OpenEndedAnswers, match="300 distinct answers in 300 requests; 100 % of the requests"):
        to_stream(given, InputSettings())


def test_one_answer_alone_is_refused():
    with pytest.raises(DataError, match="All 5 requests have the answer 'yes'; at least two answers were expected"):
        to_stream([example(f"number {number}", "yes") for number in range(5)], InputSettings())


def test_tokens_are_those_recorded_or_estimated_at_four_characters_each():
    told = to_stream([*asked(), example("recorded", "yes", usage=Usage(700, 9))], InputSettings()).usages
    assert told[-1] == Usage(700, 9)
    assert estimated_usage(example("x" * 9, "yes!!")) == Usage(5, 2)  # 8 + 9 characters asked
    assert estimated_usage(example("", "y")).completion_tokens == 1


def test_prices_are_for_a_million_tokens():
    assert cost_of(Usage(1_000_000, 500_000), Decimal("2.5"), Decimal("10")) == Decimal("7.5")
    assert cost_of(Usage(1, 0), Decimal("2.5"), Decimal("10")) == Decimal("0.0000025")
