"""Where a text can be put so that it comes near a database: places in requests, and arguments of commands.

Each place takes a text and returns what became of it: a status, or the exit codes. It judges nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from click.testing import CliRunner

from insource.cli.main import cli
from insource.store.registry import Registry
from insource.types import Calibration, Key
from reliability.enclosed import Enclosed
from reliability.load import NOON

CHAT = "/v1/chat/completions"
KEYS = "/v1/insource/keys"
SURE = Calibration("band", 0.05, 0.95, 100, 0.5, 0.5, 50, 0, 0.04, 0.9)


@dataclass(slots=True)
class World:
    """A gateway, its registry and home, an administrator's key, and the ids of a kept request and the last."""

    gateway: Enclosed
    registry: Registry
    home: Path
    key: str
    digest: str
    kept: str = ""
    asked: str = ""
    unforeseen: list[str] = field(default_factory=list)
    """Exceptions that ended a command, or a reply of 500."""

    async def ask(self, path: str, body: Any = None, headers: Mapping[str, str] | None = None,
                  method: str = "POST") -> int:  # fmt: skip
        """Send one request with the administrator's key, unless the headers bring one; return the status."""
        told = {"content-type": "application/json", "authorization": f"Bearer {self.key}"} | dict(headers or {})
        data = body if isinstance(body, bytes) else b"" if body is None else msgspec.json.encode(body)
        replied = await self.gateway.ask(path, data, told.items(), method)
        if path == CHAT:
            self.asked = replied.headers.get("x-insource-request-id", "")
        if replied.status >= 500:
            self.unforeseen.append(f"{method} {path[:60]}: {replied.status} {replied.body[:200]!r}")
        return replied.status

    async def run(self, *arguments: str) -> int:
        """Run a command on the home and return its exit code."""
        given = ["--config", str(self.home / "insource.toml"), *arguments]
        done = await asyncio.to_thread(lambda: CliRunner().invoke(cli, given))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            self.unforeseen.append(f"{' '.join(arguments)[:80]!r}: {done.exception!r}")
        return done.exit_code


Place = Callable[[World, str], Awaitable[Any]]


def chat(text: str = "where is my card", **fields: Any) -> dict[str, Any]:
    """Return a body."""
    return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]} | fields


def _header(name: str, before: str = "") -> Place:
    return lambda world, text: world.ask(CHAT, chat(), {name: before + text})


def _body(make: Callable[[str], Any], path: str = CHAT) -> Place:
    return lambda world, text: world.ask(path, make(text))


def _path(before: str, method: str = "GET") -> Place:
    return lambda world, text: world.ask(before + quote(text, safe=""), method=method)


def _command(*arguments: str) -> Place:
    return lambda world, text: world.run(*(text if each == "TEXT" else each for each in arguments))


def _feedback(field: str) -> Place:
    def place(world: World, text: str) -> Awaitable[int]:
        told = {"request_id": world.kept, "answer": "card", "who": "ada"} | {field: text}
        return world.ask("/v1/insource/feedback", told)

    return place


async def _revoke(world: World, text: str) -> int:
    made, _ = world.registry.create_key(Key("", "for revoking", NOON, "x3"), "tried")
    return await world.ask(f"{KEYS}/{made.id}", {"why": text}, method="DELETE")


async def _answered(world: World, text: str) -> tuple[int, ...]:
    """Queue a request for a person, and answer it."""
    asked = await world.ask(CHAT, chat(), {"x-insource-task": "queued"})
    told = ("--answer", text, "--who", text, "--force")
    return (asked, await world.run("review", "answer", world.asked, *told), await world.run("review", "answer", text))


async def _acts(world: World, text: str) -> tuple[int, ...]:
    """Keep a text as who and why of acts, and read it from there."""
    told = ("--who", text, "--why", text)
    codes = [await world.run("suspend", "triage", *told), await world.run("resume", "triage", *told)]
    return (*codes, await world.run("tasks", "triage"), await world.run("status", "triage"))


async def _named(world: World, text: str) -> tuple[object, ...]:
    """Have a task of that name: trained, promoted, asked, suspended, reported and taken back."""
    version = world.registry.register(text, "linear", world.digest, SURE, {"file": text}, NOON)
    world.registry.promote(text, version.version, text, text, NOON)
    await world.gateway.gateway.generation.serving.refresh()
    replies = [
        await world.ask(CHAT, chat(model=f"task:{text}")),
        await world.ask(CHAT, chat(), {"x-insource-task": text}),
    ]
    replies.append(await world.ask(f"/v1/insource/tasks/{quote(text, safe='')}", method="GET"))
    for command in (("tasks", "--name", text), ("report", "--task", text), ("suspend", "--", text),
                    ("rollback", "--", text), ("status", "--", text)):  # fmt: skip
        replies.append(await world.run(*command))
    same = world.registry.get(text).task == text and world.registry.get(text).lineage["file"] == text
    return (*replies, same)


PLACES: dict[str, Place] = {
    "feedback's request": _feedback("request_id"),
    "authorization": _header("authorization", "Bearer "), "basic": _header("authorization", "Basic "),
    "our key, longer": lambda world, text: world.ask(CHAT, chat(), {"authorization": f"Bearer {world.key}{text}"}),
    "x-api-key": _header("x-api-key"), "task header": _header("x-insource-task"),
    "sensitivity header": _header("x-insource-sensitivity"), "subject header": _header("x-insource-subject"),
    "another header": _header("x-request-id"), "host": _header("host"),
    "path": _path("/v1/files/"), "path of reviews": _path("/v1/insource/reviews/"),
    "path of tasks": _path("/v1/insource/tasks/"), "path of keys": _path(KEYS + "/", "DELETE"),
    "unknown path": _path("/nowhere/"), "unknown method": _path("/v1/insource/tasks/", "PATCH"),
    "query": lambda world, text: world.ask(f"{CHAT}?task={quote(text, safe='')}", chat()),
    "query of tasks": _path("/v1/insource/tasks?name="), "metrics": _path("/metrics?x="),
    "text": _body(chat), "system prompt": _body(lambda text: chat(messages=[{"role": "system", "content": text}])),
    "text of a task": lambda world, text: world.ask(CHAT, chat(text), {"x-insource-task": "kept"}),
    "text for review": lambda world, text: world.ask(CHAT, chat(text), {"x-insource-task": "queued"}),
    "model": _body(lambda text: chat(model=text)), "task by model": _body(lambda text: chat(model=f"task:{text}")),
    "field": _body(lambda text: chat(user=text)), "name of a field": _body(lambda text: chat() | {text: 1}),
    "metadata": _body(lambda text: chat(metadata={text: text})), "no messages": _body(lambda text: {"messages": text}),
    "no JSON": _body(lambda text: text.encode()),
    "half a body": _body(lambda text: msgspec.json.encode(chat(text))[:-3]),
    "embeddings": _body(lambda text: {"model": "m", "input": text}, "/v1/embeddings"),
    "moderations": _body(lambda text: {"model": "m", "input": [text]}, "/v1/moderations"),
    "feedback's answer": _feedback("answer"),
    "feedback's who": _feedback("who"), "feedback's field": lambda world, text: _feedback(text)(world, "x"),
    "key's name": _body(lambda text: {"name": text}, KEYS),
    "key's why": _body(lambda text: {"name": "n", "why": text}, KEYS),
    "key's task": _body(lambda text: {"name": "n", "tasks": [text]}, KEYS),
    "key's upstream": _body(lambda text: {"name": "n", "upstreams": [text]}, KEYS),
    "key's budget": _body(lambda text: {"name": "n", "budget": text}, KEYS),
    "key's expiry": _body(lambda text: {"name": "n", "expires": text}, KEYS),
    "key's sensitivity": _body(lambda text: {"name": "n", "sensitivity": text}, KEYS), "why revoked": _revoke,
    "who and why of acts": _acts, "name of a task": _named,
    "tasks": _command("tasks", "--name", "TEXT"), "status": _command("status", "--", "TEXT"),
    "promote": _command("promote", "--", "TEXT"), "rollback": _command("rollback", "--who", "TEXT", "--", "TEXT"),
    "suspend": _command("suspend", "--", "TEXT"), "answer of a review": _answered,
    "reviews": _command("review", "--task", "TEXT"), "explain": _command("explain", "--", "TEXT"),
    "explain a text": _command("explain", "--text", "TEXT", "--task", "triage"),
    "explain of a task": _command("explain", "--text", "card", "--task", "TEXT"),
    "label": _command("label", "--request", "TEXT", "--answer", "card", "--who", "TEXT", "--", "triage"),
    "label of a task": _command("label", "--request", "x", "--answer", "TEXT", "--", "TEXT"),
    "report": _command("report", "--task", "TEXT"), "report since": _command("report", "--since", "TEXT"),
    "keys create": _command("keys", "create", "--why", "TEXT", "--who", "TEXT", "--", "TEXT"),
    "keys for a task": _command("keys", "create", "--task", "TEXT", "--", "n"),
    "keys revoke": _command("keys", "revoke", "--why", "TEXT", "--", "TEXT"),
    "audit prove": _command("audit", "prove", "--", "TEXT"), "learn": _command("learn", "--", "TEXT"),
    "evaluate": _command("evaluate", "--", "TEXT", "/dev/null"),
    "export": _command("export", "--to", "/dev/null", "--", "TEXT"),
}  # fmt: skip

SECOND = (
    ("keys", "list"), ("tasks",), ("status",), ("report",), ("review",), ("audit", "verify"), ("doctor",),
    ("report", "--since", "30d"), ("audit", "key"), ("review", "export", "/dev/null"),
)  # fmt: skip
"""Commands that read everything that was kept, at the end."""
