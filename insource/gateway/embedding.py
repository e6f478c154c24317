"""/v1/embeddings answered here: which names a trunk computes for, and one such request from decision to settlement.

It knows no upstream; what is not ours to embed is left to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from insource.backends.embedding import embeddings_reply
from insource.backends.reply import read_whole
from insource.cascade.choice import Choice
from insource.config import EmbeddingsConfig
from insource.gateway.recorder import Exchange
from insource.gateway.sending import Client, send_body, told
from insource.gateway.wire import JSON
from insource.types import Decision, Outcome, Reason, Request

if TYPE_CHECKING:
    from insource.gateway.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Embedder:
    """A loaded trunk and the name it serves under."""

    name: str
    trunk: Any


async def open_embedders(
    configured: Mapping[str, EmbeddingsConfig], open_trunk: Callable[[str], Any]
) -> dict[str, Embedder]:
    """Return the embedder of every model's name; raise what `open_trunk` raises."""
    found: dict[str, Embedder] = {}
    for name, config in configured.items():
        embedder = Embedder(name, await asyncio.to_thread(open_trunk, config.trunk))
        found |= dict.fromkeys((name, *config.models), embedder)
    return found


async def answer_here(gateway: Gateway, request: Request, client: Client) -> bool:
    """Embed a request's texts and reply; return False, having done nothing, where that is the upstream's."""
    generation = gateway.generation
    embedder = generation.embedders.get(request.model)
    if embedder is None:
        return False
    began = perf_counter()
    body = await asyncio.to_thread(embeddings_reply, embedder.trunk, request.fields, request.model)
    if body is None:
        return False
    seconds = perf_counter() - began
    request = await generation.rated(request, None)
    decision = Decision(
        request.id, gateway.clock(), Outcome.ACCEPTED, Reason.COMPUTED, sensitivity=request.sensitivity,
        key=request.key.id if request.key is not None else None,
    )  # fmt: skip
    served_by = f"embeddings:{embedder.name}"
    token = gateway.spans.begin(request, client.started)
    exchange = Exchange(request, None, {}, Choice(decision), client.started, token)
    await gateway.recorder.decided(exchange)
    await send_body(client.send, 200, body, [JSON, *told(decision, served_by)])
    reply = read_whole(200, (), body, "embeddings")
    gateway.recorder.settled(exchange, 200, served_by, reply=reply, seconds=seconds)
    return True
