"""From checked values to one Config: defaults filled in, origins noted, and what must fit together checked.

It knows paths of keys and the models; it reads no file, environment or flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from insource.config.checking import Found, wrong_value
from insource.config.models import (
    Allowed,
    Config,
    EmbeddingsConfig,
    GatewayConfig,
    PolicyConfig,
    StoreConfig,
    UpstreamConfig,
)
from insource.config.naming import DEFAULT_UPSTREAM as _DEFAULT_UPSTREAM
from insource.config.naming import check_embeddings, check_upstreams
from insource.config.settings import SETTINGS
from insource.config.tasks import check_content, check_matches, task_of
from insource.errors import ConfigError

Keys = tuple[str, ...]
_DEFAULT = "default"


def build(values: Mapping[Keys, Found], file: Path | None) -> Config:
    """Return the configuration; raise ConfigError where a key is missing or two settings do not fit together."""
    taken = _Taken(values)
    gateway = taken.section(("gateway",), ("gateway",))
    store = taken.section(("store",), ("store",))
    taken.values["store.home"] = home = _home(store["home"], taken.origins["store.home"], file)
    upstreams = {name: UpstreamConfig(name, **taken.section(("upstreams", name), ("upstreams", "NAME")))
                 for name in _names(values, "upstreams")}  # fmt: skip
    tasks = {name: task_of(name, taken.section(("tasks", name), ("tasks", "NAME")), taken.guard(name))
             for name in _names(values, "tasks")}  # fmt: skip
    embeddings = {name: _embeddings(name, taken.section(("embeddings", name), ("embeddings", "NAME")))
                  for name in _names(values, "embeddings")}  # fmt: skip
    for key in ("tls_cert", "tls_key"):
        gateway[key] = _file(gateway[key], taken.origins[f"gateway.{key}"], file)
    if (gateway["tls_cert"] is None) != (gateway["tls_key"] is None):
        key = "gateway.tls_cert" if gateway["tls_cert"] is not None else "gateway.tls_key"
        raise ConfigError(f"{taken.origins[key]}: {key} is set alone; gateway.tls_cert and gateway.tls_key were "
                          "expected together. Set both, or neither.")  # fmt: skip
    gateway["default_upstreams"] = gateway.pop("default_upstream")
    if not gateway["default_upstreams"] and len(upstreams) == 1:
        gateway["default_upstreams"] = taken.values[_DEFAULT_UPSTREAM] = ((next(iter(upstreams)), 1.0),)
        taken.origins[_DEFAULT_UPSTREAM] = "default (the only upstream)"
    policy = _policy(taken.section(("policy",), ("policy",)))
    check_upstreams(gateway["default_upstreams"], tasks, upstreams, policy, taken.origins)
    check_embeddings(embeddings, taken.origins)
    check_content(tasks, taken.origins)
    check_matches(tasks, {name: values[("tasks", name)].origin for name in tasks})
    return Config(
        GatewayConfig(**gateway),
        StoreConfig(home, store["retention_days"], store["record"], _witness(taken, home, store["witness"], file)),
        upstreams,
        tasks,
        policy,
        taken.origins,
        taken.values,
        file,
        embeddings,
    )


class _Taken:
    """The values taken so far, with their origins, by dotted key."""

    def __init__(self, found: Mapping[Keys, Found]) -> None:
        self._found = found
        self.origins: dict[str, str] = {}
        self.values: dict[str, object] = {}

    def section(self, path: Keys, pattern: Keys) -> dict[str, Any]:
        """Take a section's values, defaults filled in; keys below it stay dotted. Guards are taken by `guard`."""
        section: dict[str, Any] = {}
        for setting in SETTINGS:
            if setting.path[: len(pattern)] != pattern or "ANSWER" in setting.path:
                continue
            rest = setting.path[len(pattern) :]
            given = self._found.get((*path, *rest), Found(setting.default, _DEFAULT))
            if setting.required and given.value is None:
                raise ConfigError(f"{self._found[path].origin}: [{'.'.join(path)}] has no {rest[-1]}; "
                                  f"{setting.kind.expected} was expected. Add it.")  # fmt: skip
            section[".".join(rest)] = self._take((*path, *rest), given)
        return section

    def guard(self, name: str) -> dict[str, float]:
        """Take a task's guards: the share that may be missed, by answer."""
        path = ("tasks", name, "guard")
        found = {keys: given for keys, given in self._found.items() if keys[:3] == path and len(keys) == 4}
        return {keys[3]: self._take(keys, given) for keys, given in found.items()}

    def _take(self, keys: Keys, given: Found) -> Any:
        key = ".".join(keys)
        self.origins[key], self.values[key] = given.origin, given.value
        return given.value


def _names(values: Mapping[Keys, Found], section: str) -> list[str]:
    return [path[1] for path in values if len(path) == 2 and path[0] == section]


def _embeddings(name: str, values: Mapping[str, Any]) -> EmbeddingsConfig:
    return EmbeddingsConfig(name, values["trunk"], values["model"])


def _policy(values: Mapping[str, Any]) -> PolicyConfig:
    def allowed(sensitivity: str) -> Allowed:
        named, jurisdictions = values[f"{sensitivity}.upstreams"], values[f"{sensitivity}.jurisdictions"]
        return Allowed(named if named is not None else () if jurisdictions else ("*",), jurisdictions)

    restricted = Allowed(values["restricted.upstreams"])
    return PolicyConfig(values["sensitivity"], allowed("public"), allowed("internal"), restricted)


def _witness(taken: _Taken, home: Path, witness: str | None, file: Path | None) -> Path | None:
    """Return the witness's file, which must lie outside the home: a backup of the home would hold it, too."""
    if witness is None:
        return None
    origin = taken.origins["store.witness"]
    found = taken.values["store.witness"] = _home(witness, origin, file)
    if found.is_relative_to(home):
        raise wrong_value(origin, "store.witness", witness, f"a file outside {home}, the home")
    return found


def _file(named: str | None, origin: str, file: Path | None) -> Path | None:
    """Return the path that a setting names; a relative one starts at the folder of the file that names it."""
    if named is None:
        return None
    path = Path(named)
    if file is not None and origin.partition(":")[0] == file.name:
        path = file.parent / path
    return path.absolute()


def _home(home: str | None, origin: str, file: Path | None) -> Path:
    if home is None:
        from platformdirs import user_data_dir

        return Path(user_data_dir("insource"))
    if "\0" in home:
        raise wrong_value(origin, "store.home", home, "a folder")
    try:
        path = Path(home).expanduser()
    except RuntimeError as error:
        raise wrong_value(origin, "store.home", home, "a folder whose ~ can be resolved") from error
    if file is not None and origin.partition(":")[0] == file.name:
        path = file.parent / path
    return path.absolute()
