"""Requests that belong to no task, gathered into groups that one line of configuration could give to a task.

It knows requests and what tasks match; it shows nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os.path import commonprefix
from typing import Any, NamedTuple

from insource.cascade.schema import digest, schema_of
from insource.config.template import FEWEST_LITERAL_CHARACTERS, literals
from insource.types import Request, Task

HEAD = 20
NEAR = 16


class _Key(NamedTuple):
    """What makes requests alike: model, how the system prompt begins, and the schema asked for."""

    model: str
    head: str | None
    schema: str | None
    digest: str | None
    unknown: str | None


class _Group:
    """Requests that are alike; of their system prompts what all begin and end with, and the shortest length."""

    def __init__(self, request: Request, prompt: str | None) -> None:
        self.requests = 0
        self.example = request.id
        self.first = self.begins = self.ends = prompt or ""
        self.shortest = len(self.first)
        self.prompts: set[int] = set()

    def add(self, prompt: str | None) -> None:
        self.requests += 1
        if prompt is None or hash(prompt) in self.prompts:
            return
        self.prompts.add(hash(prompt))
        self.begins = commonprefix((self.begins, prompt))
        self.ends = commonprefix((self.ends[::-1], prompt[::-1]))[::-1]
        self.shortest = min(self.shortest, len(prompt))

    def template(self) -> str | None:
        """The template that all the prompts follow, None where they share less than half of the shortest."""
        room = self.shortest - 1
        begins = self.begins[:room]
        ends = self.ends[max(len(self.ends) - (room - len(begins)), 0) :]
        if len(begins) + len(ends) < max(FEWEST_LITERAL_CHARACTERS, self.shortest / 2):
            return None
        begins, ends = (text.replace("{", "{{").replace("}", "}}") for text in (begins, ends))
        return f"{begins}{{text}}{ends}"


class Groups:
    """Groups of requests in the order in which they were met."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._known = list(_known(tasks))
        self._groups: dict[_Key, _Group] = {}

    def add(self, request: Request, unknown: str | None = None) -> None:
        """Count one request; `unknown` says that it names a task that nobody has."""
        wanted, prompt = schema_of(request), request.system_prompt or None
        sha = digest(wanted.schema) if wanted is not None and wanted.schema is not None else None
        head = None if prompt is None else prompt[:HEAD]
        key = _Key(request.model, head, wanted.name if wanted is not None else None, sha, unknown)
        if key not in self._groups:
            self._groups[key] = _Group(request, prompt)
        self._groups[key].add(prompt)

    def rows(self) -> list[dict[str, Any]]:
        """Return each group with what would match it and what is nearest to it."""
        return [self._row(key, group) for key, group in self._groups.items()]

    def _row(self, key: _Key, group: _Group) -> dict[str, Any]:
        prompt = group.first or None
        return {
            "requests": group.requests,
            "model": key.model,
            "system_prompt": prompt,
            "prompts": len(group.prompts),
            "schema": key.schema or (key.digest and key.digest[:14] + "..."),
            "schema_digest": key.digest,
            "example": group.example,
            "unknown": key.unknown,
            "nearest": self._nearest(prompt) if prompt is not None and key.unknown is None else None,
            "match": _match(key, group) if key.unknown is None else {},
        }

    def _nearest(self, prompt: str) -> str | None:
        """Say which task's system prompt or template begins most like this one; None where none does."""
        shared, task, kind = max(
            ((len(commonprefix((text, prompt))), task, kind) for text, task, kind in self._known),
            key=lambda each: each[0],
            default=(0, "", ""),
        )
        if shared < NEAR:
            return None
        return f"nearest: the {kind} of task '{task}', with which it shares its first {shared:,} characters"


def _match(key: _Key, group: _Group) -> dict[str, str]:
    """Return the settings, each enough by itself, that would give the group to a task."""
    found: dict[str, str] = {}
    if len(group.prompts) == 1:
        found["system_prompt"] = group.first
    elif group.prompts and (template := group.template()) is not None:
        found["system_template"] = template
    if key.digest is not None:
        found["schema"] = key.digest
    elif key.schema is not None:
        found["schema"] = key.schema
    if not found and key.model and not group.prompts:
        found["model"] = key.model
    return found


def _known(tasks: Iterable[Task]) -> Iterator[tuple[str, str, str]]:
    for task in tasks:
        for prompt in task.match.system_prompts:
            yield prompt, task.name, "system prompt"
        for template in task.match.system_templates:
            yield literals(template, task.name)[0], task.name, "system template"
