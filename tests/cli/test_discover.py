"""`insource discover`: over a file and over the ledger, shown, as JSON, and as files to train with."""

import json
import random
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from insource.cli.discover import schema_key
from insource.store.ledger import Ledger
from insource.traffic import read
from insource.types import Content, Decision, Message, Outcome, Reason, Request, Settlement, Usage

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
WORDS = {"billing": "invoice refund payment fee", "login": "password account locked code"}
OTHERS = "today please again because never still yesterday customer number since morning website".split()
SORT = 'You sort tickets. Reply with "billing" or "login" only. # [tasks.x]'
SCHEMA = {"type": "object", "properties": {"topic": {"type": "string"}}}


def sentence(coin, words):
    return " ".join(coin.sample(words.split(), 2) + coin.sample(OTHERS, 5)) + "."


def plain(text):
    """Text without its line breaks, which hang on the length of paths."""
    return " ".join(text.split())


@pytest.fixture
def lines():
    """150 tickets behind a system prompt, 150 behind a template, 150 in a schema, 150 of free chat, one image."""
    coin = random.Random(0)
    rows = []
    for number in range(150):
        topics = [coin.choice(list(WORDS)) for _ in range(3)]
        texts = [sentence(coin, WORDS[topic]) for topic in topics]
        system = [{"role": "system", "content": SORT}, {"role": "user", "content": texts[0]}]
        rows.append({"messages": system, "answer": topics[0]})
        rows.append({"text": f"Which desk takes this ticket? One word only.\n{texts[1]}", "answer": topics[1]})
        rows.append(
            {
                "messages": [{"role": "user", "content": texts[2]}],
                "answer": json.dumps({"topic": topics[2]}),
                "response_format": {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}},
            }
        )
        rows.append(
            {"text": sentence(coin, " ".join(OTHERS)), "answer": sentence(coin, " ".join(OTHERS)) + str(number)}
        )
    rows.append({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "answer": "billing"})
    coin.shuffle(rows)
    times = (NOON + timedelta(hours=number) for number in range(len(rows)))
    return [{**row, "model": "gpt-4o", "time": time.isoformat()} for row, time in zip(rows, times, strict=True)]


@pytest.fixture
def log(tmp_path, lines):
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_what_is_shown(run, log):
    done = run("discover", log)
    assert done.code == 0, done.err
    assert "log.jsonl: 601 requests, 2 proposed tasks" in plain(done.out)
    for part in ("2, closed set", "2, fields: topic", "unknown", "free text: answers come from no closed set",
                 "How accuracy grows with rows", "Requests without a text of a user: 1.",
                 'match.user_template = "Which desk takes this ticket? One word only.\\n{text}"',
                 "2 wordings; this section matches 300 of its requests, and no others."):  # fmt: skip
        assert part in plain(done.out)


def test_the_sections_pasted_give_every_task_what_they_say(run, log, tmp_path):
    found = json.loads(run("discover", log, "--json", "-").out)
    (tmp_path / "insource.toml").write_text("\n".join(each["section"] for each in found["proposals"]))
    matched = json.loads(run("tasks", "match", log, "--json", "-").out)["matched"]
    told = {each["task"]: each["section_matches"] for each in found["proposals"]}
    by = {(row["task"], row["by"]): row["requests"] for row in matched}
    assert {name: sum(n for (task, _), n in by.items() if task == name) for name in told} == told
    assert sorted(told.values()) == [150, 300] and set(by.values()) == {150}
    assert {way for _, way in by} == {"system_prompt", "user_template", "schema"}
    assert [each["section_matches_others"] for each in found["proposals"]] == [0, 0]
    again = json.loads(run("discover", log, "--json", "-").out)["proposals"]
    assert not set(told) & {each["task"] for each in again}  # names that are taken are not proposed


def test_the_figures_as_json(run, log, tmp_path):
    assert run("discover", log, "--json", tmp_path / "found.json").code == 0
    found = json.loads((tmp_path / "found.json").read_text())
    first = found["proposals"][0]
    assert (first["requests"], first["share"], first["answer_kind"]) == (300, 300 / 601, "closed set")
    assert first["spend"] is None and first["currency"] is None
    assert first["per_day"] == pytest.approx(300 / 25)
    assert first["model"]["curve"][-1]["accuracy"] > 0.9 and first["model"]["target_risk"] == 0.05
    assert {w["matched"] for w in first["wordings"]} == {True}
    match = tomllib.loads(first["section"])["tasks"][first["task"]]["match"]
    ask = "Which desk takes this ticket? One word only.\n{text}"  # every text ends with a full stop, which is data
    assert match == {"system_prompt": SORT, "user_template": ask}
    assert {w["user_template"] for w in first["wordings"]} == {None, ask + "."}


def fields_of(value, path=""):
    """Every field of a result, by path; of lists those of any entry."""
    if isinstance(value, dict) and value:
        return {found for key, inner in value.items() for found in fields_of(inner, f"{path}.{key}" if path else key)}
    if isinstance(value, list):
        objects = [each for each in value if isinstance(each, dict)]
        return {found for each in objects for found in fields_of(each, f"{path}[]")} or {f"{path}[]"}
    return {path}


def test_every_field_is_documented_and_no_other(run, log, lines, tmp_path):
    (tmp_path / "few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines[:60]))
    found = [json.loads(run("discover", path, "--json", "-").out) for path in (log, tmp_path / "few.jsonl")]
    wording = fields_of(found[0]["proposals"][0]["wordings"][0])
    seen = set().union(*map(fields_of, found)) - {"proposals[]", "left[]", "proposals[].fields[]"}
    inside = {f"left[].wording.{field}" for field in wording}
    assert inside < seen  # the page has them once, for proposals
    page = (Path(__file__).parents[2] / "docs/reference/json.md").read_text()
    part = page.split("## `insource discover`\n")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `([\w.\[\]]+)` \|", part, re.MULTILINE)
    assert sorted(documented) == sorted(seen - inside | {"left[].wording"} | {"proposals[].model"})


def test_each_task_can_be_written_and_trained_with(run, log, tmp_path):
    done = run("discover", log, "--write", tmp_path / "tasks", "--json", "-")
    proposals = json.loads(done.out)["proposals"]
    for proposal in proposals:
        traffic = read(tmp_path / "tasks" / f"{proposal['task']}.jsonl")
        assert len(traffic.examples) == proposal["requests"] and all(each.time for each in traffic.examples)
    name = proposals[0]["task"]
    trained = run("train", tmp_path / "tasks" / f"{name}.jsonl", "--task", name, "--family", "linear", "--json", "-")
    assert trained.code == 0, trained.err
    (tmp_path / "taken").write_text("")
    assert run("discover", log, "--write", tmp_path / "taken").code == 2


def test_prices_make_spend_known(run, tmp_path):
    pairs = []
    for number in range(40):
        messages = [{"role": "system", "content": SORT}, {"role": "user", "content": f"my card {number} please"}]
        reply = {"choices": [{"message": {"role": "assistant", "content": "billing" if number % 2 else "login"}}]}
        usage = {"usage": {"prompt_tokens": 1_000, "completion_tokens": 100}} if number < 30 else {}
        pairs.append({"request": {"messages": messages}, "response": {**reply, **usage}})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (first,) = json.loads(run("discover", path, "--price-in", 2.5, "--price-out", 10, "--json", "-").out)["proposals"]
    assert (first["spend"], first["priced"], first["currency"]) == ("0.1050", 30, "USD")
    assert "(30 priced)" in " ".join(run("discover", path, "--price-in", 2.5, "--price-out", 10).out.split())
    assert json.loads(run("discover", path, "--json", "-").out)["proposals"][0]["spend"] is None
    assert run("discover", path, "--price-in", "free").code == 2


def test_files_that_hold_no_task(run, tmp_path):
    empty, one = tmp_path / "empty.jsonl", tmp_path / "one.jsonl"
    empty.write_text("")
    one.write_text('{"text": "hi", "answer": "yes"}\n')
    refused = run("discover", empty)
    assert refused.code == 2 and "has no lines" in refused.err
    alone = run("discover", one)
    assert alone.code == 0 and "No task is proposed: 20 requests alike" in plain(alone.out)
    assert run("discover", tmp_path / "none.jsonl").code == 2
    one.write_text('{"text": "hi", "answer": "yes"}\n{\n')
    assert run("discover", one).code == 2 and "1 lines skipped" in plain(run("discover", one, "--skip-bad").out)
    assert run("discover", one, "--target-risk", 2).code == 2


def test_a_prompt_cannot_steer_the_terminal(run, tmp_path):
    path = tmp_path / "evil.jsonl"
    rows = [
        {
            "messages": [
                {"role": "system", "content": "Sort \x1b[31m\x07 it\x7f now"},
                {"role": "user", "content": f"a card {n}"},
            ],
            "answer": "ab"[n % 2],
        }
        for n in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = run("discover", path).out
    assert "\x1b" not in out and "\x07" not in out and "\x7f" not in out and "matches 40 of its requests" in plain(out)


def kept(home, rows):
    """Write (text, reference) rows as the gateway would, with text where there is one."""
    with Ledger.open(home, clock=lambda: NOON) as ledger:
        for number, (text, reference) in enumerate(rows):
            name = f"r-{number}"
            decision = Decision(name, NOON, Outcome.ESCALATED, Reason.NO_SPECIALIST, "desk")
            ledger.append_now(decision, Content(name, NOON, "desk", text or "x"), keep_text=text is not None)
            answered = Content(name, NOON, "desk", text or "x", reference, reference)
            ledger.settle(Settlement(name, NOON, 200, "main", 0.8, usage=Usage(100, 10)), answered,
                          keep_text=text is not None)  # fmt: skip


def test_the_ledger_is_read_where_no_file_is_named(run, home):
    nothing = run("discover")
    assert nothing.code == 2 and "There is no ledger in" in nothing.err
    coin = random.Random(1)
    rows = [(sentence(coin, WORDS[topic]), topic) for topic in coin.choices(list(WORDS), k=60)]
    kept(home, [*rows, (None, None)])
    found = json.loads(run("discover", "--json", "-", "--price-in", 1, "--price-out", 1).out)
    (proposal,) = found["proposals"]
    assert (found["source"], found["requests"], proposal["task"]) == ("ledger", 60, "desk")
    assert proposal["spend"] == "0.00660"


def test_a_ledger_without_texts_says_what_to_set(run, home):
    kept(home, [(None, None)])
    refused = run("discover")
    assert refused.code == 2 and "holds 1 decisions and the text of none" in " ".join(refused.err.split())
    assert 'content = "full"' in " ".join(refused.err.split())


def test_schemas_go_by_digest_then_by_name():
    def asked(**schema):
        return schema_key(Request("r", (Message("user", "hi"),), fields={"response_format": {
            "type": "json_schema", "json_schema": schema}}))  # fmt: skip

    assert asked(name="t", schema=SCHEMA).startswith("sha256:") and asked(name="t") == "t"
    assert schema_key(Request("r", ())) is None
