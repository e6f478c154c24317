"""`insource tasks match`."""

import json
import tomllib

import pytest

from insource.cascade.match import Matcher
from insource.cli.unmatched import Groups
from insource.types import Match, Message, Request, Task

SETTINGS = """
[tasks.triage]
match.system_prompt = "Sort the ticket for us now."
[tasks.clause]
match.system_template = "You read contracts of {firm}. Name the clause."
match.header = { X-App = "contracts" }
[tasks.quiet]
"""
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}}


def asking(system=None, model="gpt-4o", **more):
    messages = [{"role": "user", "content": "hi"}]
    return {"model": model, "messages": [{"role": "system", "content": system}, *messages] if system else messages,
            **more}  # fmt: skip


LINES = [
    asking("Sort the ticket for us now."),
    asking("Sort the ticket for us now."),
    asking("You read contracts of Acme. Name the clause."),
    {"request": asking(), "headers": {"X-App": "contracts", "Authorization": "Bearer x"}, "response": "a"},
    asking(model="task:triage"),
    asking("Sort the ticket for us now. "),
    asking(model="task:tirage"),
    asking(response_format={"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}}),
    {"text": "who asks?"},
    *(asking(f"You grade the essays of {name}. Answer with A {{to}} F.") for name in ("Ada", "Bo", "Ada", "Cyd")),
]


@pytest.fixture
def found(run, tmp_path, write_traffic):
    (tmp_path / "insource.toml").write_text(SETTINGS)
    path = write_traffic(LINES)

    def go(*options):
        done = run("tasks", "match", path, *options)
        assert done.code == 0, done.err
        return done.out

    return go


def test_what_matches_and_why(found):
    data = json.loads(found("--json", "-"))
    rows = {(row["task"], row["by"]): (row["requests"], row["example"]) for row in data["matched"]}
    assert rows == {
        ("triage", "system_prompt"): (2, "may:1"),
        ("triage", "model"): (1, "may:5"),
        ("clause", "system_template"): (1, "may:3"),
        ("clause", "header"): (1, "may:4"),
    }
    assert (data["requests"], data["without_requests"], data["skipped"]) == (len(LINES), ["quiet"], 0)
    out = found()
    assert f"{len(LINES)} requests, 8 of them belong to no task" in " ".join(out.split())  # a long path breaks lines
    assert ["quiet", "-", "0", "-"] in [line.split() for line in out.splitlines()]


def test_what_matches_nothing_is_grouped_with_the_line_to_paste(found):
    groups = json.loads(found("--json", "-"))["unmatched"]
    assert sum(group["requests"] for group in groups) == 8
    essays = groups[0]
    assert (essays["requests"], essays["prompts"], essays["example"]) == (4, 3, "may:10")
    assert essays["match"] == {"system_template": "You grade the essays of {text}. Answer with A {{to}} F."}
    by_example = {group["example"]: group for group in groups}
    assert by_example["may:6"]["nearest"].startswith(
        "nearest: the system prompt of task 'triage', with which it shares"
    )
    assert by_example["may:6"]["match"] == {"system_prompt": "Sort the ticket for us now. "}
    assert "nobody" not in by_example["may:7"] and "the nearest is 'triage'" in by_example["may:7"]["unknown"]
    assert by_example["may:8"]["match"] == {"schema": by_example["may:8"]["schema_digest"]}
    assert by_example["may:9"]["match"] == {}


def test_the_lines_printed_can_be_pasted_and_then_everything_matches(found, tmp_path):
    lines = [line.strip() for line in found().splitlines() if line.strip().startswith("match.")]
    assert len(lines) == 3
    for number, line in enumerate(lines):
        SHOWN = f"[tasks.new{number}]\n{line}\n"
        tomllib.loads(SHOWN)
        with (tmp_path / "insource.toml").open("a") as file:
            file.write(SHOWN)
    left = json.loads(found("--json", "-"))["unmatched"]
    assert [group["example"] for group in left] == ["may:7", "may:9"]


def test_a_limit_and_a_file_beside(found, tmp_path):
    found("--limit", "2", "--json", tmp_path / "found.json")
    data = json.loads((tmp_path / "found.json").read_text())
    assert (data["requests"], len(data["matched"]), data["unmatched"]) == (2, 1, [])


def test_a_line_that_cannot_be_read(run, write_traffic):
    path = write_traffic([b"{\n", {"text": "hi"}])
    refused = run("tasks", "match", path)
    assert refused.code == 2 and "1 of 2 lines cannot be read" in refused.err
    passed = run("tasks", "match", path, "--skip-bad")
    assert passed.code == 0 and "1 of them belong to no task, 1 lines skipped" in " ".join(passed.out.split())
    assert run("tasks", "match", path.parent / "none.jsonl").code == 2


def test_a_trained_task_is_matched_by_its_name(run, registered, write_traffic):
    registered()
    path = write_traffic([asking(model="task:triage")])
    assert json.loads(run("tasks", "match", path, "--json", "-").out)["matched"] == []
    assert run("promote", "triage@1").code == 0
    assert json.loads(run("tasks", "match", path, "--json", "-").out)["matched"][0]["task"] == "triage"


def test_a_task_called_match_is_still_to_be_had(run, tmp_path, write_traffic):
    (tmp_path / "insource.toml").write_text("[tasks.match]\n")
    assert "Task match is configured and has no version yet" in run("tasks", "--name", "match").out
    assert run("tasks", "match").code == 2
    both = run("tasks", "--name", "match", "match", write_traffic([asking()]))
    assert both.code == 2 and "leaves no room for 'match'" in both.err


def test_json_may_stand_before_or_after(run, tmp_path, write_traffic):
    (tmp_path / "insource.toml").write_text("[tasks.later]\n")
    path = write_traffic([asking()])
    assert run("tasks", "--json", "-", "later").out == run("tasks", "later", "--json", "-").out
    assert run("tasks", "--json", "-", "match", path).out == run("tasks", "match", path, "--json", "-").out


def test_a_long_prompt_is_not_printed_whole(run, write_traffic):
    path = write_traffic([asking("Sort. " * 1_000)])
    out = run("tasks", "match", path).out
    assert "match.system_prompt = ...  (long: --json has it whole)" in out and len(out) < 2_000
    assert json.loads(run("tasks", "match", path, "--json", "-").out)["unmatched"][0]["match"]["system_prompt"]


def test_a_prompt_cannot_steer_the_terminal(run, write_traffic):
    out = run("tasks", "match", write_traffic([asking("Sort\x1b[31m \x07it now\x7f")])).out
    assert "\x1b" not in out and "\x07" not in out and "\x7f" not in out


@pytest.mark.parametrize(
    "prompts",
    [
        ["You sort tickets for A.", "You sort tickets for B."],
        ["You sort tickets for A", "You sort tickets for AB", "You sort tickets for ABB"],
        ["You sort aaaaaaaaaaaaaaaaaaa", "You sort aaaaaaaaaaaaaaaaaa", "You sort aaaaaaaaaaaaaaaaaaaaa"],
        ["You sort the {tickets} {a} now", "You sort the {tickets} } now"],
    ],
)
def test_a_template_offered_matches_every_prompt_it_was_made_of(prompts):
    groups = Groups([])
    for number, prompt in enumerate(prompts):
        groups.add(Request(str(number), (Message("system", prompt),)))
    (row,) = groups.rows()
    matcher = Matcher([Task("new", match=Match(system_templates=(row["match"]["system_template"],)))])
    assert all(matcher.match(Request("r", (Message("system", prompt),))) for prompt in prompts)


def test_no_template_is_offered_for_prompts_that_share_little():
    groups = Groups([])
    for end in ("sorts tickets and answers with a label", "writes poems about the sea, the wind and the moon"):
        groups.add(Request("r", (Message("system", f"You are an assistant who {end}"),), "gpt-4o"))
    (row,) = groups.rows()
    assert row["prompts"] == 2 and row["match"] == {}
