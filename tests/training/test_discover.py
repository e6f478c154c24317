"""Discovery as a whole: which groups become tasks, what is said of them, and what is left alone."""

import json
import random
import tomllib
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from insource.cascade.match import Matcher
from insource.config import load
from insource.errors import DataError
from insource.inputs import InputSettings, slots_of
from insource.training.develop import Promise
from insource.training.discovery import Prices, discover, finding
from insource.training.discovery.answer_kinds import answers_of
from insource.training.discovery.figures import days_of, repetition_of, volume_of
from insource.training.discovery.matching import Claims
from insource.training.discovery.naming import names
from insource.training.discovery.proposal import Proposal, Repetition, Volume, toml
from insource.training.discovery.wordings import NO_TEMPLATE, Frame, Wording, group, support_for
from insource.types import Example, Match, Message, Request, Usage
from tests.training.discovery_logs import HELPFUL, asking, chats, log_of, reviews, tickets

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SORT = "You sort tickets by topic. Reply with the topic only."
PARTS = (
    (SORT, "{}", list(tickets(1, 240))),
    (None, "Which topic has this ticket? One word only.\n{}", list(tickets(2, 240))),
    (HELPFUL, "{}\n\nName the topic of the ticket above.", list(tickets(3, 240))),
    (None, "Is this review angry? Say yes or no.\n{}", list(reviews(4, 240))),
    (HELPFUL, "Review: {}\nIs the customer angry with us? Say yes or no.", list(reviews(5, 240))),
    (HELPFUL, "{}", list(chats(6, 240))),
    (None, "{}", list(chats(7, 240))),
    (None, "Continue this story with a sentence:\n{}", list(chats(8, 240))),
)


def found_in(examples, **more):
    known = {"schema_of": lambda request: request.fields.get("schema"), "promise": Promise(0.05, 0.95, {})}
    return discover(examples, **known, say=lambda title: lambda done, total=None: None, **more)


@pytest.fixture(scope="module")
def mixed():
    examples, parts = log_of(*PARTS)
    return found_in(examples), examples, parts


def test_every_job_is_found_its_wordings_are_merged_and_no_two_jobs_are(mixed):
    found, _, parts = mixed
    inside = [Counter(parts[row] for wording in p.wordings for row in wording.rows) for p in found.proposals]
    assert inside == [Counter({0: 240, 1: 240, 2: 240}), Counter({3: 240, 4: 240})]
    assert [proposal.answers.kind.value for proposal in found.proposals] == ["closed set"] * 2


def test_free_chat_is_left_and_every_request_is_somewhere(mixed):
    found, examples, parts = mixed
    assert {each.why for each in found.left} == {"free text: answers come from no closed set"}
    left = Counter(parts[row] for each in found.left for row in each.wording.rows)
    assert left == Counter({5: 240, 6: 240, 7: 240})
    told = sum(p.volume.requests for p in found.proposals) + sum(each.volume.requests for each in found.left)
    assert told + found.rare + found.textless == len(examples)


def test_what_is_said_of_a_proposal(mixed):
    tickets_, angry = mixed[0].proposals
    assert tickets_.volume.share == pytest.approx(720 / 1920) and tickets_.volume.spend is None
    assert tickets_.volume.per_day is None and mixed[0].days is None
    assert tickets_.modelled.curve[-1].accuracy > 0.9 and tickets_.modelled.calibration.coverage > 0.5
    assert "topic" in tickets_.name and "angry" in angry.name
    assert tickets_.claims.match.system_prompts == (SORT,) and tickets_.claims.unreached == ()
    assert set(tickets_.claims.match.user_templates) == {
        "Which topic has this ticket? One word only.\n{text}", "{text}\n\nName the topic of the ticket above."
    }  # fmt: skip


def test_the_section_gives_the_task_exactly_the_requests_it_says(mixed, tmp_path):
    found, examples, _ = mixed
    matcher = matcher_of("\n".join(proposal.section() for proposal in found.proposals), tmp_path)
    for proposal in found.proposals:
        reached = [w for number, w in enumerate(proposal.wordings) if number not in proposal.claims.unreached]
        inside = {int(row) for wording in reached for row in wording.rows}
        matched = {
            n for n, e in enumerate(examples) if (m := matcher.match(e.request)) and m.task.name == proposal.name
        }
        assert matched == inside
        for row in (int(row) for wording in proposal.wordings for row in wording.rows[:3]):
            named = Request("r", examples[row].request.messages, headers={"x-insource-task": proposal.name})
            assert matcher.match(named).task.name == proposal.name


def matcher_of(text, folder):
    path = folder / "insource.toml"
    path.write_text(text, encoding="utf-8")
    return Matcher(load(path).tasks.values())


def fixed(name, prompts=(), templates=(), headers=(), wordings=None):
    """A proposal without figures."""
    rows = wordings or (Wording(Frame(), ("\nSort # this\r\n\x00\u2028 now: ", "]"), range(3)),)
    answers = answers_of(['"]\n[tasks.x]', "b\x7f"] * 9 + ['"]\n[tasks.x]'] * 80)
    claims = Claims(Match((), prompts, headers, templates), tuple(range(len(rows))))
    volume, repetition = Volume(3, 0.1, None, None, None, 0), Repetition(0.0, 0, None, None)
    return Proposal(name, rows, ("log:1",), answers, volume, repetition, None, "x", claims, 0.05, 0.95)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
@example('"""\n[tasks.evil]\ntarget_risk = 0.4\n# ')
@example("\\u0041 ''' {x} {{y}} \x00\x1b\x7f\u2028\ufeff שלום ")
def test_whatever_a_prompt_says_the_section_stays_one_valid_section(tmp_path_factory, prompt):
    proposal = fixed("sorted", (prompt,), headers=(("x-app", prompt),))
    assert set(tomllib.loads(proposal.section())["tasks"]) == {"sorted"}
    matcher = matcher_of(proposal.section(), tmp_path_factory.mktemp("x"))
    assert matcher.match(Request("r", (Message("system", prompt), Message("user", "hi")))).by == "system_prompt"
    assert matcher.match(Request("r", (Message("system", prompt + "."), Message("user", "hi")))) is None


@pytest.mark.parametrize("prompt", ['say "yes"', "two\nlines", "back\\slash", "\x7f"])
def test_without_its_escapes_a_section_would_break(prompt):
    assert tomllib.loads(f"x = {toml(prompt)}")["x"] == prompt
    with pytest.raises(tomllib.TOMLDecodeError):
        tomllib.loads(f'x = "{prompt}"')


def test_templates_of_system_prompts_are_claimed(tmp_path):
    rows = [(f"You sort tickets for {{{n}}} and sons. Topic only.", text, topic) for n, (text, topic) in
            enumerate(tickets(1, 90))]  # fmt: skip
    examples = [asking(n, text, topic, system) for n, (system, text, topic) in enumerate(rows)]
    examples += [
        asking(n + 90, text, answer, f"Once upon a time {text}") for n, (text, answer) in enumerate(chats(2, 90))
    ]
    found = found_in(examples)
    (proposal,) = found.proposals
    matcher = matcher_of(proposal.section(), tmp_path)
    assert [matcher.match(e.request) is not None for e in examples] == [True] * 90 + [False] * 90


def test_a_model_a_header_or_a_schema_tells_what_the_prompt_does_not(tmp_path):
    def rows(seed, **more):
        return [asking(0, f"Which topic has this? {text}", topic, HELPFUL, **more) for text, topic in tickets(seed, 60)]

    chat = [asking(0, text, answer, HELPFUL, model="gpt-4o") for text, answer in chats(9, 60)]
    for more, line in (({"model": "topics-1"}, 'match.model = "topics-1"'),
                       ({"model": "gpt-4o", "headers": {"x-app": "desk"}}, 'match.header = { "x-app" = "desk" }'),
                       ({"model": "gpt-4o", "fields": {"schema": "topic"}}, 'match.schema = "topic"')):  # fmt: skip
        (proposal,) = found_in(rows(1, **more) + chat).proposals
        assert line in proposal.section() and proposal.claims.unreached == ()
    (told,) = found_in(rows(1, model="gpt-4o") + chat).proposals
    assert told.claims.match == Match(user_templates=("Which topic has this? {text}",))
    assert told.claims.unreached == () and "x-insource-task" not in told.section()
    asked = [(f"Which topic has this? {text}", answer) for text, answer in chats(8, 60)]
    others = [asking(0, text, answer, "You are a poet.", model="gpt-4o") for text, answer in asked]
    (shared,) = found_in(rows(1, model="gpt-4o") + chat + others).proposals
    assert shared.claims.match == Match() and shared.claims.unreached == (0,)
    assert "x-insource-task: " in shared.section() and "Which topic has this? {text}" in shared.section()


def test_a_template_that_one_request_outside_fills_is_no_claim():
    """The guard broken on purpose: with the request's slot blank, which matches nothing, it is one."""
    rows = [asking(0, f"Which topic has this? {text}", topic, HELPFUL) for text, topic in tickets(1, 60)]
    rows += [asking(0, text, answer, HELPFUL) for text, answer in chats(9, 60)]
    for slot, claimed in (("mine", False), (" ", True)):
        (proposal,) = found_in([*rows, asking(0, f"Which topic has this? {slot}", "none", "You are a poet.")]).proposals
        assert bool(proposal.claims.match.user_templates) is claimed


def test_training_serving_and_discovery_see_the_same_text(mixed, trained, tmp_path, monkeypatch):
    """From the section, as it is read from the file, to the text in each place."""
    proposal = mixed[0].proposals[0]
    (tmp_path / "insource.toml").write_text(proposal.section(), encoding="utf-8")
    task = load(tmp_path / "insource.toml").tasks[proposal.name]
    rows = sorted(int(row) for wording in proposal.wordings for row in wording.rows)
    examples = [mixed[1][row] for row in rows]
    modelled = []
    monkeypatch.setattr(finding, "model", lambda texts, *rest: modelled.append(texts))
    found_in(mixed[1])
    done = trained(examples, task)
    manifest = json.loads((done.artifact / "manifest.json").read_text())
    served = InputSettings.from_json(manifest["inputs"])
    seen = [served.text_of(each.request) for each in examples]
    assert modelled[0] == list(done.snapshot.texts) == seen
    said = [each.request.messages[-1].text for each in examples]
    assert {" ".join(text.replace(slot, "").split()) for text, slot in zip(said, seen, strict=True)} == {
        "", "Which topic has this ticket? One word only.", "Name the topic of the ticket above."
    }  # fmt: skip


def test_a_lone_surrogate_cannot_be_claimed():
    prompt = "You sort tickets \ud800 by topic."
    (proposal,) = found_in([asking(n, t, a, prompt) for n, (t, a) in enumerate(tickets(1, 60))]).proposals
    assert proposal.claims.match.system_prompts == () and tomllib.loads(proposal.section())


@pytest.mark.parametrize(
    ("examples", "why"),
    [
        ([asking(0, "hi", "yes")], None),
        ([asking(n, "as ever", "ok", SORT) for n in range(60)], "always the same answer: nothing has to be decided"),
        ([asking(n, t, None, SORT) for n, (t, _) in enumerate(tickets(1, 60))], "no answers in the log"),
        ([asking(n, *c, SORT) for n, c in enumerate(chats(1, 60))], "free text: answers come from no closed set"),
        ([asking(n, " ", "yes", SORT) for n in range(60)], None),
    ],
)  # fmt: skip
def test_logs_that_hold_no_task(examples, why):
    found = found_in(examples)
    assert found.proposals == () and [each.why for each in found.left] == ([why] if why else [])
    assert found.rare + found.textless == (0 if why else len(examples))


def test_an_empty_log_is_refused():
    with pytest.raises(DataError, match="no requests; at least 20 alike"):
        found_in([])


def test_chat_that_often_says_the_same_is_still_free():
    rows = [(text, answer if n % 2 else "Yes.") for n, (text, answer) in enumerate(chats(1, 200))]
    assert found_in([asking(n, text, answer) for n, (text, answer) in enumerate(rows)]).proposals == ()


def test_a_labelled_file_without_instruction_is_a_task_of_its_own():
    (proposal,) = found_in([asking(n, t, a) for n, (t, a) in enumerate(tickets(1, 60))]).proposals
    assert proposal.name == "task" and proposal.claims.unreached == (0,)


def test_json_with_several_fields_is_proposed_and_its_coverage_is_unknown():
    rows = [(t, f'{{"topic": "{a}", "name": "n{n}"}}') for n, (t, a) in enumerate(tickets(1, 60))]
    (proposal,) = found_in([asking(n, t, a, SORT) for n, (t, a) in enumerate(rows)]).proposals
    assert proposal.modelled is None and "several fields" in proposal.why_not
    assert [field.closed for field in proposal.answers.fields] == [True, False]


def test_one_off_system_prompts_cost_little_memory():
    coin = random.Random(0)
    examples = [asking(n, "hi there", "hello", f"{coin.random()} {'x' * 2_000} {coin.random()}") for n in range(1_500)]
    tracemalloc.start()
    found = found_in(examples)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.proposals == () and len(found.left) == 1
    assert peak < 30e6  # no more than a few times what the log itself holds


def test_earlier_turns_tools_and_named_tasks_keep_groups_apart():
    plain = [asking(n, t, a, SORT) for n, (t, a) in enumerate(tickets(1, 40))]
    shots = (Message("system", SORT), Message("user", "my card"), Message("assistant", "billing"))
    few = [Example(Request("f", (*shots, Message("user", t))), a) for t, a in tickets(2, 40)]
    talk = [Example(Request("t", (Message("user", t), Message("assistant", t), Message("user", t))), a)
            for t, a in chats(3, 40)]  # fmt: skip
    named = [asking(n, t, a, SORT, task="desk") for n, (t, a) in enumerate(tickets(4, 40))]
    tools = [asking(n, t, a, SORT, fields={"tools": [{"name": "x"}]}) for n, (t, a) in enumerate(tickets(5, 40))]
    grouped = group(plain + few + talk + named + tools, lambda request: None, lambda done, total: None)
    assert sorted(len(wording.rows) for wording in grouped.wordings) == [40] * 5
    assert [w.constant for w in grouped.wordings].count(False) == 1
    found = found_in(plain + named)
    assert sorted(p.name for p in found.proposals)[0] == "desk" and len(found.proposals) == 2


def test_money_and_days_are_unknown_until_they_are_known():
    rows = [
        asking(n, "x", "y", usage=Usage(1_000, 10) if n < 3 else None, time=NOON + timedelta(days=n)) for n in range(5)
    ]
    prices = Prices(Decimal("2.5"), Decimal(10), "EUR")
    priced = volume_of(rows, range(5), days_of(rows), prices.of, "EUR")
    assert (priced.spend, priced.currency, priced.priced) == (Decimal("0.0078"), "EUR", 3)
    assert priced.per_day == 5 / 4
    for known in (Prices(), Prices(Decimal(1), None)):
        unknown = volume_of(rows, range(5), None, known.of, "EUR")
        assert (unknown.spend, unknown.currency, unknown.per_day) == (None, None, None)
    assert days_of(rows[:1]) is None and days_of([asking(0, "x", "y")] * 3) is None
    assert volume_of([asking(0, "x", "y", usage=Usage(0, 0))], range(1), None, prices.of, "EUR").spend == 0


def test_repetition():
    found = repetition_of(["Hi  there", "hi there", "hi THERE", "you"], ["a", "b", None, "a"])
    assert (found.repeated, found.pairs, found.differing) == (0.5, 1, 1.0)
    assert repetition_of(["a", "b"], ["x", "x"]).differing is None and repetition_of([], []).repeated == 0.0
    half = repetition_of(["a"] * 3, ["x", "x", "y"])
    assert (half.pairs, half.differing) == (3, pytest.approx(2 / 3)) and half.floor == pytest.approx(1 - (1 / 3) ** 0.5)


def test_names_are_valid_and_never_twice():
    texts = ["Sort the tickets by topic", "Sort the tickets by topic", "", "是否", "x" * 500, "Is it spam?"]
    found = names(texts, [None] * 5 + ["My Task!"], taken={"task"})
    assert len(set(found)) == 6 and "task" not in found and found[5] == "my-task"
    assert all(tomllib.loads(f"[tasks.{toml(name)}]") and len(name) <= 64 for name in found)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=5), st.text(max_size=80))
def test_names_of_anything_are_names(texts, given_name):
    from insource.config.kinds import NAME

    assert all(NAME.fullmatch(name) for name in names([*texts, ""], [None] * len(texts) + [given_name]))


def test_support_grows_with_the_log_and_variables_leave_out_what_is_fixed():
    assert [support_for(n) for n in (0, 1_000, 100_000)] == [20, 20, 50]
    wording = Wording(Frame(), ("Claim: ", "\nSource: ", "."), range(1))
    assert wording.variable("Claim: a\nSource: b.") == "a\nb" and wording.variable("no") == "no"
    assert Wording(Frame(), NO_TEMPLATE, range(1)).variable(" as it is ") == " as it is "
    assert slots_of("x", NO_TEMPLATE) == ["x"]
