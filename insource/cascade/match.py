"""Which task a request belongs to, in constant time and independent of the number of tasks.

It looks at the model's name, one header and the leading system prompt. It knows neither versions nor backends.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from insource.errors import ConfigError, UnknownTask
from insource.types import Request, Task

TASK_PREFIX = "task:"
TASK_HEADER = "x-insource-task"


@dataclass(frozen=True, slots=True)
class Matched:
    """The task of a request, and what told: "model", "header" or "system_prompt"."""

    task: Task
    by: str


class Matcher:
    """Finds a request's task by `model = "task:NAME"`, then header, then listed model, then exact system prompt."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        """Index the tasks; raise ConfigError where two of them claim the same model or system prompt."""
        self._by_name: dict[str, Task] = {task.name: task for task in tasks}
        self._by_model: dict[str, Task] = {}
        self._by_prompt: dict[str, Task] = {}
        for task in self._by_name.values():
            for model in task.match.models:
                _claim(self._by_model, model, task, "model")
            for prompt in task.match.system_prompts:
                _claim(self._by_prompt, prompt, task, "system prompt")

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
        prompt = request.system_prompt if self._by_prompt else None
        task = self._by_prompt.get(prompt) if prompt is not None else None
        return Matched(task, "system_prompt") if task is not None else None

    def _named(self, name: str) -> Task:
        task = self._by_name.get(name)
        if task is None:
            raise UnknownTask(_unknown(name, list(self._by_name)))
        return task


def _claim(index: dict[str, Task], key: str, task: Task, kind: str) -> None:
    other = index.setdefault(key, task)
    if other is not task:
        raise ConfigError(
            f"Tasks '{other.name}' and '{task.name}' both match the {kind} {key[:80]!r}; "
            f"a request must belong to one task. Take it out of one of them."
        )


def _unknown(name: str, known: list[str]) -> str:
    shown = name[:80]
    if not known:
        return f"There is no task '{shown}'; no task is configured or trained. Train one with `insource train`."
    near = get_close_matches(name, known, n=1, cutoff=0.0)
    return f"There is no task '{shown}'; the nearest is '{near[0]}'. Send model '{TASK_PREFIX}{near[0]}', or train it."
