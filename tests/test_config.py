"""insource.toml: what is read, what is refused, and where every value comes from."""

import dataclasses
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from insource.config import (
    SETTINGS,
    Allowed,
    EmbeddingsConfig,
    GatewayConfig,
    PolicyConfig,
    StoreConfig,
    UpstreamConfig,
    load,
)
from insource.errors import ConfigError
from insource.types import Match, Require, Sensitivity, Task, WhenKept
from tests.config_texts import UPSTREAM, config

FULL = '''\
[gateway]
port = 9000

[upstreams.openai]
base_url = "https://api.openai.com/v1/"
api_key_env = "OPENAI_API_KEY"   # named, never held
price_in = 0.15
price_out = 0.60

[tasks.triage]
target_risk = 0.02
match = { model = "gpt-x" }
guard = { unsafe = 0.1, "two words" = 0.2 }

[tasks."ticket.intent"]
upstream = "openai"
[tasks."ticket.intent".match]
system_prompt = [
  """
Sort this ]
ticket.""",
  "Sort.",
]
[tasks."ticket.intent".require]
accuracy = 0.9

[store]
home = "state"
[policy]
'''


def test_a_full_file_becomes_frozen_models(tmp_path):
    found = config(tmp_path, FULL)
    assert found.upstreams == {
        "openai": UpstreamConfig("openai", "https://api.openai.com/v1", "OPENAI_API_KEY", price_in=Decimal("0.15"),
                                 price_out=Decimal("0.60"))
    }  # fmt: skip
    assert found.tasks == {
        "triage": Task("triage", Match(("gpt-x",)), 0.02, guard={"unsafe": 0.1, "two words": 0.2}),
        "ticket.intent": Task("ticket.intent", Match((), ("Sort this ]\nticket.", "Sort.")),
                              upstreams=(("openai", 1.0),), require=Require(accuracy=0.9)),
    }  # fmt: skip
    assert found.gateway == GatewayConfig("127.0.0.1", 9000, 256, 32, 30.0, 15.0, (("openai", 1.0),))
    assert found.store == StoreConfig(tmp_path / "state", 30)
    assert found.default_upstream is found.upstreams["openai"]
    assert found.home == tmp_path / "state"


def test_every_origin_is_told(tmp_path):
    found = config(tmp_path, FULL, env={"INSOURCE_STORE_RETENTION_DAYS": "9"}, flags={"gateway.host": "::1"})
    told = {
        "gateway.host": "flag",
        "gateway.port": "insource.toml:2",
        "gateway.max_body_mb": "default",
        "gateway.default_upstream": "default (the only upstream)",
        "store.retention_days": "environment INSOURCE_STORE_RETENTION_DAYS",
        "upstreams.openai.price_out": "insource.toml:8",
        "tasks.triage.target_risk": "insource.toml:11",
        "tasks.triage.match.model": "insource.toml:12",
        "tasks.triage.guard.two words": "insource.toml:13",
        "tasks.triage.content": "default",
        "tasks.ticket.intent.match.system_prompt": "insource.toml:18",
        "tasks.ticket.intent.require.accuracy": "insource.toml:25",
        "store.home": "insource.toml:28",
    }
    assert {key: found.origins[key] for key in told} == told
    assert set(found.origins) == set(found.values)
    assert found.values["gateway.port"] == 9000


def test_flag_over_environment_over_file_over_default(tmp_path):
    env = {"INSOURCE_GATEWAY_PORT": "2"}
    assert config(tmp_path, "").gateway.port == 8600
    assert config(tmp_path, "gateway.port = 1").gateway.port == 1
    assert config(tmp_path, "gateway.port = 1", env=env).gateway.port == 2
    assert config(tmp_path, "gateway.port = 1", env=env, flags={"gateway.port": 3}).gateway.port == 3
    assert config(tmp_path, "gateway.port = 1", env=env, flags={"gateway.port": None}).gateway.port == 2
    assert config(tmp_path, "gateway.port = 1", env={"INSOURCE_GATEWAY_PORT": ""}).gateway.port == 1


def test_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert config(tmp_path, "store.home = '~'").home == Path.home()
    assert config(tmp_path, "store.home = 'a'", env={"INSOURCE_HOME": "b"}).home == tmp_path / "b"
    assert config(tmp_path, "", flags={"store.home": Path("c")}).home == tmp_path / "c"
    assert config(tmp_path, "").home.name == "insource"


def test_the_file_in_the_working_folder_need_not_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load(env={}).path is None
    (tmp_path / "insource.toml").write_text("gateway.port = 1\nstore.home = 'x'")
    assert (load(env={}).gateway.port, load(env={}).home) == (1, tmp_path / "x")
    with pytest.raises(ConfigError, match="does not exist"):
        load("other.toml", env={})


def test_tasks_that_share_no_model_and_no_prompt_are_taken(tmp_path):
    text = "[tasks.{}.match]\nmodel = '{}'\nsystem_prompt = '{}'\n"
    tasks = text.format("a", "m", "p") + text.format("b", "n", "q") + "[tasks.c]\n[tasks.d]"
    assert list(config(tmp_path, tasks).tasks) == ["a", "b", "c", "d"]


def test_several_upstreams_have_no_default_until_one_is_named(tmp_path):
    two = UPSTREAM + "[upstreams.p]\nbase_url = 'http://localhost:2'\n"
    assert config(tmp_path, two).default_upstream is None
    assert config(tmp_path, two + "[gateway]\ndefault_upstream = 'p'").default_upstream.name == "p"


THREE = "".join(f"[upstreams.{name}]\nbase_url = 'http://{name}:1'\njurisdiction = '{where}'\n"
                for name, where in (("house", "here"), ("paris", "EU"), ("boston", "US")))  # fmt: skip


@pytest.mark.parametrize(
    ("written", "held"),
    [
        ("'paris'", (("paris", 1.0),)),
        ("['paris', 'house', 'boston']", (("paris", 1.0), ("house", 0.0), ("boston", 0.0))),
        ("{ paris = 3, boston = 0.5, house = 0 }", (("paris", 3.0), ("boston", 0.5), ("house", 0.0))),
    ],
)
def test_several_upstreams_by_order_or_by_weight(tmp_path, written, held):
    text = f"[gateway]\ndefault_upstream = {written}\n{THREE}[tasks.a]\n[tasks.b]\nupstream = 'house'\n[tasks.c]\n"
    found = config(tmp_path, text + f"upstream = {written}\n")
    assert found.gateway.default_upstreams == held and found.default_upstream.name == "paris"
    assert found.upstreams_of(None) == found.upstreams_of(found.tasks["a"]) == held == found.tasks["c"].upstreams
    assert found.upstreams_of(found.tasks["b"]) == (("house", 1.0),)
    assert config(tmp_path, THREE).upstreams_of(None) == ()
    env = {"INSOURCE_GATEWAY_DEFAULT_UPSTREAM": "boston"}
    assert config(tmp_path, text, env=env).gateway.default_upstreams == (("boston", 1.0),)


def test_a_table_of_weights_may_be_a_section(tmp_path):
    text = THREE + "[tasks.a.upstream]\nparis = 3\nboston = 1\n"
    assert config(tmp_path, text).tasks["a"].upstreams == (("paris", 3.0), ("boston", 1.0))


@pytest.mark.parametrize(
    ("written", "policy"),
    [
        ("", PolicyConfig()),
        ("[policy]\nsensitivity = 'restricted'", PolicyConfig(Sensitivity.RESTRICTED)),
        ("[policy.internal]\njurisdictions = 'EU'", PolicyConfig(internal=Allowed((), ("EU",)))),
        ("[policy.internal]\nupstreams = 'house'\njurisdictions = ['EU', '*']",
         PolicyConfig(internal=Allowed(("house",), ("EU", "*")))),
        ("[policy.public]\nupstreams = []", PolicyConfig(public=Allowed())),
        ("[policy.public]\nupstreams = []\njurisdictions = 'US'", PolicyConfig(public=Allowed((), ("US",)))),
        ("[policy.restricted]\nupstreams = []", PolicyConfig()),
        ("policy.restricted.upstreams = ['house']", PolicyConfig(restricted=Allowed(("house",)))),
    ],
)  # fmt: skip
def test_rules_about_what_may_leave(tmp_path, written, policy):
    text = f"{written}\n{THREE}" if written.startswith("policy.") else THREE + written
    found = config(tmp_path, text)
    assert found.policy == policy
    assert [found.policy.allowed(each) for each in Sensitivity] == [policy.public, policy.internal, policy.restricted]


def test_the_other_keys_of_a_whole_file(tmp_path):
    text = (
        THREE
        + """
retries = 3
deadline_s = 20
reply_s = 90
breaker_failures = 2
breaker_rest_s = 1.5
key_header = 'x-api-key'
[gateway]
retry_budget = 0.1
workers = 4
log = 'json'
[store]
record = 'after_reply'
[embeddings.search]
trunk = 'base'
model = ['text-embedding-3-small', 'search']
[tasks.a]
sensitivity = 'restricted'
when_kept = 'review'
tiers = ['house']
moderation_safe = 'safe'
[tasks.a.match]
header = { X-Team = 'claims' }
system_template = 'Sort this: {text}'
user_template = 'Sort that: {text}'
schema = 'ticket'
"""
    )
    found = config(tmp_path, text)
    boston = found.upstreams["boston"]
    assert (boston.retries, boston.deadline_s, boston.breaker_failures, boston.breaker_rest_s) == (3, 20.0, 2, 1.5)
    assert (boston.reply_s, found.upstreams["paris"].reply_s) == (90.0, 3_600.0)
    assert (boston.key_header, found.upstreams["paris"].key_header) == ("x-api-key", "authorization")
    assert (found.gateway.retry_budget, found.gateway.workers, found.gateway.log) == (0.1, 4, "json")
    assert found.store.record == "after_reply"
    assert found.embeddings == {"search": EmbeddingsConfig("search", "base", ("text-embedding-3-small", "search"))}
    assert found.tasks["a"] == Task(
        "a",
        Match(
            headers=(("x-team", "claims"),),
            system_templates=("Sort this: {text}",),
            schemas=("ticket",),
            user_templates=("Sort that: {text}",),
        ),
        sensitivity=Sensitivity.RESTRICTED,
        when_kept=WhenKept.REVIEW,
        tiers=("house",),
        moderation_safe=("safe",),
    )


def test_a_byte_order_mark_is_accepted(tmp_path):
    assert config(tmp_path, b"\xef\xbb\xbf[gateway]\r\nport = 7\r\n").origins["gateway.port"] == "insource.toml:2"


def test_the_table_of_settings_and_the_models_agree():
    models = {"gateway": GatewayConfig, "store": StoreConfig, "upstreams.NAME": UpstreamConfig, "tasks.NAME": Task,
              "tasks.NAME.require": Require, "tasks.NAME.match": Match, "embeddings.NAME": EmbeddingsConfig,
              "policy": PolicyConfig, "policy.public": Allowed, "policy.internal": Allowed,
              "policy.restricted": Allowed}  # fmt: skip
    plural = {
        "default_upstream",
        "upstream",
        "model",
        "system_prompt",
        "header",
        "system_template",
        "schema",
        "user_template",
    }
    many = ("gateway", "tasks.NAME", "tasks.NAME.match", "embeddings.NAME")
    others = {"policy": {"public", "internal", "restricted"}, "policy.restricted": {"jurisdictions"}}
    by_section: dict[str, set[str]] = {}
    for setting in SETTINGS:
        section, _, key = setting.key.rpartition(".")
        key = key + "s" if key in plural and section in many else key
        by_section.setdefault(section, set()).add(key)
        assert setting.meaning.endswith(".") and setting.kind.expected
        if section in models:
            field = {f.name: f for f in dataclasses.fields(models[section])}[key]
            assert field.default in (setting.default, dataclasses.MISSING) or setting.default is None, setting.key
    assert len({setting.key for setting in SETTINGS}) == len(SETTINGS)
    for section, model in models.items():
        apart = {"name", "match", "guard", "require"} | others.get(section, set())
        assert {f.name for f in dataclasses.fields(model)} - apart == by_section[section]


@pytest.mark.parametrize("setting", [s for s in SETTINGS if s.default not in (None, ())], ids=lambda s: s.key)
def test_every_default_passes_its_own_check(setting):
    assert setting.kind.check(setting.default) == setting.default


@pytest.mark.parametrize("module", ["insource", "insource.types", "insource.errors"])
def test_importing_insource_loads_no_third_party_package(module):
    code = f"import sys; before = set(sys.modules); import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()} - {"insource"}
    assert done.returncode == 0, done.stderr
    assert loaded <= sys.stdlib_module_names
