"""`insource train --tier` as people run it: before a server in the house, and every bad choice with what it says."""

import json
from random import Random

import pytest

from insource.gateway.server import ServerThread
from insource.store.registry import Registry

KEYS = {"task", "version", "family", "digest", "artifact", "model", "skipped", "rows", "reaching", "recalled",
        "outside", "accuracy", "score", "behind", "calibration", "seconds", "notes"}  # fmt: skip


def server_app(lines, asked):
    """A model server that knows the gold answers, and names log-probabilities."""
    gold = {line["text"]: line["gold"] for line in lines}

    async def app(scope, receive, send):
        if scope["type"] != "http":
            return
        body = b""
        while message := await receive():
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        text = json.loads(body)["messages"][-1]["content"]
        asked.append(text)
        tokens = {"content": [{"logprob": -Random(text).uniform(0.0, 0.2)}]}
        choice = {"message": {"content": gold[text].title()}, "logprobs": tokens, "finish_reason": "stop"}
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": json.dumps({"choices": [choice]}).encode()})

    return app


@pytest.fixture
def house(tmp_path, tickets):
    """A server on loopback with a configuration that names it; `asked` are the texts that reached it."""
    lines, asked = tickets(500, told=0.13), []
    with ServerThread(server_app(lines, asked), drain=1) as server:
        (tmp_path / "insource.toml").write_text(
            f'[upstreams.house]\nbase_url = "{server.url}/v1"\nmodel = "qwen"\n'
            f'[upstreams.bare]\nbase_url = "{server.url}/v1"\n'
            '[gateway]\ndefault_upstream = "house"\n'
            '[tasks.triage]\ntiers = "house"\n[tasks.secret]\ntiers = "house"\nsensitivity = "restricted"\n'
        )
        yield lines, asked


def test_a_tier_is_certified_behind_the_active_specialist(run, write_traffic, house, home):
    lines, asked = house
    path = write_traffic(lines)
    assert run("train", path, "--task", "triage", "--family", "linear").code == 0
    assert run("promote", "triage@1", "--who", "me").code == 0
    done = run("train", path, "--task", "triage", "--tier", "house")
    assert done.code == 0 and done.err == ""
    for told in ("triage/house@1, a candidate", "qwen", "of them reach the tier", "accepts 100.0 % of what reaches it",
                 "Next: insource promote triage/house@1"):  # fmt: skip
        assert told in done.out
    count = len(asked)
    assert 0 < count < 500
    told = json.loads(run("train", path, "--task", "triage", "--tier", "house", "--json", "-").out)
    assert set(told) == KEYS and told["reaching"] == count == len(asked)  # nothing is asked twice
    with Registry.open(home) as registry:
        active = registry.active("triage")
        assert [version.name for version in registry.versions("triage/house")] == ["triage/house@1", "triage/house@2"]
    assert told["behind"] == [{"digest": active.digest, "threshold": active.calibration.threshold}]


def test_restricted_text_is_not_sent_to_a_house_that_no_policy_names(run, write_traffic, house):
    lines, asked = house
    done = run("train", write_traffic(lines), "--task", "secret", "--tier", "house")
    assert done.code != 0 and not asked
    assert lines[0]["text"] not in done.err


@pytest.mark.parametrize(("choice", "says"), [
    (("--tier", "hous"), "--tier is 'hous'; the name of an upstream in [upstreams.NAME] was expected (house, bare)"),
    (("--tier", "bare"), "upstreams.bare.model is not set"),
    (("--tier", "house", "--strict"), "--strict was given beside --tier"),
    (("--tier", "house", "--no-certify"), "--no-certify was given beside --tier"),
    (("--tier", "house", "--family", "linear"), "--family linear was given beside --tier"),
])  # fmt: skip
def test_bad_choices_are_refused_before_anything_is_asked(run, write_traffic, house, choice, says):
    lines, asked = house
    done = run("train", write_traffic(lines), "--task", "triage", *choice)
    assert done.code == 2 and says in " ".join(done.err.split()) and not asked


def test_a_server_that_is_not_there_says_so(run, write_traffic, tickets, tmp_path):
    (tmp_path / "insource.toml").write_text('[upstreams.house]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "qwen"\n')
    done = run("train", write_traffic(tickets(40)), "--task", "triage", "--tier", "house")
    assert done.code == 1 and "'house' cannot be reached" in done.err
