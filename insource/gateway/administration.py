"""`/v1/insource/keys`: keys made, listed and revoked over HTTP, by keys of administrators only.

It reads bodies and asks the registry; who is let in, the door before it has decided.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

from insource.errors import OutOfScope, RequestError
from insource.gateway.endpoints import Endpoint
from insource.gateway.gateway import Gateway
from insource.gateway.key_wishes import to_data, wish
from insource.gateway.sending import Client, send_body
from insource.gateway.stack import tasks_here
from insource.gateway.wire import JSON, encode
from insource.gateway.wire.coding import read_object
from insource.store.spending import read_spending
from insource.types import Key, Request

KEYS = "/v1/insource/keys"
MOST_WHY = 1_000


class Administration(Endpoint):
    """`GET`, `POST` and `DELETE .../ID`."""

    async def serve(self, gateway: Gateway, request: Request, client: Client) -> None:
        """Do what the method says."""
        key = request.key
        if key is None or not key.admin:
            raise OutOfScope(
                "Keys are administered with a key of an administrator, and none came with the request. Make the first "
                "one at the command line: `insource keys create NAME --admin`."
            )
        if request.method == "POST":
            told = await self._create(gateway, request, key)
        elif request.method == "DELETE":
            told = await self._revoke(gateway, request, key)
        else:
            told = {"object": "list", "data": await gateway.registry.call(lambda: asyncio.to_thread(_all, gateway))}
        await send_body(client.send, 200, encode(told), [JSON, (b"cache-control", b"no-store")])

    async def _create(self, gateway: Gateway, request: Request, by: Key) -> dict[str, Any]:
        fields = read_object(request.body)
        why = _why(fields.pop("why", None))
        config, versions, now = gateway.config, gateway.versions, gateway.clock()
        trained = await gateway.registry.call(lambda: asyncio.to_thread(versions.tasks))
        tasks = tasks_here(config.tasks, trained)
        wanted = wish(fields, who=f"key {by.id}", now=now, tasks=tasks, upstreams=config.upstreams)
        made, secret = await gateway.registry.call(lambda: asyncio.to_thread(versions.create_key, wanted, why))
        return {**to_data(made, {}, now), "key": secret}

    async def _revoke(self, gateway: Gateway, request: Request, by: Key) -> dict[str, Any]:
        asked = unquote(request.path.partition("?")[0]).rpartition("/")[2]
        why = _why(read_object(request.body).get("why") if request.body else None)
        revoke, now = gateway.versions.revoke_key, gateway.clock()
        key, changed = await gateway.registry.call(lambda: asyncio.to_thread(revoke, asked, f"key {by.id}", why, now))
        return {**to_data(key, {}, now), "changed": changed}


def _all(gateway: Gateway) -> list[dict[str, Any]]:
    spending, now = read_spending(gateway.config.home), gateway.clock()
    return [to_data(key, spending, now) for key in gateway.versions.keys()]


def _why(told: Any) -> str:
    if told is None:
        return "no reason given"
    if not isinstance(told, str) or not told.strip() or len(told) > MOST_WHY:
        raise RequestError(f"why is no text of 1 to {MOST_WHY:,} characters; such a text was expected.")
    return told
