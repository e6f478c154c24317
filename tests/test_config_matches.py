"""What `match` may say in insource.toml, and what is refused when the file is read."""

import pytest

from insource.config import load
from insource.errors import ConfigError

DIGEST = "sha256:" + "0a" * 32


def loaded(tmp_path, text):
    path = tmp_path / "insource.toml"
    path.write_text(text)
    return load(path, env={}).tasks


def test_every_way_to_match(tmp_path):
    match = loaded(tmp_path, f"""
[tasks.triage]
match.model = "gpt-triage"
match.header = {{ X-App = "desk" }}
match.system_prompt = "Sort."
match.system_template = ["You sort tickets for {{company}}.", "{{any}} Answer in JSON."]
match.schema = ["ticket", "{DIGEST}"]
""")["triage"].match  # fmt: skip
    assert (match.models, match.headers, match.system_prompts) == (("gpt-triage",), (("x-app", "desk"),), ("Sort.",))
    assert match.system_templates == ("You sort tickets for {company}.", "{any} Answer in JSON.")
    assert match.schemas == ("ticket", DIGEST)


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (
            'system_template = "Sort {a}{b} into labels"',
            "Task 'one': the system template 'Sort {a}{b} into labels' has",
        ),
        ('system_template = "Sort it now"', "has no slot; at least one"),
        ('system_template = "Sort {x}"', "has 5 fixed characters; at least 8"),
        ('schema = "sha256:12"', "has the schema 'sha256:12'; a schema's name, or 'sha256:' and 64 small hex digits"),
        (f'schema = "{DIGEST.upper().replace("SHA", "sha")}"', "64 small hex digits"),
        ('model = "task:two"', "has the model 'task:two'"),
    ],
)
def test_what_is_no_match_is_refused_with_its_place(tmp_path, claim, said):
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"[tasks.one]\nmatch.{claim}\n")
    assert said in str(caught.value) and str(caught.value).startswith("insource.toml:1: ")


@pytest.mark.parametrize(
    ("one", "two", "what"),
    [
        ('header = { x-app = "a" }', 'header = { X-App = "a" }', "header 'x-app: a'"),
        ('system_template = "Sort for {a} now"', 'system_template = "Sort for {b} now"', "system template"),
        ('schema = "ticket"', 'schema = "ticket"', "schema 'ticket'"),
        ('system_prompt = "Sort."', 'system_prompt = "Sort."', "system prompt 'Sort.'"),
    ],
)
def test_what_two_tasks_claim_is_refused(tmp_path, one, two, what):
    with pytest.raises(ConfigError, match="the tasks 'one' and 'two' both match the") as caught:
        loaded(tmp_path, f"[tasks.one]\nmatch.{one}\n[tasks.two]\nmatch.{two}\n")
    assert what in str(caught.value)


def test_one_task_may_claim_the_same_twice_and_two_what_only_begins_alike(tmp_path):
    same = 'match.system_template = ["Sort for {a} now", "Sort for {b} now"]'
    other = 'match.system_template = "Sort for {a} now."'
    assert len(loaded(tmp_path, f"[tasks.one]\n{same}\n[tasks.two]\n{other}\n")) == 2
