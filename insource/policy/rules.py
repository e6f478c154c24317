"""Which sensitivity may go to which upstream, as `[policy]` says it, and the refusal of what may not.

Worked out once per upstream, never per request. It knows names and jurisdictions; no address and no text.
"""

from __future__ import annotations

from collections.abc import Sequence

from insource.config import PolicyConfig, UpstreamConfig
from insource.errors import KeptLocal
from insource.types import Request, Sensitivity

ALL = "*"


def may_take(policy: PolicyConfig, upstream: UpstreamConfig) -> frozenset[Sensitivity]:
    """Return the sensitivities that the upstream may be given.

    Restricted text goes to upstreams that are named, and to no other: neither "*" nor a jurisdiction names one. An
    upstream without a jurisdiction lies in none, so that "*" among jurisdictions leaves it out.
    """
    return frozenset(sensitivity for sensitivity in Sensitivity if _allowed(policy, upstream, sensitivity))


def kept_local(upstreams: Sequence[str], request: Request) -> KeptLocal:
    """Return the refusal: names the upstreams and the sensitivity, and nothing of the request."""
    rated = request.sensitivity.value if request.sensitivity is not None else "unrated, and so restricted,"
    names = ", ".join(f"'{name}'" for name in upstreams)
    level = request.sensitivity or Sensitivity.RESTRICTED
    door = f"[policy.{level.value}]" if request.key is None else f"[policy.{level.value}] together with its key"
    return KeptLocal(
        f"The request is {rated} and was to go to {names}; {door} allows none of them. "
        f"Name an upstream in policy.{level.value}.upstreams, or leave the request to a specialist."
    )


def _allowed(policy: PolicyConfig, upstream: UpstreamConfig, sensitivity: Sensitivity) -> bool:
    allowed = policy.allowed(sensitivity)
    if upstream.name in allowed.upstreams:
        return True
    if sensitivity is Sensitivity.RESTRICTED:
        return False
    if ALL in allowed.upstreams:
        return True
    return upstream.jurisdiction is not None and not {upstream.jurisdiction, ALL}.isdisjoint(allowed.jurisdictions)
