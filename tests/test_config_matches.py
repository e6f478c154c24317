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
match.user_template = ["Sort this ticket: {{text}}", "Which desk? {{a}} {{{{{{b}}}}}}"]
""")["triage"].match  # fmt: skip
    assert (match.models, match.headers, match.system_prompts) == (("gpt-triage",), (("x-app", "desk"),), ("Sort.",))
    assert match.system_templates == ("You sort tickets for {company}.", "{any} Answer in JSON.")
    assert match.schemas == ("ticket", DIGEST)
    assert match.user_templates == ("Sort this ticket: {text}", "Which desk? {a} {{{b}}}")


@pytest.mark.parametrize(
    ("claim", "said"),
    [
        (
            'system_template = "Sort {a}{b} into labels"',
            "Task 'one': the system template 'Sort {a}{b} into labels' has",
        ),
        ('system_template = "Sort it now"', "has no slot; at least one"),
        ('system_template = "Sort {x}"', "has 5 fixed characters; at least 8"),
        (
            'user_template = "Sort {a}{b} into labels"',
            "Task 'one': the user template 'Sort {a}{b} into labels' has two slots side by side",
        ),
        ('user_template = "Sort it now"', "has no slot; at least one, such as {company}, was expected. Add one where"),
        ('user_template = "Sort {x}"', "the user template 'Sort {x}' has 5 fixed characters; at least 8"),
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
        ('user_template = "Sort for {a} now"', 'user_template = "Sort for {b} now"', "user template"),
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


def test_a_misspelt_way_to_match_names_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match="unknown key 'user_templat' .*Did you mean 'user_template'"):
        loaded(tmp_path, '[tasks.one]\nmatch.user_templat = "Sort for {a} now"\n')


def test_a_template_of_the_system_s_and_the_same_of_the_user_s_are_two_claims(tmp_path):
    one, two = ('match.system_template = "Sort for {a} now"', 'match.user_template = "Sort for {a} now"')
    assert len(loaded(tmp_path, f"[tasks.one]\n{one}\n[tasks.two]\n{two}\n")) == 2
