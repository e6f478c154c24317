"""A decoded TOML table against the table of settings: every key known, every value of its kind, or one clear refusal.

It knows keys, kinds and lines; it reads no file and builds no model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import Any

from insource.config.kinds import NAME, holds_secret, looks_secret
from insource.config.origins import Path, line_of
from insource.config.settings import SECTIONS, SETTINGS, Setting
from insource.errors import ConfigError

_BY_PATH: Mapping[Path, Setting] = {setting.path: setting for setting in SETTINGS}
_CHILDREN: dict[Path, dict[str, None]] = {(): dict.fromkeys(SECTIONS)}
for _path in _BY_PATH:
    for _depth in range(1, len(_path)):
        _CHILDREN.setdefault(_path[:_depth], {})[_path[_depth]] = None
_FREE_TEXT = tuple(("tasks", "NAME", "match", key) for key in ("system_prompt", "system_template", "user_template"))
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Found:
    """A checked value, and where it was set."""

    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file's name and the lines of its keys."""

    name: str
    lines: Mapping[Path, int]

    def at(self, path: Path) -> str:
        """Return "insource.toml:12", or the name alone where the line is not known."""
        line = line_of(self.lines, path)
        return self.name if line is None else f"{self.name}:{line}"


def check_table(table: Mapping[str, Any], source: Source) -> dict[Path, Found]:
    """Return every value that a file sets, by path; tables stand in it too, so that empty ones are not lost.

    Raises ConfigError for an unknown key (with the nearest valid one), a value that is not of its kind, or a secret.
    """
    return dict(_walk(table, (), (), source))


def check_value(setting: Setting, value: Any, origin: str) -> Any:
    """Return a value as the models hold it; raise ConfigError where it is not of the setting's kind."""
    try:
        return setting.kind.check(value)
    except (ValueError, OverflowError, TypeError):
        raise wrong_value(origin, setting.key, value, setting.kind.expected) from None


def check_flag(key: str, value: Any, flag: str) -> Any:
    """Return a flag's value as the setting `key` ("tasks.NAME.target_risk") would hold it; raise ConfigError."""
    return check_value(next(setting for setting in SETTINGS if setting.key == key), value, flag)


def wrong_value(origin: str, key: str, value: Any, expected: str) -> ConfigError:
    """Return the refusal of a value: where, what, what was expected, what to do."""
    return ConfigError(f"{origin}: {key} is {shown(value)}; {expected} was expected. Correct the value or remove it.")


def shown(value: Any) -> str:
    """Return a value as a message may show it: short, and never one that looks like a key."""
    if isinstance(value, str) and holds_secret(value):
        return "something that looks like a key (not shown)"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and ("@" in value or ("//" in value and "?" in value)):
        return "an address with '@' or '?' in it (not shown)"
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a hint at the known word that is nearest, or the list of them where none is near."""
    known = list(known)
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(known)}." if known else "No keys can be set here in this version."


def _walk(table: Mapping[str, Any], path: Path, pattern: Path, source: Source) -> Iterator[tuple[Path, Found]]:
    children = _CHILDREN[pattern]
    for key, value in table.items():
        here = (*path, key)
        step = "NAME" if "NAME" in children else "ANSWER" if "ANSWER" in children else key
        below = (*pattern, step)
        if "NAME" in children and (not NAME.fullmatch(key) or looks_secret(key)):
            raise ConfigError(
                f"{source.at(here)}: {path[0][:-1]} is named {shown(key)}; small letters, digits, dots, dashes and "
                "underscores, at most 64, the first a letter or a digit, were expected. Choose another name."
            )
        if below not in _CHILDREN and below not in _BY_PATH:
            raise _unknown(here, value, pattern, source)
        _refuse_secret(value, here, below, source)
        if below in _CHILDREN:
            if not isinstance(value, dict):
                raise wrong_value(source.at(here), _dotted(here), value, "a table")
            yield here, Found(None, source.at(here))
            yield from _walk(value, here, below, source)
        else:
            setting = _BY_PATH[below]
            named = Setting(_dotted(here), setting.kind, setting.default, setting.meaning)
            yield here, Found(check_value(named, value, source.at(here)), source.at(here))


def _unknown(here: Path, value: Any, pattern: Path, source: Source) -> ConfigError:
    key, around = here[-1], here[:-1]
    where = f"in [{_dotted(around)}]" if around else "at the top"
    if "key" in key.lower() and pattern == ("upstreams", "NAME"):
        todo = "Keys are named, never held: set 'api_key_env' to the environment variable that holds the key."
    elif isinstance(value, dict) and pattern in (("tasks", "NAME"), ("upstreams", "NAME")):
        hint = nearest(key, (child for child in _CHILDREN[pattern] if (*pattern, child) in _CHILDREN))
        todo = f'{hint} A name with a dot in it is written [{around[0]}."{_dotted(here[1:])}"].'
    else:
        todo = nearest(key, _CHILDREN[pattern])
    return ConfigError(f"{source.at(here)}: unknown key {shown(key)} {where}; a known one was expected. {todo}")


def _refuse_secret(value: Any, here: Path, pattern: Path, source: Source) -> None:
    """Look into lists and tables of texts, too: a header to match may well be one that carries a key."""
    if isinstance(value, list) or (isinstance(value, dict) and pattern in _BY_PATH):
        for inner in value.values() if isinstance(value, dict) else value:
            _refuse_secret(inner, here, pattern, source)
    if isinstance(value, str) and pattern not in _FREE_TEXT and looks_secret(value):
        raise ConfigError(
            f"{source.at(here)}: {_dotted(here)} holds something that looks like a key; secrets are named, never held. "
            "Put the key into an environment variable, name it in api_key_env, and replace the key."
        )


def _dotted(path: Path) -> str:
    return ".".join(path)
