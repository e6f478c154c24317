"""Prompts with {slots}, the system's or the user's: how they are written, and what of them is fixed.

It knows one template at a time; how a prompt finds the right one among many is the cascade's business.
"""

from __future__ import annotations

import re

from insource.errors import ConfigError
from insource.types import Task

FEWEST_LITERAL_CHARACTERS = 8

CONTEXT = "context"
"""The slot of this name is seen after all others, so that what a long text loses is the end of its context."""

_PARTS = re.compile(r"\{\{|\}\}|\{[A-Za-z_][A-Za-z0-9_]*\}|[{}]|[^{}]+")


_WITHOUT_SLOT = {
    "system template": "Add one, or set match.system_prompt instead, which is an exact prompt.",
    "user template": "Add one where the client puts its data.",
}


def literals(template: str, task: str, what: str = "system template") -> tuple[str, ...]:
    """Return the fixed texts of a template, in their order: before, between and after its slots.

    A slot is a name in braces and stands for one character or more; "{{" and "}}" are braces. The first and the last
    text may be empty. Raises ConfigError, with the task's name and `what` it is, for a template without a slot, with a
    lone brace, with slots side by side, or with fewer than 8 fixed characters.
    """
    texts = [""]
    for part in _PARTS.findall(template):
        if part in ("{", "}"):
            raise _wrong(what, template, task, f"has a lone '{part}'", "a slot such as {company}, or '{{' and '}}' for "
                         "braces that stand in the prompt,")  # fmt: skip
        if part[0] not in "{}":
            texts[-1] += part
        elif part in ("{{", "}}"):
            texts[-1] += part[0]
        else:
            texts.append("")
    if len(texts) == 1:
        raise _wrong(what, template, task, "has no slot", "at least one, such as {company},", _WITHOUT_SLOT[what])
    if not all(texts[1:-1]):
        raise _wrong(
            what, template, task, "has two slots side by side", "fixed text between them", "Make them one slot."
        )
    fixed = sum(map(len, texts))
    if fixed < FEWEST_LITERAL_CHARACTERS:
        expected = f"at least {FEWEST_LITERAL_CHARACTERS} outside its slots, so that it cannot match just any prompt,"
        raise _wrong(
            what, template, task, f"has {fixed} fixed characters", expected, "Add more of the prompt's own words."
        )
    return tuple(texts)


def user_literals(task: Task) -> tuple[tuple[str, ...], ...]:
    """Return the fixed texts of a task's user templates, those with more fixed characters first."""
    found = {literals(template, task.name, "user template") for template in task.match.user_templates}
    return tuple(sorted(found, key=lambda fixed: (-sum(map(len, fixed)), fixed)))


def user_contexts(task: Task) -> tuple[int, ...]:
    """Return, for each of `user_literals`, the number of its slot {context}, to be seen last; empty where none moves.

    -1 where a template has no such slot, or has it last already.
    """
    moved = {}
    for template in task.match.user_templates:
        names = [part[1:-1] for part in _PARTS.findall(template) if part[0] == "{" and part not in ("{", "{{")]
        first = CONTEXT in names[:-1]
        moved[literals(template, task.name, "user template")] = names.index(CONTEXT) if first else -1
    places = tuple(moved[fixed] for fixed in user_literals(task))
    return places if any(place >= 0 for place in places) else ()


def _wrong(kind: str, template: str, task: str, what: str, expected: str, advice: str = "Correct it.") -> ConfigError:
    shown = template if len(template) <= 80 else template[:80] + "..."
    return ConfigError(f"Task '{task}': the {kind} {shown!r} {what}; {expected} was expected. {advice}")
