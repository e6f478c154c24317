"""`insource serve` and `insource serve-scripted`, as processes."""

import json
import signal
import urllib.request
from datetime import UTC, datetime

import pytest

from insource.cli.serve import banner
from insource.config import load
from insource.config.given import FLAG_UPSTREAM, with_upstream
from insource.errors import ConfigError
from insource.store.ledger import Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.registry import Registry


def read_until(child, word):
    """Return the lines up to the first with `word`; fails with standard error where the process ends before."""
    lines = []
    for line in child.stdout:
        lines.append(line.rstrip("\n"))
        if word in line:
            return lines
    raise AssertionError(lines + [child.stderr.read()])


def url_of(lines):
    return next(word for line in lines for word in line.split() if word.startswith("http://127.0.0.1:"))


def ask(url, text, model="gpt-x"):
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(f"{url}/chat/completions", json.dumps(body).encode(),
                                     {"content-type": "application/json"})  # fmt: skip
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)["choices"][0]["message"]["content"], reply.headers


def stop(child):
    child.send_signal(signal.SIGTERM)
    out = child.stdout.read()
    assert child.wait(timeout=60) == 0, child.stderr.read()
    return out


def test_a_promoted_specialist_answers_and_the_rest_goes_up(run, registered, started, traffic, home):
    registered()
    assert run("promote", "triage").code == 0
    upstream = started("serve-scripted", traffic, "--port", "0", "--price-in", "0.15", "--price-out", "0.6")
    told = read_until(upstream, "Ctrl-C stops it")
    assert told[0] == "scripted upstream: answers from recorded references; not a model"
    assert "knows 1 texts" in told[1]

    gateway = started("serve", "--port", "0", "--upstream", url_of(told))
    lines = read_until(gateway, "kept for 30 days")
    assert lines[0].startswith("task triage: triage@1 (linear) accepts at 0.4200, certified coverage 80.0 %")
    assert any(line.startswith("insource listens on http://127.0.0.1:") for line in lines)
    assert any(FLAG_UPSTREAM in line for line in lines)
    assert any("digests only" in line for line in lines)

    content, headers = ask(url_of(lines), "my card was stolen", "task:triage")
    assert content == "card"
    assert headers["x-insource-reason"] == "above_threshold"
    content, headers = ask(url_of(lines), "where is my card?")
    assert content == "card"
    assert headers["x-insource-reason"] == "no_task"

    assert "every decision is in the ledger" in stop(gateway)
    assert "answered" in stop(upstream)
    with LedgerReader(home) as reader:
        rows = list(reader.rows())
    assert [str(row.decision.reason) for row in rows] == ["above_threshold", "no_task"]
    assert rows[0].settlement.joules > 0


def test_two_workers_reload_when_they_are_told(run, process, started, tmp_path):
    assert "No gateway serves" in run("config", "reload").err
    file = tmp_path / "insource.toml"
    file.write_text("[gateway]\nport = 0\n")
    gateway = started("serve", "--workers", "2")
    assert "workers: 2, and this process, which writes the ledger" in read_until(gateway, "kept for 30 days")
    file.write_text("[gateway]\nport = 0\n[tasks.more]\n")
    done = process("config", "reload")
    assert done.returncode == 0 and f"(process {gateway.pid}) took it over" in done.stdout, done.stderr
    file.write_text("[gateway]\nport = 8601\n")
    done = process("config", "reload")
    assert done.returncode == 2 and "goes on with the configuration it had" in done.stderr
    assert "gateway.port" in done.stderr
    stop(gateway)
    assert process("config", "reload").returncode == 2


def test_a_ledger_with_a_writer_is_refused(process, home):
    with Ledger.open(home, clock=lambda: datetime.now(UTC)):
        done = process("serve", "--port", "0")
    assert done.returncode == 1
    assert "is being written by process" in done.stderr
    assert "hint: Stop the other gateway" in done.stderr


def test_addresses_beyond_loopback_are_refused_without_a_key_that_is_valid(run):
    for made in (False, True):
        done = run("serve", "--host", "0.0.0.0", "--port", "0")
        assert done.code == 2
        assert "gateway.host is '0.0.0.0', which others can reach; without a key" in done.err
        assert "insource keys create" in done.err
        if not made:
            told = json.loads(run("keys", "create", "app", "--json", "-").out)
            assert run("keys", "revoke", told["id"]).code == 0


def test_an_address_beyond_loopback_from_the_environment_is_refused_alike(run, monkeypatch):
    monkeypatch.setenv("INSOURCE_GATEWAY_HOST", "10.0.0.1")
    done = run("serve", "--port", "0")
    assert done.code == 2
    assert "gateway.host is '10.0.0.1', which others can reach; without a key" in done.err


def test_an_upstream_that_is_no_address_is_refused(run):
    done = run("serve", "--upstream", "api.openai.com")
    assert done.code == 2
    assert "flag: --upstream is 'api.openai.com'" in done.err


def test_a_missing_key_is_told_before_requests_are_taken(process, tmp_path):
    (tmp_path / "insource.toml").write_text(
        '[upstreams.main]\nbase_url = "https://a.example/v1"\napi_key_env = "NO_SUCH_KEY"\n'
    )
    done = process("serve", "--port", "0")
    assert done.returncode == 2
    assert "NO_SUCH_KEY is not set" in done.stderr
    assert "listens" not in done.stdout


def test_the_upstream_of_the_command_line_gets_no_key_of_another(tmp_path):
    (tmp_path / "insource.toml").write_text(
        '[upstreams.main]\nbase_url = "https://a.example/v1"\napi_key_env = "A_KEY"\n'
    )
    config = with_upstream(load(tmp_path / "insource.toml", env={}), "http://127.0.0.1:9/v1/")
    assert config.default_upstream.name == FLAG_UPSTREAM
    assert config.default_upstream.base_url == "http://127.0.0.1:9/v1"
    assert config.default_upstream.api_key_env is None
    assert config.upstreams["main"].api_key_env == "A_KEY"
    with pytest.raises(ConfigError):
        with_upstream(config, "http://user:secret@a.example")


def test_the_banner_tells_what_serves_each_task(run, registered, home, tmp_path):
    with Registry.open(home) as registry:
        assert list(banner(load(env={}), registry)) == ["tasks: none yet; everything is passed through and recorded"]
    (tmp_path / "insource.toml").write_text("[tasks.triage]\n")
    registered(calibration=None)
    config = load(tmp_path / "insource.toml", env={})
    with Registry.open(home) as registry:
        assert list(banner(config, registry)) == ["task triage: no active version; everything goes up"]
    run("promote", "triage", "--anyway", "--why", "a test")
    with Registry.open(home) as registry:
        assert list(banner(config, registry)) == ["task triage: triage@1 (linear) has no threshold; everything goes up"]


def test_a_file_without_answers_cannot_be_played_back(run, tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "hello"}\n')
    done = run("serve-scripted", "x.jsonl")
    assert done.code == 2
    assert "None of the 1 requests in x.jsonl has an answer" in done.err


@pytest.mark.parametrize("arguments", [("--price-in", "0.1"), ("--price-in", "-1"), ("--price-in", "NaN"),
                                       ("--fault-rate", "2"), ("--latency-ms", "-1"), ("--port", "70000")])  # fmt: skip
def test_choices_that_make_no_sense_are_refused(run, traffic, arguments):
    done = run("serve-scripted", traffic, *arguments)
    assert done.code == 2
    assert "internal" not in done.err


def test_bad_lines_are_refused_or_counted(run, traffic):
    with traffic.open("a") as file:
        file.write("{broken\n")
    done = run("serve-scripted", traffic)
    assert done.code == 2
    assert f"{traffic}:3" in done.err
