"""`insource keys`."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from insource.store.keys import KEY, digest_of
from insource.store.registry import Registry
from insource.store.spending import Spending


def test_a_key_is_made_shown_once_listed_and_revoked(run, home):
    done = run("keys", "create", "ticket app", "--budget", "5 EUR/day", "--rate", "60/min", "--concurrency", "4",
               "--tokens", "1000/total", "--expires", "90d", "--sensitivity", "internal", "--who", "ada",
               "--why", "a pilot")  # fmt: skip
    assert done.code == 0 and "first key of this home" in done.out
    secret = done.out.splitlines()[0]
    assert KEY.fullmatch(secret)
    with Registry.open(home) as registry:
        (key,) = registry.keys()
        assert list(registry.keys_by_digest()) == [digest_of(secret)]
        (act,) = registry.acts(key.id)
    assert (act.who, act.what, act.detail) == ("ada", "create key", "ticket app: a pilot")
    assert timedelta(days=89) < key.expires - datetime.now(UTC) < timedelta(days=91)
    spending = Spending.open(home)
    spending.note({(key.id, "money", f"{datetime.now(UTC):%Y-%m-%d}"): Decimal("0.50")})
    spending.close()
    (told,) = json.loads(run("keys", "list", "--json", "-").out)["keys"]
    assert told["budgets"][0] == {
        "kind": "money", "unit": "EUR", "per": "day", "limit": "5", "spent": "0.5", "left": "4.5"
    }  # fmt: skip
    assert told["rate"] == {"requests": 60, "seconds": 60.0} and told["concurrency"] == 4
    listed = run("keys", "list").out
    assert "4.5 of 5 EUR a day left" in " ".join(listed.split()) and secret[11:] not in listed
    assert "is revoked" in run("keys", "revoke", key.id, "--why", "lost").out
    assert "was revoked already" in run("keys", "revoke", key.id).out
    assert "No key is valid" in run("keys", "list").out
    assert "revoked" in run("keys", "list", "--all").out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--task", "triagge"], "tasks names 'triagge', which there is not here"),
        (["--upstream", "x"], "upstreams names 'x'"),
        (["--budget", "5"], "budget is '5'; an amount a day, month or in total"),
        (["--budget", "-5/day"], "budget is '-5/day'"),
        (["--tokens", "0/day"], "tokens is '0/day'"),
        (["--rate", "5/year"], "rate is '5/year'"),
        (["--concurrency", "0"], "concurrency is 0"),
        (["--expires", "2020-01-01"], "expires is '2020-01-01'; a time to come"),
        (["--expires", "999999w"], "expires is '999999w'"),
        (["--sensitivity", "secret"], "sensitivity is 'secret'; public, internal or restricted"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_made(run, home, arguments, told):
    done = run("keys", "create", "app", *arguments)
    assert done.code == 2 and told in done.err
    with Registry.open(home) as registry:
        assert registry.keys() == ()


def test_status_tells_keys_and_budgets(run, registered):
    registered()
    run("keys", "create", "app", "--budget", "5/day")
    done = run("status")
    assert "1 valid of 1" in done.out and "5 of 5 USD a day left" in done.out
    assert json.loads(run("status", "--json", "-").out)["keys"][0]["name"] == "app"
