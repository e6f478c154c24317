"""What each route asks of whoever calls it, and the door at which that is checked, before an endpoint hears of it.

It knows headers and keys; which route a request has, the application says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from starlette.types import Receive, Scope, Send

from insource.errors import ConfigError, OutOfScope, Unauthorised
from insource.gateway.browsers import refuse_pages
from insource.gateway.keyring import presented, without_ours
from insource.gateway.wire import read_headers
from insource.types import Key

if TYPE_CHECKING:
    from insource.gateway.gateway import Gateway

Serve = Callable[["Gateway", Scope, Receive, Send], Awaitable[None]]
KEY = "insource.key"
"""Where the scope of an admitted request has its key, or None where the gateway is open."""


class Access(Enum):
    """Who may call a route: anybody who reaches it, who has a key, who has a key of an administrator, or as configured.

    METRICS is what gateway.metrics says.
    """

    PUBLIC = "public"
    KEY = "key"
    ADMIN = "admin"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Route:
    """What serves, who may call it, and in which dialect a refusal is told."""

    serve: Serve
    access: Access | None = None
    dialect: str = "chat"


def check_routes(routes: Iterable[tuple[str, Route]]) -> None:
    """Raise ConfigError for a route that nobody said who may call: such a gateway does not start."""
    open_ended = [name for name, route in routes if not isinstance(route.access, Access)]
    if open_ended:
        raise ConfigError(
            f"The route {open_ended[0]} does not say who may call it; an access was expected. Declare one; until then "
            "the gateway does not start."
        )


async def admit(gateway: Gateway, scope: Scope, access: Access | None) -> Scope:
    """Return the scope with the caller's key, and without the header that brought it.

    Raises Unauthorised, OutOfScope, Forbidden for a page while no key is needed, StoreError where keys cannot be read.
    """
    if access is Access.METRICS:
        access = Access(gateway.config.gateway.metrics)
    raw = scope["headers"]
    keys = gateway.keys
    key: Key | None = None
    if access is Access.PUBLIC:
        if keys.loopback:
            refuse_pages(read_headers(raw))
    else:
        await keys.refresh()
        if keys.open:
            refuse_pages(read_headers(raw))
        else:
            key = keys.find(presented(raw))
            if key is None:
                raise Unauthorised("The request brings no key that is valid here; one was expected.")
            if access is not Access.KEY and not key.admin:
                raise OutOfScope("The request's key does not allow this; an administrator's was expected.")
    return {**scope, "headers": without_ours(raw), KEY: key}
