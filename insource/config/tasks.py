"""From checked values to `Task`, and whether two tasks claim the same requests.

It knows tasks as people set them; not how the cascade matches a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insource.errors import ConfigError
from insource.types import Match, Require, Task


def task_of(name: str, values: Mapping[str, Any], guard: Mapping[str, float]) -> Task:
    """Return a task from its checked values, with `match.` and `require.` keys dotted."""
    plain = {key: value for key, value in values.items() if "." not in key}
    require = {key.removeprefix("require."): value for key, value in values.items() if key.startswith("require.")}
    match = Match(tuple(values["match.model"]), tuple(values["match.system_prompt"]))
    return Task(name, match=match, guard=dict(guard), require=Require(**require), **plain)


def check_matches(tasks: Mapping[str, Task], origins: Mapping[str, str]) -> None:
    """Raise ConfigError where two tasks claim one model or one system prompt, or a task another task's own name.

    Either alone makes a request the task's, so neither may be shared.
    """
    owners: dict[tuple[str, str], str] = {}
    for name, task in tasks.items():
        claims = [("model", model) for model in task.match.models]
        claims += [("system prompt", prompt) for prompt in task.match.system_prompts]
        for claim in claims:
            kind, value = claim[0], claim[1] if len(claim[1]) <= 60 else claim[1][:60] + "..."
            if kind == "model" and value.startswith("task:"):
                raise ConfigError(
                    f"{origins[name]}: [tasks.{name}.match] has the model {value!r}; a model that clients ask an "
                    f"upstream for was expected. Remove it: 'task:{name}' always matches this task."
                )
            other = owners.setdefault(claim, name)
            if other != name:
                raise ConfigError(
                    f"{origins[name]}: the tasks '{other}' and '{name}' both match the {kind} {value!r}; a request may "
                    "belong to one task only. Take it out of one of them."
                )
