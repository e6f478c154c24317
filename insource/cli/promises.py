"""The options that state a promise (target, confidence, guards), and the task they make with the configuration.

A flag counts over insource.toml, and that over the default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from insource.config import Config
    from insource.types import Task

_F = TypeVar("_F", bound=Callable[..., Any])
_SETTINGS = {"target_risk": "target_risk", "confidence": "confidence_level", "audit_rate": "audit_rate"}


def promise_options(function: _F) -> _F:
    """Add --target-risk, --confidence and --guard."""
    for option in (
        click.option("--guard", multiple=True, metavar="ANSWER=r", help="At most share r of ANSWER may be missed."),
        click.option("--confidence", type=float, metavar="P", help="Confidence level of the promise [0.95]."),
        click.option("--target-risk", type=float, metavar="R", help="Promised share of wrong accepted answers [0.05]."),
    ):
        function = option(function)
    return function


def promised(config: Config, name: str, chosen: Mapping[str, Any]) -> Task:
    """Return the configured task of that name, or a default one, with the flags put over it.

    Raises ConfigError for a share or a level that is none, or a guard that is not ANSWER=r.
    """
    from dataclasses import replace

    from insource.config import check_flag
    from insource.types import Task

    check_flag("gateway.default_upstream", name, "--task")  # a name, as all names
    given = {
        key: check_flag(f"tasks.NAME.{key}", chosen[option], f"--{option.replace('_', '-')}")
        for option, key in _SETTINGS.items()
        if chosen.get(option) is not None
    }
    if chosen.get("guard"):
        given["guard"] = {
            answer: check_flag("tasks.NAME.guard.ANSWER", share, f"--guard {answer}")
            for answer, share in guards(chosen["guard"]).items()
        }
    return replace(config.tasks.get(name) or Task(name), **given)


def guards(texts: tuple[str, ...]) -> dict[str, float]:
    """Return "ANSWER=r" texts as a mapping; raise ConfigError where one is something else."""
    from insource.errors import ConfigError

    found: dict[str, float] = {}
    for text in texts:
        answer, equals, share = text.rpartition("=")
        try:
            found[answer] = float(share)
        except ValueError:
            equals = ""
        if not equals or not answer:
            raise ConfigError(f"--guard is {text!r}; ANSWER=r was expected, such as unsafe=0.1.")
    return found
