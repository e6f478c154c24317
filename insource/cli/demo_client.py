"""The demo's client: the official openai package, pointed at the gateway by nothing but its base_url.

It measures what a caller sees: who answered, how long it took, and whether the answer was right.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from insource.errors import MissingExtra
from insource.types import Example

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: what was said, what was right, whether a specialist answered, and the seconds it took."""

    content: str
    reference: str
    gold: str
    accepted: bool
    seconds: float
    request_id: str


@dataclass(frozen=True, slots=True)
class Replies:
    """All replies; `audited` of the accepted ones went to the upstream as well."""

    replies: tuple[Reply, ...]
    audited: int = 0

    def figures(self) -> dict[str, Any]:
        """Return counts, shares and latencies."""
        accepted = [reply for reply in self.replies if reply.accepted]
        wrong = sum(reply.content != reply.reference for reply in accepted)
        right = sum(reply.content == reply.gold for reply in self.replies)
        return {
            "requests": len(self.replies),
            "accepted": len(accepted),
            "coverage": len(accepted) / len(self.replies),
            "audited": self.audited,
            "saved": len(accepted) - self.audited,
            "risk": wrong / len(accepted) if accepted else None,
            "accuracy": right / len(self.replies),
            "latency_ms": {
                "accepted": _latency(accepted),
                "escalated": _latency([reply for reply in self.replies if not reply.accepted]),
            },
        }


def send(url: str, examples: Sequence[Example], progress: Callable[[int, int | None], None]) -> Replies:
    """Send every example's conversation to the gateway, eight at a time, in order.

    Raises MissingExtra where the openai package is not installed.
    """
    try:
        import openai
    except ImportError as error:
        raise MissingExtra(
            "The demo's client is the openai package, which is not installed; it was expected beside insource. "
            "Run: pip install 'insource[demo]'"
        ) from error
    return asyncio.run(_send(openai, url, examples, progress))


async def _send(
    openai: Any, url: str, examples: Sequence[Example], progress: Callable[[int, int | None], None]
) -> Replies:
    replies: list[Reply | None] = [None] * len(examples)
    waiting = iter(enumerate(examples))
    done = 0

    async def work(client: Any) -> None:
        nonlocal done
        for number, example in waiting:
            replies[number] = await _ask(client, example)
            done += 1
            progress(done, len(examples))

    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="demo", max_retries=2) as client:
        await asyncio.gather(*(work(client) for _ in range(AT_ONCE)))
    return Replies(tuple(reply for reply in replies if reply is not None))


async def _ask(client: Any, example: Example) -> Reply:
    messages = [{"role": message.role, "content": message.content} for message in example.request.messages]
    start = time.perf_counter()
    raw = await client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=messages)
    seconds = time.perf_counter() - start
    reference = example.answer or ""
    return Reply(
        content=raw.parse().choices[0].message.content or "",
        reference=reference,
        gold=example.gold or reference,
        accepted=raw.headers.get("x-insource-reason") == "above_threshold",
        seconds=seconds,
        request_id=raw.headers.get("x-insource-request-id", ""),
    )


def _latency(replies: Sequence[Reply]) -> dict[str, float | None]:
    if not replies:
        return {"p50": None, "p99": None}
    p50, p99 = np.quantile([reply.seconds * 1000 for reply in replies], [0.5, 0.99])
    return {"p50": float(p50), "p99": float(p99)}
