"""Which task a request belongs to, at a cost that does not depend on the number of tasks.

It looks at the model's name, headers, the leading system prompt, the JSON schema asked for and the user's last
message. It knows neither versions nor backends.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from insource.cascade.schema import DIGEST_PREFIX, digest, schema_of
from insource.cascade.template import Template, Templates, fills
from insource.config.template import literals
from insource.errors import ConfigError, UnknownTask
from insource.inputs import last_of_user
from insource.types import Request, Task

TASK_PREFIX = "task:"
TASK_HEADER = "x-insource-task"

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Matched:
    """The task of a request, and what told.

    That is "model", "header", "system_prompt", "system_template", "schema" or "user_template".
    """

    task: Task
    by: str


class Matcher:
    """Finds a request's task.

    What names a task comes first: `model = "task:NAME"`, then the task header. Then what the task's `match` lists:
    model, header, exact system prompt, template (the one with more fixed characters first), schema (its digest before
    its name). The template of the user's last message comes last: what a user writes takes no request from a task that
    something else names. Where a request has headers of several tasks, or equally long templates, the first by name
    gets it.
    """

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Index the tasks; raise ConfigError where two of them claim the same, or a template is none."""
        self._by_name: dict[str, Task] = {task.name: task for task in tasks}
        self._by_model: dict[str, Task] = {}
        self._by_header: dict[str, dict[str, Task]] = {}
        self._by_prompt: dict[str, Task] = {}
        self._by_digest: dict[str, Task] = {}
        self._by_schema: dict[str, Task] = {}
        by_literals: dict[tuple[str, ...], Task] = {}
        by_user: dict[tuple[str, ...], Task] = {}
        for task in self._by_name.values():
            for model in task.match.models:
                _claim(self._by_model, model, task, f"model {model[:80]!r}")
            for header, value in task.match.headers:
                name = header.lower()
                _claim(self._by_header.setdefault(name, {}), value, task, f"header {name}: {value[:80]!r}")
            for prompt in task.match.system_prompts:
                _claim(self._by_prompt, prompt, task, f"system prompt {prompt[:80]!r}")
            for template in task.match.system_templates:
                _claim(by_literals, literals(template, task.name), task, f"system template {template[:80]!r}")
            for template in task.match.user_templates:
                fixed = literals(template, task.name, "user template")
                _claim(by_user, fixed, task, f"user template {template[:80]!r}")
            for schema in task.match.schemas:
                index = self._by_digest if schema.startswith(DIGEST_PREFIX) else self._by_schema
                _claim(index, schema, task, f"schema {schema[:80]!r}")
        self._by_template = Templates(Template(fixed, task.name, task) for fixed, task in by_literals.items())
        self._by_user = Templates(Template(fixed, task.name, task) for fixed, task in by_user.items())

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All tasks known here, in the order given."""
        return tuple(self._by_name.values())

    def match(self, request: Request) -> Matched | None:
        """Return the request's task, or None where it belongs to no task; raise UnknownTask for a name nobody has."""
        if request.model.startswith(TASK_PREFIX):
            return Matched(self._named(request.model.removeprefix(TASK_PREFIX)), "model")
        named = request.headers.get(TASK_HEADER)
        if named:
            return Matched(self._named(named), "header")
        task = self._by_model.get(request.model)
        if task is not None:
            return Matched(task, "model")
        if self._by_header and (task := self._of_headers(request)) is not None:
            return Matched(task, "header")
        return self._of_prompt(request) or self._of_schema(request) or self._of_user(request)

    def _named(self, name: str) -> Task:
        task = self._by_name.get(name)
        if task is None:
            raise UnknownTask(_unknown(name, list(self._by_name)))
        return task

    def _of_headers(self, request: Request) -> Task | None:
        """Look up each of the request's headers, or of the headers that any task names, whichever are fewer."""
        headers, known = request.headers, self._by_header
        names = known if len(known) <= len(headers) else headers
        found = [task for name in names if name in headers and (task := known.get(name, {}).get(headers[name]))]
        return min(found, key=lambda task: task.name, default=None)

    def _of_prompt(self, request: Request) -> Matched | None:
        if not (self._by_prompt or self._by_template):
            return None
        prompt = request.system_prompt
        if not prompt:
            return None
        task = self._by_prompt.get(prompt)
        if task is not None:
            return Matched(task, "system_prompt")
        task = self._by_template.find(prompt)
        return Matched(task, "system_template") if task is not None else None

    def _of_schema(self, request: Request) -> Matched | None:
        """Look up the schema; its digest is only computed where some task goes by digests."""
        if not (self._by_digest or self._by_schema):
            return None
        wanted = schema_of(request)
        if wanted is None:
            return None
        task = None
        if self._by_digest and wanted.schema is not None:
            task = self._by_digest.get(digest(wanted.schema) or "")
        if task is None and wanted.name is not None:
            task = self._by_schema.get(wanted.name)
        return Matched(task, "schema") if task is not None else None

    def _of_user(self, request: Request) -> Matched | None:
        text = last_of_user(request) if self._by_user else None
        task = self._by_user.find(text, fills) if text else None
        return Matched(task, "user_template") if task is not None else None


def _claim(index: dict[_Key, Task], key: _Key, task: Task, what: str) -> None:
    other = index.setdefault(key, task)
    if other is not task:
        raise ConfigError(
            f"Tasks '{other.name}' and '{task.name}' both match the {what}; "
            f"a request must belong to one task. Take it out of one of them."
        )


def _unknown(name: str, known: list[str]) -> str:
    shown = name[:80]
    if not known:
        return f"There is no task '{shown}'; no task is configured or trained. Train one with `insource train`."
    near = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"There is no task '{shown}'; the nearest is '{near[0]}'. Send model '{TASK_PREFIX}{near[0]}', or train it."
