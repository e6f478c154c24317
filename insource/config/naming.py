"""Whether every upstream that a setting names exists, and whether policy lets each setting mean what it says.

It knows names; it opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from insource.config.checking import nearest, shown
from insource.config.models import EmbeddingsConfig, PolicyConfig, UpstreamConfig
from insource.errors import ConfigError
from insource.types import Task

DEFAULT_UPSTREAM = "gateway.default_upstream"
ALL = "*"


def check_upstreams(
    default: tuple[tuple[str, float], ...],
    tasks: Mapping[str, Task],
    upstreams: Mapping[str, UpstreamConfig],
    policy: PolicyConfig,
    origins: Mapping[str, str],
) -> None:
    """Raise ConfigError for a name that no [upstreams.NAME] describes, or "*" where restricted text may go."""
    if ALL in policy.restricted.upstreams:
        key = "policy.restricted.upstreams"
        raise ConfigError(f"{origins[key]}: {key} has '*'; upstreams by name were expected, as restricted text goes to "
                          "no other. Name each of them.")  # fmt: skip
    for key, name in _named(default, tasks, policy):
        if name != ALL and name not in upstreams:
            known = nearest(name, upstreams) if upstreams else f"Add a section [upstreams.{_bare(name)}]."
            raise ConfigError(f"{origins[key]}: {key} is {shown(name)}, which no [upstreams.NAME] describes; the name "
                              f"of an upstream was expected. {known}")  # fmt: skip
    jurisdictions = {upstream.jurisdiction for upstream in upstreams.values()}
    for level in ("public", "internal"):
        allowed = policy.public if level == "public" else policy.internal
        for wanted in allowed.jurisdictions:
            if wanted not in (jurisdictions | {ALL}):
                key = f"policy.{level}.jurisdictions"
                raise ConfigError(f"{origins[key]}: {key} has {shown(wanted)}, which no upstream lies in; a "
                                  "jurisdiction of an upstream was expected. Correct it, or take it out.")  # fmt: skip


def _bare(name: str) -> str:
    """Return a name as a heading may show it; NAME for one that may not be shown."""
    return name if shown(name) == repr(name) else "NAME"


def check_embeddings(embeddings: Mapping[str, EmbeddingsConfig], origins: Mapping[str, str]) -> None:
    """Raise ConfigError where two sections would answer for one model; a section's own name is one of its models."""
    owners: dict[str, str] = {}
    for name, section in embeddings.items():
        for model in dict.fromkeys((name, *section.models)):
            other = owners.setdefault(model, name)
            if other != name:
                key = f"embeddings.{name}.model"
                raise ConfigError(f"{origins[key]}: [embeddings.{other}] and [embeddings.{name}] both answer for the "
                                  f"model '{model}'; one was expected. Take it out of one of them.")  # fmt: skip


def _named(
    default: tuple[tuple[str, float], ...], tasks: Mapping[str, Task], policy: PolicyConfig
) -> Iterator[tuple[str, str]]:
    for name, _ in default:
        yield DEFAULT_UPSTREAM, name
    for task in tasks.values():
        for name, _ in task.upstreams:
            yield f"tasks.{task.name}.upstream", name
        for name in task.tiers:
            yield f"tasks.{task.name}.tiers", name
    for level, allowed in (("public", policy.public), ("internal", policy.internal), ("restricted", policy.restricted)):
        for name in allowed.upstreams:
            yield f"policy.{level}.upstreams", name
