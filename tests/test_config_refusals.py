"""insource.toml: what is refused, with place, value and remedy, and secrets that are never shown."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insource.config import (
    SETTINGS,
)
from insource.errors import ConfigError
from tests.config_texts import UPSTREAM, config


def refusal(tmp_path: Path, text: str | bytes, **how: object) -> str:
    with pytest.raises(ConfigError) as error:
        config(tmp_path, text, **how)
    return str(error.value)


REFUSED = [
    ("gatway = {}", ":1: unknown key 'gatway' at the top", "Did you mean 'gateway'?"),
    ("[gateway]\n\nprot = 1", ":3: unknown key 'prot' in [gateway]", "Did you mean 'port'?"),
    ("[tasks.a]\ntarget-risk = 0.1", ":2: unknown key 'target-risk' in [tasks.a]", "Did you mean 'target_risk'?"),
    ("[tasks.a.match]\nmodels = 'm'", ":2: unknown key 'models' in [tasks.a.match]", "Did you mean 'model'?"),
    ("[tasks.a.b]\ntarget_risk = 0.1", "unknown key 'b' in [tasks.a]", '[tasks."a.b"]'),
    ("[policy]\nx = 1", ":2: unknown key 'x' in [policy]", "Known: sensitivity, public, internal, restricted."),
    ("[policy]\nsensitivity = 'secret'", "policy.sensitivity is 'secret'", "'public', 'internal', 'restricted'"),
    ("[policy]\nsensitivity = 'Public'", "policy.sensitivity is 'Public'", "'public', 'internal', 'restricted'"),
    ("[policy.secret]\nupstreams = 'o'", "unknown key 'secret' in [policy]", "Known: sensitivity"),
    ("[policy.internal]\nupstreams = 'o'", ":2: policy.internal.upstreams is 'o'", "[upstreams.o]"),
    ("[policy.internal]\njurisdictions = []", "jurisdictions is []", "jurisdictions was expected"),
    ("[policy.restricted]\njurisdictions = 'EU'", "unknown key 'jurisdictions' in [policy.restricted]", "upstreams"),
    (UPSTREAM + "[policy.restricted]\nupstreams = ['o', '*']", ":4: policy.restricted.upstreams has '*'", "by name"),
    (UPSTREAM + "jurisdiction = 'EU'\n[policy.public]\njurisdictions = 'eu'", "has 'eu', which no upstream", "Correct"),
    (UPSTREAM + "[tasks.a]\nsensitivity = ''", "tasks.a.sensitivity is ''", "'restricted'"),
    (UPSTREAM + "[tasks.a]\nwhen_kept = 'send'", "when_kept is 'send'", "'refuse', 'best', 'review'"),
    (UPSTREAM + "[tasks.a]\ntiers = 'p'", ":4: tasks.a.tiers is 'p'", "no [upstreams.NAME] describes"),
    (UPSTREAM + "[tasks.a]\nupstream = ['o', 'o']", "tasks.a.upstream is ['o', 'o']", "a list of names"),
    (UPSTREAM + "[tasks.a]\nupstream = []", "tasks.a.upstream is []", "an upstream's name"),
    (UPSTREAM + "[tasks.a]\nupstream = { o = 0 }", "tasks.a.upstream is a table", "a table of names and weights"),
    (UPSTREAM + "[tasks.a]\nupstream = { o = -1 }", "tasks.a.upstream is a table", "weights"),
    (UPSTREAM + "[tasks.a]\nupstream = { o = 1e999 }", "tasks.a.upstream is a table", "weights"),
    (UPSTREAM + "[tasks.a]\nupstream = { o = true }", "tasks.a.upstream is a table", "weights"),
    (UPSTREAM + "[tasks.a]\nupstream = ['o', 'p']", "tasks.a.upstream is 'p'", "Known: o."),
    (UPSTREAM + "key_header = 'cookie'", "key_header is 'cookie'", "'x-api-key'"),
    (UPSTREAM + "retries = -1", "retries is -1", "from 0 to 10"),
    (UPSTREAM + "deadline_s = 0", "deadline_s is 0", "above 0"),
    (UPSTREAM + "breaker_failures = 0", "breaker_failures is 0", "from 1"),
    ("[gateway]\nretry_budget = 1.1", "retry_budget is 1.1", "at most 1"),
    ("[gateway]\nworkers = 0", "workers is 0", "from 1 to 64"),
    ("[store]\nrecord = 'never'", "record is 'never'", "'before_reply', 'after_reply'"),
    ("[embeddings.e]", ":1: [embeddings.e] has no trunk", "Add it."),
    ("[embeddings.e]\ntrunk = 't'\n[embeddings.f]\ntrunk = 't'\nmodel = ['m', 'e']", "[embeddings.e]", "model 'e'"),
    ("[tasks.a.match]\nheader = { 'x y' = 'z' }", "match.header is a table", "header names and values"),
    ("[tasks.a.match]\nheader = 'x'", "match.header is 'x'", "header names and values"),
    (
        "[tasks.a.match]\nheader = { X-Team = 'z' }\n[tasks.b.match]\nheader = { x-team = 'z' }",
        "'a' and 'b'",
        "match the header 'x-team: z'",
    ),
    ("gateway = 3", ":1: gateway is 3", "a table was expected"),
    ("[[gateway]]\nport = 1", ":1: gateway is [", "a table was expected"),
    ("[gateway]\nport = '8600'", ":2: gateway.port is '8600'", "a whole number from 0 to 65,535"),
    ("[gateway]\nport = true", "gateway.port is true", "a whole number"),
    ("[gateway]\nport = 65536", "gateway.port is 65536", "a whole number"),
    ("[gateway]\nport = 1.5", "gateway.port is 1.5", "a whole number"),
    ("[gateway]\nhost = 'example.org'", "gateway.host is", "an IP address of this machine or localhost"),
    ("[gateway]\nmetrics = 'everybody'", "gateway.metrics is 'everybody'", "'public', 'key', 'admin'"),
    ("[gateway]\nkey_rate = '5/day'", "gateway.key_rate is '5/day'", "such as 60/min"),
    ("[gateway]\nkey_concurrency = 0", "gateway.key_concurrency is 0", "a whole number from 1"),
    ("[gateway]\ndrain_s = nan", "gateway.drain_s is NaN", "a number of at least 0"),
    ("[gateway]\nreceipt_s = 0", "gateway.receipt_s is 0", "above 0"),
    ("[store]\nretention_days = 0", "retention_days is 0", "a whole number from 1"),
    ("[store]\nhome = ''", "store.home is ''", "not empty"),
    ("[store]\nhome = '~nobody-here/x'", ":2: store.home is '~nobody-here/x'", "whose ~ can be resolved"),
    ("NAME = 1", ":1: unknown key 'NAME' at the top", "Known: gateway"),
    ('[store]\nhome = "a\\u0000b"', "store.home is", "a folder"),
    ("[tasks.a]\ntarget_risk = 0", "target_risk is 0;", "above 0 and below 0.5"),
    ("[tasks.a]\ntarget_risk = 0.5", "target_risk is 0.5", "above 0 and below 0.5"),
    ("[tasks.a]\ntarget_risk = true", "target_risk is true", "a number"),
    ("[tasks.a]\nconfidence_level = 0.49", "confidence_level is 0.49", "at least 0.5 and below 1"),
    ("[tasks.a]\nconfidence_level = 1.0", "confidence_level is 1.0", "at least 0.5 and below 1"),
    ("[tasks.a]\naudit_rate = 1.01", "audit_rate is 1.01", "at least 0 and at most 1"),
    ("[tasks.a]\naudit_rate = inf", "audit_rate is Infinity", "a number"),
    ("[tasks.a]\ncontent = 'all'", "content is 'all'", "one of 'digest', 'full'"),
    ("[tasks.a]\nretention_days = 0", "tasks.a.retention_days is 0", "a whole number from 1 to 36,500"),
    (
        "[tasks.a]\ncontent = 'none'\nwhen_kept = 'review'",
        ":3: tasks.a.when_kept is 'review', which keeps a request's text",
        "'refuse' or 'best' was expected, as tasks.a.content is 'none'",
    ),
    (
        "[tasks.a]\nretention_days = 7\ncontent = 'none'",
        ":2: tasks.a.retention_days is 7; none was expected, as tasks.a.content is 'none'",
        "Remove it",
    ),
    (
        "[tasks.a]\nlabels_per_day = 5",
        ":2: tasks.a.labels_per_day is 5, and tasks.a.content is 'digest'; 'full' was expected",
        "Set content to 'full'",
    ),
    (
        "[tasks.a]\nlabels_per_day = 5\ncontent = 'none'",
        "tasks.a.content is 'none'; 'full' was expected",
        "Set content",
    ),
    ("[tasks.a]\nmessages = 'last'", "messages is 'last'", "'last_user'"),
    ("[tasks.a.guard]\nx = 1.0", ":2: tasks.a.guard.x is 1.0", "above 0 and below 1"),
    ("[tasks.a.guard]\nx = 0", "guard.x is 0", "above 0 and below 1"),
    ("[tasks.a.require]\naccuracy = 91", "accuracy is 91", "at most 1"),
    ("[tasks.a.match]\nmodel = []", "match.model is []", "a model's name"),
    ("[tasks.a.match]\nsystem_prompt = ['']", "system_prompt is ['']", "exact system prompt"),
    ("[tasks.a.match]\nmodel = 'task:b'", "has the model 'task:b'", "'task:a' always matches"),
    ("[tasks.Triage]", ":1: task is named 'Triage'", "small letters"),
    ("[tasks.'']", "task is named ''", "small letters"),
    (f"[tasks.{'a' * 65}]", "is named", "at most 64"),
    ("[upstreams.o]", ":1: [upstreams.o] has no base_url", "Add it."),
    ("[upstreams.o]\nbase_url = 'ftp://x'", "base_url is 'ftp://x'", "http or https"),
    ("[upstreams.o]\nbase_url = 'https://'", "base_url is 'https://'", "http or https"),
    ("[upstreams.o]\nbase_url = 'http://[::1'", "base_url is", "http or https"),
    ("[upstreams.o]\nbase_url = 'http://x:99999'", "base_url is", "http or https"),
    ("[upstreams.o]\nbase_url = 'http://x/?key=1'", "base_url is", "query"),
    (UPSTREAM + "price_in = -1", "price_in is -1", "at least 0"),
    (UPSTREAM + "price_in = '1'", "price_in is '1'", "an amount"),
    (UPSTREAM + "currency = 'usd'", "currency is 'usd'", "three capital letters"),
    (UPSTREAM + "api_key_env = 'my key'", "api_key_env is 'my key'", "environment variable"),
    (UPSTREAM + "[tasks.a]\nupstream = 'oo'", ":4: tasks.a.upstream is 'oo'", "Did you mean 'o'?"),
    ("[gateway]\ndefault_upstream = 'o'", "gateway.default_upstream is 'o'", "[upstreams.o]"),
    (
        "[tasks.a.match]\nmodel = ['m', 'n']\n[tasks.b.match]\nmodel = 'n'",
        ":3: the tasks 'a' and 'b'",
        "match the model 'n'",
    ),
    (
        "[tasks.a.match]\nmodel = 'm'\nsystem_prompt = 'p'\n[tasks.b.match]\nsystem_prompt = 'p'",
        "'a' and 'b'",
        "match the system prompt 'p'",
    ),
    ("x = [[[", "is not TOML", "Mend"),
    ("x = " + "[" * 5_000, "is not TOML", "Mend"),
    ("x = 1e99999999999999999999", "is not TOML", "Mend"),
    ("a = 1\na = 2", "is not TOML", "Mend"),
    (b"a = '\xff'", "is not UTF-8 (byte 5)", "UTF-8 was expected"),
]


@pytest.mark.parametrize(("text", "what", "todo"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_refused_with_place_value_and_remedy(tmp_path, text, what, todo):
    told = refusal(tmp_path, text)
    assert what in told and todo in told and "insource.toml" in told


OPAQUE = "a8b0e7153bf7c3706d85c524e4400665"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (UPSTREAM + "api_key = 'sk-abcdefgh12345678'", "sk-abc"),
        (UPSTREAM + "api_key_env = 'sk-abcdefgh12345678'", "sk-abc"),
        (UPSTREAM + "api_key_env = 'gsk_abcdefgh12345678'", "gsk_"),
        (UPSTREAM + "model = 'Bearer sk-abcdefgh12345678'", "sk-abc"),
        ("[tasks.a.match]\nmodel = ['m', 'sk-abcdefgh12345678']", "sk-abc"),
        ("[tasks.a.match]\nheader = { authorization = 'Bearer sk-abcdefgh12345678' }", "sk-abc"),
        ("[policy.public]\nupstreams = ['sk-abcdefgh12345678']", "sk-abc"),
        ("[gateway]\nsk-abcdefgh12345678 = 1", "sk-abc"),
        ("[upstreams.o]\nbase_url = 'https://user:hunter2@x'", "hunter2"),
        ("[upstreams.o]\nbase_url = 'user:hunter2@x'", "hunter2"),
        ("[upstreams.o]\nbase_url = 'https://x/v1?key=hunter2'", "hunter2"),
        ("[upstreams.o]\nbase_url = 'x/v1?key=sk-abcdefgh12345678'", "sk-abc"),
        (f"[upstreams.{OPAQUE}]\nbase_url = 'http://x'", OPAQUE),
        (UPSTREAM + f"api_key_env = '{OPAQUE}'", OPAQUE),
        (UPSTREAM + f"key_header = '{OPAQUE}'", OPAQUE),
        (f"[gateway]\ndefault_upstream = '{OPAQUE}'", OPAQUE),
        (f"[tasks.a.match]\nheader = {{ authorization = 'Bearer {OPAQUE[:12]}' }}", OPAQUE[:12]),
        (UPSTREAM + "model = 'aB3dEfGhIjKlMnOpQrStUvWxYz0123456789AbCdEfGh'", "aB3dEf"),
    ],
)
def test_secrets_are_refused_and_never_shown(tmp_path, text, secret):
    assert secret not in refusal(tmp_path, text)


def test_a_system_prompt_may_look_like_anything(tmp_path):
    prompt = "sk-abcdefgh12345678"
    assert config(tmp_path, f"[tasks.a.match]\nsystem_prompt = '{prompt}'").tasks["a"].match.system_prompts == (prompt,)


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"INSOURCE_GATEWAY_PROT": "1"}, "Did you mean 'INSOURCE_GATEWAY_PORT'?"),
        ({"INSOURCE_STORE_HOME": "x"}, "Did you mean 'INSOURCE_HOME'?"),
        ({"INSOURCE_GATEWAY_PORT": "x"}, "environment INSOURCE_GATEWAY_PORT: gateway.port is 'x'; a whole number"),
        ({"INSOURCE_GATEWAY_DRAIN_S": "x"}, "gateway.drain_s is 'x'; a number"),
        ({"INSOURCE_GATEWAY_DRAIN_S": "nan"}, "gateway.drain_s is NaN; a number"),
        ({"INSOURCE_GATEWAY_HOST": "here"}, "gateway.host is 'here'; an IP address of this machine or localhost"),
    ],
)
def test_the_environment_is_checked_alike(tmp_path, env, told):
    assert told in refusal(tmp_path, "", env=env)


def test_a_key_from_the_environment_is_not_shown_either(tmp_path):
    env = {"INSOURCE_GATEWAY_DEFAULT_UPSTREAM": OPAQUE}
    told = refusal(tmp_path, "", env=env)
    assert OPAQUE not in told and "looks like a key" in told


def test_what_only_looks_long_is_shown(tmp_path):
    assert "'no-such-header-of-a-rather-long-name'" in refusal(
        tmp_path, UPSTREAM + "key_header = 'no-such-header-of-a-rather-long-name'"
    )
    assert config(tmp_path, "[embeddings.e]\ntrunk = '" + "0a" * 32 + "'").embeddings["e"].trunk == "0a" * 32


def test_flags_are_checked_alike(tmp_path):
    assert refusal(tmp_path, "", flags={"gateway.port": -1}).startswith("flag: gateway.port is -1")
    with pytest.raises(KeyError):
        config(tmp_path, "", flags={"gateway.prot": 1})


KEYS = st.sampled_from([part for s in SETTINGS for part in s.path] + ["x", "a.b", "policy", "sk-12345678"])
TOML = st.recursive(
    st.sampled_from(
        ["1", "0.1", "true", "nan", "'x'", "'http://x'", "2020-01-01", "[]", "1_0", '"""\na\n"""', "-1e400"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda v: f"[{', '.join(v)}]")
        | st.dictionaries(KEYS, inner, max_size=3).map(
            lambda v: "{" + ", ".join(f'"{key}" = {value}' for key, value in v.items()) + "}"
        )
    ),
    max_leaves=6,
)
STATEMENT = st.one_of(
    st.tuples(KEYS, TOML).map(lambda kv: f'"{kv[0]}" = {kv[1]}'),
    st.lists(KEYS, min_size=1, max_size=4).map(lambda keys: "[" + ".".join(f'"{key}"' for key in keys) + "]"),
    st.text(max_size=8),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STATEMENT, max_size=8).map("\n".join).map(str.encode) | st.binary(max_size=40))
def test_any_bytes_give_a_config_or_a_refusal(tmp_path, data):
    try:
        found = config(tmp_path, data)
    except ConfigError as error:
        assert "insource.toml" in str(error)
        return
    assert found.path == tmp_path / "insource.toml"
    assert all(0 < task.target_risk < 0.5 for task in found.tasks.values())
