"""Requests that each hold a canary, by every way out that a gateway has; and what the servers around it reply.

A canary names its case and its sensitivity, so that whoever finds one knows where it may stand. It knows no gateway.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from insource.types import Example, Message, Request
from reliability.recording import Received, reply

PLACES: Mapping[str, tuple[str, ...]] = {
    "us": ("public",),
    "us2": ("public",),
    "eu": ("public", "internal"),
    "spare": ("public",),
    "box": ("public", "internal", "restricted"),
}
"""The servers, and the sensitivities that may reach each; "box" stands in the house."""

_LETTERS = {"r": "restricted", "i": "internal", "p": "public"}
_CANARY = re.compile(rb"zq([rip])(\d{8})[0-9a-f]{16}")
_RESTRICTED = (
    "restricted",
    "RESTRICTED",
    " Restricted ",
    "top secret",
    "",
    "public, internal",
    "public,restricted",
    "0",
)
"""What the header may say for a request to count as restricted: the word, or anything that nobody can read."""
_CHECKS = ("detected", "crashing", "hanging", "babbling")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request to send, the way it tries, and the canaries in it."""

    way: str
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    method: str
    canaries: tuple[str, ...]


def canary(case: int, level: str) -> str:
    """Return the canary of a case."""
    return f"zq{level[0]}{case:08d}{sha256(f'{case} {level}'.encode()).hexdigest()[:16]}"


def canaries_in(data: bytes) -> Iterator[str]:
    """Return every canary in some bytes."""
    yield from (found.group().decode() for found in _CANARY.finditer(data))


def level_of(found: str) -> str:
    """Return the sensitivity of a canary."""
    return _LETTERS[found[2]]


def rings(word: str, text: str) -> bool:
    """Whether a request asks the check of its text for something."""
    return f"check:{word}" in text


def _chat(case: int, chance: random.Random, level: str, *, model: str, start: str, path: str = "") -> tuple[str, Any]:
    told = f"{start} {canary(case, level)}"
    content: Any = told if chance.random() < 0.7 else [{"type": "text", "text": told}]
    messages = [{"role": "system", "content": f"Help {canary(case, level)}."}, {"role": "user", "content": content}]
    body: dict[str, Any] = {"model": model, "messages": messages, "user": canary(case, level)}
    if chance.random() < 0.3:
        body["metadata"] = {"note": canary(case, level)}
    if chance.random() < 0.15:
        body["tools"] = [{"type": "function", "function": {"name": "f", "description": canary(case, level)}}]
    if chance.random() < 0.3:
        body["stream"] = True
    return path or "/v1/chat/completions", body


def _dialect(name: str, case: int, chance: random.Random, level: str) -> tuple[str, Any]:
    told = f"unsure {canary(case, level)}"
    bodies: dict[str, tuple[str, Any]] = {
        "completions": ("/v1/completions", {"prompt": told}),
        "responses": ("/v1/responses", {"instructions": told, "input": told, "metadata": {"note": told}}),
        "messages": (
            "/v1/messages",
            {"system": told, "messages": [{"role": "user", "content": told}], "max_tokens": 9},
        ),
        "embeddings": ("/v1/embeddings", {"input": [told, told]}),
        "moderations": ("/v1/moderations", {"input": told}),
    }
    path, body = bodies[name]
    model = chance.choice(("gpt-x", "task:triage")) if name != "embeddings" else "embed-x"
    return path, {"model": model, "user": canary(case, level), **body}


WAYS = (
    "escalation", "audit sample", "crash", "slow", "house tier", "best", "review", "no specialist", "no task",
    "completions", "responses", "messages", "embeddings", "embeddings here", "moderations", "models list", "file",
    "deletion", "odd path", "broken body", "field name", "unknown task", "checked", "internal", "neighbour",
)  # fmt: skip
"""The ways that are tried in turn. "neighbour" is public traffic, for which upstreams are asked again and again."""

_TURNS = (*WAYS, "neighbour", "internal", "neighbour", "house tier", "neighbour")

_TASKS = {"house tier": "secret", "best": "best", "review": "review", "no specialist": "bare"}
_STARTS = {"audit sample": "sure", "crash": "crash", "slow": "slow"}


def case_of(case: int) -> Asked:
    """Return the request of a case."""
    chance = random.Random(case)
    way = _TURNS[case % len(_TURNS)]
    level = {"neighbour": "public", "internal": "internal"}.get(way, "restricted")
    path, body = _made(way, case, chance, level)
    method = {"models list": "GET", "deletion": "DELETE"}.get(way, "POST")
    headers = [("content-type", "application/json"), ("host", "localhost"), ("x-note", canary(case, level))]
    if level == "restricted" and way not in _TASKS and way != "checked":
        told = chance.choice(_RESTRICTED)
        headers.append(("x-insource-sensitivity", told))
        if chance.random() < 0.2:  # said twice: the second word may not take back the first
            headers.append(("x-insource-sensitivity", "public"))
    elif chance.random() < 0.3:  # the header can only tighten
        headers.append(("x-insource-sensitivity", "public"))
    path += ("&" if "?" in path else "?") + f"note={canary(case, level)}" if chance.random() < 0.3 else ""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Asked(way, path, sent, tuple(headers), method, (canary(case, level),))


def _made(way: str, case: int, chance: random.Random, level: str) -> tuple[str, Any]:
    told = canary(case, level)
    if way in ("completions", "responses", "messages", "embeddings", "moderations"):
        return _dialect(way, case, chance, level)
    if way == "embeddings here":
        return "/v1/embeddings", {"model": "local", "input": chance.choice((told, [told], [[1, 2]])), "user": told}
    if way == "models list":
        return f"/v1/models?note={told}", b""
    if way == "file":
        return "/v1/files", f"--b\r\ncontent-disposition: form-data; name=file\r\n\r\n{told}\r\n--b--".encode()
    if way == "deletion":
        return f"/v1/files/{told}", b""
    if way == "odd path":
        return chance.choice(
            ("/v1/../x", "/v1//chat/completions", "/v1/%2e%2e/x", "/v1/batches")
        ) + f"?q={told}", told.encode()
    if way == "broken body":
        return "/v1/chat/completions", chance.choice(
            (f'{{"messages": "{told}', f'["{told}"]', f'"{told}"', told)
        ).encode()
    if way == "unknown task":
        return _chat(case, chance, level, model="task:nobody", start="unsure")
    if way == "field name":
        path, body = _chat(case, chance, level, model="task:triage", start="sure")
        return path, body | {told: told}
    if way == "checked":
        return _chat(case, chance, level, model="task:open", start=f"unsure check:{chance.choice(_CHECKS)}")
    if way == "neighbour":
        return _chat(
            case,
            chance,
            level,
            model=chance.choice(("task:open", "task:open", "gpt-x")),
            start=chance.choice(("sure", "unsure")),
        )
    model = "gpt-x" if way == "no task" else f"task:{_TASKS.get(way, 'triage')}"
    return _chat(case, chance, level, model=model, start=_STARTS.get(way, "unsure"))


def examples_for(case: int) -> list[Example]:
    """Return labelled requests with restricted texts, as a traffic file would give them."""
    examples = []
    for number in range(24):
        told = canary(90_000_000 + case * 24 + number, "restricted")
        text = f"unsure {number} {told}"
        body = json.dumps({"model": "x", "messages": [{"role": "user", "content": text}]}).encode()
        request = Request(f"{case}-{number}", (Message("user", text),), "x", body=body)
        examples.append(Example(request, ("yes", "no")[number % 2]))
    return examples


_CHAT = json.dumps(
    {
        "id": "c", "object": "chat.completion", "model": "model-x", "created": 1,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    }
).encode()  # fmt: skip
_LIST = json.dumps({"object": "list", "data": [{"id": "model-x", "object": "model"}]}).encode()


def reply_by_fault(received: Received, number: int) -> bytes | str:
    """Reply well half of the time, and else fail in one of the ways that invite another attempt."""
    fault = random.Random(number).choice(
        ("well",) * 7 + ("error", "unavailable", "limit", "reset", "cut", "hang", "garbage", "redirect")
    )
    if fault in ("reset", "cut", "hang"):
        return fault
    if fault == "garbage":
        return b"no HTTP at all\r\n\r\n"
    if fault == "redirect":
        return reply(307, b"{}", ("location", "http://127.0.0.1:9/v1/chat/completions"))
    if fault in ("error", "unavailable", "limit"):
        status = {"error": 500, "unavailable": 503, "limit": 429}[fault]
        return reply(status, b'{"error":{"message":"by script"}}', ("retry-after", "0.01"))
    return reply(200, _LIST if "/models" in received.line else _CHAT)
