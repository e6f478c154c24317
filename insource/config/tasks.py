"""From checked values to `Task`, and whether two tasks claim the same requests.

It knows tasks as people set them; not how the cascade matches a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from insource.config.template import literals
from insource.errors import ConfigError
from insource.types import Match, Require, Task, WhenKept


def task_of(name: str, values: Mapping[str, Any], guard: Mapping[str, float]) -> Task:
    """Return a task from its checked values, with `match.` and `require.` keys dotted."""
    plain = {key: value for key, value in values.items() if "." not in key}
    require = {key.removeprefix("require."): value for key, value in values.items() if key.startswith("require.")}
    match = Match(
        values["match.model"],
        values["match.system_prompt"],
        values["match.header"],
        values["match.system_template"],
        values["match.schema"],
        values["match.user_template"],
    )
    plain["upstreams"] = plain.pop("upstream")
    return Task(name, match=match, guard=dict(guard), require=Require(**require), **plain)


def check_content(tasks: Mapping[str, Task], origins: Mapping[str, str]) -> None:
    """Raise ConfigError where a task keeps less of its texts than another of its settings needs."""
    for name, task in tasks.items():
        key = f"tasks.{name}."
        none = f"{key}content is 'none', so that no text of the task is kept anywhere"
        if task.content == "none" and task.when_kept is WhenKept.REVIEW:
            raise ConfigError(
                f"{origins[key + 'when_kept']}: {key}when_kept is 'review', which keeps a request's text until a "
                f"person has answered it; 'refuse' or 'best' was expected, as {none}. Change one of the two."
            )
        if task.content == "none" and task.retention_days is not None:
            raise ConfigError(
                f"{origins[key + 'retention_days']}: {key}retention_days is {task.retention_days}; none was expected, "
                f"as {none}. Remove it, or set content to 'digest' or 'full'."
            )
        if task.labels_per_day and task.content != "full":
            raise ConfigError(
                f"{origins[key + 'labels_per_day']}: {key}labels_per_day is {task.labels_per_day}, and {key}content is "
                f"'{task.content}'; 'full' was expected, as a label teaches nothing without its text. Set content to "
                "'full', or remove labels_per_day."
            )


def check_matches(tasks: Mapping[str, Task], origins: Mapping[str, str]) -> None:
    """Raise ConfigError where two tasks claim the same requests, or a claim is not of its form.

    A model, a header, a system prompt, a template or a schema alone makes a request the task's, so none may be shared;
    nor may a task claim another's own name. Templates are the same where they differ in their slots' names only.
    """
    owners: dict[tuple[object, ...], str] = {}
    for name, task in tasks.items():
        try:
            claims = list(_claims(task))
        except ConfigError as error:
            raise ConfigError(f"{origins[name]}: {error}") from None
        for claim, shown in claims:
            other = owners.setdefault(claim, name)
            if other != name:
                raise ConfigError(
                    f"{origins[name]}: the tasks '{other}' and '{name}' both match the {claim[0]} {shown}; a request "
                    "may belong to one task only. Take it out of one of them."
                )


_DIGEST = re.compile("sha256:[0-9a-f]{64}")


def _claims(task: Task) -> Iterator[tuple[tuple[object, ...], str]]:
    """Each claim of a task, and how to show it; raise ConfigError where one is not of its form."""
    for model in task.match.models:
        if model.startswith("task:"):
            raise ConfigError(
                f"[tasks.{task.name}.match] has the model {_shown(model)}; a model that clients ask an upstream for "
                f"was expected. Remove it: 'task:{task.name}' always matches this task."
            )
        yield ("model", model), _shown(model)
    for prompt in task.match.system_prompts:
        yield ("system prompt", prompt), _shown(prompt)
    for template in task.match.system_templates:
        yield ("system template", literals(template, task.name)), _shown(template)
    for template in task.match.user_templates:
        yield ("user template", literals(template, task.name, "user template")), _shown(template)
    for schema in task.match.schemas:
        if schema.startswith("sha256:") and not _DIGEST.fullmatch(schema):
            raise ConfigError(
                f"[tasks.{task.name}.match] has the schema {_shown(schema)}; a schema's name, or 'sha256:' and 64 "
                "small hex digits, was expected. `insource tasks match FILE` prints the digests."
            )
        yield ("schema", schema), _shown(schema)
    for header, text in task.match.headers:
        yield ("header", header, text), _shown(f"{header}: {text}")


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:60] + "...")
