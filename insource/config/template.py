"""System prompts with {slots}: how they are written, and what of them is fixed.

It knows one template at a time; how a prompt finds the right one among many is the cascade's business.
"""

from __future__ import annotations

import re

from insource.errors import ConfigError

FEWEST_LITERAL_CHARACTERS = 8

_PARTS = re.compile(r"\{\{|\}\}|\{[A-Za-z_][A-Za-z0-9_]*\}|[{}]|[^{}]+")


def literals(template: str, task: str) -> tuple[str, ...]:
    """Return the fixed texts of a template, in their order: before, between and after its slots.

    A slot is a name in braces and stands for one character or more; "{{" and "}}" are braces. The first and the last
    text may be empty. Raises ConfigError, with the task's name, for a template without a slot, with a lone brace, with
    slots side by side, or with fewer than 8 fixed characters.
    """
    texts = [""]
    for part in _PARTS.findall(template):
        if part in ("{", "}"):
            raise _wrong(template, task, f"has a lone '{part}'", "a slot such as {company}, or '{{' and '}}' for "
                         "braces that stand in the prompt,")  # fmt: skip
        if part[0] not in "{}":
            texts[-1] += part
        elif part in ("{{", "}}"):
            texts[-1] += part[0]
        else:
            texts.append("")
    if len(texts) == 1:
        raise _wrong(template, task, "has no slot", "at least one, such as {company},", "Add one, or set "
                     "match.system_prompt instead, which is an exact prompt.")  # fmt: skip
    if not all(texts[1:-1]):
        raise _wrong(template, task, "has two slots side by side", "fixed text between them", "Make them one slot.")
    fixed = sum(map(len, texts))
    if fixed < FEWEST_LITERAL_CHARACTERS:
        expected = f"at least {FEWEST_LITERAL_CHARACTERS} outside its slots, so that it cannot match just any prompt,"
        raise _wrong(template, task, f"has {fixed} fixed characters", expected, "Add more of the prompt's own words.")
    return tuple(texts)


def _wrong(template: str, task: str, what: str, expected: str, advice: str = "Correct it.") -> ConfigError:
    shown = template if len(template) <= 80 else template[:80] + "..."
    return ConfigError(f"Task '{task}': the system template {shown!r} {what}; {expected} was expected. {advice}")
