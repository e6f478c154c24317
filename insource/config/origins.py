"""On which line of a TOML file each key stands; tomllib does not tell.

It knows TOML's statements by trying them with tomllib; no setting and no value.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

Path = tuple[str, ...]
_CLOSERS = ('"""', "'''", "]", "}")
_LONGEST_STATEMENT = 10_000


def lines_of_keys(text: str) -> Mapping[Path, int]:
    """Return the line (from 1) of every table and key of a valid TOML text, by path.

    A key inside an inline table stands under the table's own path only.
    """
    found: dict[Path, int] = {}
    table: Path = ()
    lines = text.split("\n")
    at = 0
    while at < len(lines):
        line = lines[at].strip()
        number = at + 1
        at += 1
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            table = _only_path(_parsed(line) or {})
            for length in range(1, len(table) + 1):
                found.setdefault(table[:length], number)
            continue
        statement = _parsed(line)
        end = at
        while statement is None and end < min(len(lines), at + _LONGEST_STATEMENT):
            end += 1
            if any(closer in lines[end - 1] for closer in _CLOSERS):
                statement = _parsed("\n".join(lines[number - 1 : end]))
        if statement is not None:
            at = end
            path = table
            for key in _only_path(statement):
                path = (*path, key)
                found.setdefault(path, number)
    return found


def line_of(lines: Mapping[Path, int], path: Path) -> int | None:
    """Return the line of a key, or of the nearest table around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _parsed(statement: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(statement)
    except (ValueError, RecursionError):
        return None


def _only_path(value: Any) -> Path:
    path: Path = ()
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        path = (*path, key)
    return path
