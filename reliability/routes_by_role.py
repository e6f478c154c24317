"""Roles, their keys and what each may reach, a build that takes everybody in, and a route that says nothing.

`x04_default_deny` tries them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

from insource.gateway.access import Route
from insource.gateway.app import create_app
from insource.gateway.parts import Parts
from insource.store.keys import new_secret
from insource.store.registry import Registry
from insource.types import Key

ROLES = ("nobody", "forged", "expired", "revoked", "basic", "key", "administrator")
ADMINISTERED = ("/v1/insource/keys", "/metrics")
PUBLIC = ("/healthz", "/readyz")
PLANTED = "/v1/planted"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a role, and the header that it brings."""

    role: str
    header: str

    def may_call(self, path: str) -> bool:
        """Whether a route is one for this role."""
        if path in PUBLIC or self.role == "administrator":
            return True
        return self.role == "key" and not path.startswith(ADMINISTERED)


def make_callers(home: Path) -> dict[str, Caller]:
    """Make the roles' keys in a home, and return who brings which."""
    now = datetime.now(UTC)
    with Registry.open(home) as registry:

        def made(**changes: object) -> tuple[Key, str]:
            return registry.create_key(Key("", "soak", now, "soak", **changes), "a promise")  # type: ignore[arg-type]

        revoked, gone = made(admin=True)
        registry.revoke_key(revoked.id, "soak", "a promise", now)
        _, over = made(admin=True, expires=now - timedelta(days=1))
        _, plain = made()
        _, admin = made(admin=True)
    texts = {"forged": admin[:20] + new_secret()[1][20:], "expired": over, "revoked": gone, "key": plain}
    callers = {role: Caller(role, f"authorization: Bearer {text}") for role, text in texts.items()}
    return callers | {
        "nobody": Caller("nobody", "x-nothing: 1"),
        "basic": Caller("basic", f"authorization: Basic {admin}"),
        "administrator": Caller("administrator", f"x-api-key: {admin}"),
    }


class Doorless:
    """The broken build: takes everybody for the administrator."""

    def __init__(self, app: ASGIApp, header: str) -> None:
        self._app = app
        self._header = tuple(part.strip().encode() for part in header.split(":"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve with the administrator's key."""
        if scope["type"] == "http":
            others = [header for header in scope["headers"] if header[0] not in (b"authorization", b"x-api-key")]
            scope = {**scope, "headers": [*others, self._header]}
        await self._app(scope, receive, send)


def doorless(parts: Parts, header: str) -> ASGIApp:
    """Return the broken build of a gateway's parts."""
    app = create_app(parts)
    broken = Doorless(app, header)
    broken.state = app.state  # type: ignore[attr-defined]
    return broken


def planted(parts: Parts) -> ASGIApp:
    """Return a gateway with one route more, which does not say who may call it."""
    app = create_app(parts)
    app._routes = {**app._routes, ("GET", PLANTED): Route(app._anything.serve)}
    return app
