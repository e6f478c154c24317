"""What each task keeps of its requests, for how long, and what that makes impossible, in words.

It knows settings; what is written and when it is erased is for the gateway and the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from insource.config.models import Config
from insource.types import Task, WhenKept

WITHOUT_TEXTS = (
    "learning from its traffic",
    "seeing drift in its answers and references",
    "explaining a decision unless the text is given again",
    "people reading its requests again",
)
WATCHED_GUARDS = "watching its guards while it serves"
WITHOUT_DIGESTS = "proving what a text said"
LASTING = (
    "never erased: rows of the ledger, which hold no text, and artifacts (the AI Act asks for 183 days and 10 years)"
)
_KEPT = {"full": "texts", "digest": "digests"}


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept of one task's requests.

    `content` is "full", "digest" or "none", `days` for how long it is kept (None: nothing is), `impossible` what cannot
    be done without what is not kept. `review_days` is for how long after its answer the text of a request is kept that
    waited for a person, None where none does.
    """

    content: str
    days: int | None
    impossible: tuple[str, ...]
    review_days: int | None

    def __str__(self) -> str:
        told = "nothing" if self.days is None else f"{_KEPT[self.content]} for {_days(self.days)}"
        if self.impossible:
            told += f"; impossible: {', '.join(self.impossible)}"
        if self.review_days is not None:
            told += f"; texts that wait for review are kept until {_days(self.review_days)} after their answer"
        return told


def keeping(config: Config, name: str) -> Keeping:
    """Return what is kept of a task's requests; of one that nobody configured, what the defaults say."""
    task = config.tasks.get(name) or Task(name)
    days, reviewed = config.days_kept(task), task.when_kept is WhenKept.REVIEW
    impossible: list[str] = []
    if task.content != "full":
        impossible += [*WITHOUT_TEXTS, *([WATCHED_GUARDS] if task.guard else [])]
    if task.content == "none":
        impossible.append(WITHOUT_DIGESTS)
    kept = None if task.content == "none" else days
    return Keeping(task.content, kept, tuple(impossible), days if reviewed else None)


def task_lines(config: Config, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for all tasks of which the same is kept."""
    same: dict[Keeping, list[str]] = {}
    for name in names:
        same.setdefault(keeping(config, name), []).append(name)
    for kept, names in same.items():
        yield f"content of {', '.join(sorted(names))}: {kept}"


def content_lines(config: Config) -> Iterator[str]:
    """Yield what a person needs to know of a gateway that starts: what is kept by default, then task by task."""
    named = {mode: sorted(task.name for task in config.tasks.values() if task.content == mode)
             for mode in ("full", "none")}  # fmt: skip
    but = " and ".join(f'{", ".join(names)} (content = "{mode}")' for mode, names in named.items() if names)
    kept = f"digests only, except for {but}" if but else "digests only, no texts"
    yield f"content: {kept}; kept for {_days(config.store.retention_days)}"
    yield from task_lines(config, config.tasks)
    yield LASTING


def _days(days: int) -> str:
    return f"{days:,} days" if days != 1 else "1 day"
