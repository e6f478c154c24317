"""Which sensitivity may go where: by name, by jurisdiction, or nowhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.config import Allowed, PolicyConfig, UpstreamConfig
from insource.policy.rules import kept_local, may_take
from insource.types import Message, Request, Sensitivity

HOUSE = UpstreamConfig("house", "http://127.0.0.1:1", jurisdiction="house")
PARIS = UpstreamConfig("paris", "http://127.0.0.1:2", jurisdiction="EU")
BOSTON = UpstreamConfig("boston", "http://127.0.0.1:3", jurisdiction="US")
SOMEWHERE = UpstreamConfig("somewhere", "http://127.0.0.1:4")
ALL = (HOUSE, PARIS, BOSTON, SOMEWHERE)


def taken(policy, sensitivity):
    return [upstream.name for upstream in ALL if sensitivity in may_take(policy, upstream)]


def test_by_default_all_but_restricted_goes_anywhere():
    policy = PolicyConfig()
    assert taken(policy, Sensitivity.PUBLIC) == taken(policy, Sensitivity.INTERNAL) == [u.name for u in ALL]
    assert taken(policy, Sensitivity.RESTRICTED) == []


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        (Allowed(("house",)), ["house"]),
        (Allowed((), ("EU",)), ["paris"]),
        (Allowed(("somewhere",), ("EU", "US")), ["paris", "boston", "somewhere"]),
        (Allowed((), ("*",)), ["house", "paris", "boston"]),
        (Allowed(("*",), ("EU",)), ["house", "paris", "boston", "somewhere"]),
        (Allowed(), []),
        (Allowed(("EU",), ("paris",)), []),
    ],
)
def test_names_and_jurisdictions_add_up(allowed, names):
    assert taken(PolicyConfig(internal=allowed), Sensitivity.INTERNAL) == names


@pytest.mark.parametrize("allowed", [Allowed(("*",)), Allowed((), ("EU", "*", "house")), Allowed(("EU",), ("*",))])
def test_restricted_text_goes_by_name_or_not_at_all(allowed):
    assert taken(PolicyConfig(restricted=allowed), Sensitivity.RESTRICTED) == []
    assert taken(PolicyConfig(restricted=Allowed(("house",), ("US",))), Sensitivity.RESTRICTED) == ["house"]


NAMES = st.lists(st.sampled_from(["house", "paris", "boston", "somewhere", "EU", "US", "*"]), max_size=4).map(tuple)
ALLOWED = st.builds(Allowed, NAMES, NAMES)


@given(ALLOWED, ALLOWED, ALLOWED)
def test_as_the_rule_says_for_any_policy(public, internal, restricted):
    policy = PolicyConfig(public=public, internal=internal, restricted=restricted)
    for upstream in ALL:
        for sensitivity, rule in zip(Sensitivity, (public, internal, restricted), strict=True):
            named = upstream.name in rule.upstreams
            lies = upstream.jurisdiction in rule.jurisdictions or ("*" in rule.jurisdictions and upstream.jurisdiction)
            wanted = named or (sensitivity is not Sensitivity.RESTRICTED and (bool(lies) or "*" in rule.upstreams))
            assert (sensitivity in may_take(policy, upstream)) == wanted


@pytest.mark.parametrize("sensitivity", [*Sensitivity, None])
def test_the_refusal_names_upstream_and_sensitivity_and_no_word_of_the_request(sensitivity):
    request = Request("id-7", (Message("user", "canary"),), "canary", {"canary": "canary"}, {"canary": "canary"},
                      b"canary", "/v1/canary", sensitivity=sensitivity)  # fmt: skip
    error = kept_local(("openai", "house"), request)
    told = f"{error} {error.hint} {error!r}"
    assert "canary" not in told and "'openai', 'house'" in told
    assert (sensitivity or Sensitivity.RESTRICTED).value in told and (error.status, error.code) == (403, "kept_local")
