"""Reading insource.toml, environment and flags into one Config, with the origin of every value.

It knows precedence; which keys there are stands in `settings`, what must fit together in `building`.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from insource.config.building import build
from insource.config.checking import Found, Source, check_table, check_value, nearest, wrong_value
from insource.config.models import Config
from insource.config.origins import lines_of_keys
from insource.config.settings import SETTINGS, Setting
from insource.errors import ConfigError

FILE_NAME = "insource.toml"

_FIXED = {setting.key: setting for setting in SETTINGS if "NAME" not in setting.path}
_ENVIRONMENT_OWNED = ("INSOURCE_GATEWAY_", "INSOURCE_STORE_")


def load(
    path: str | Path | None = None,
    *,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration: flag over environment over file over default.

    path: the file; by default insource.toml in the working folder, which need not exist. env: by default the process's
    environment. flags: values by key ("gateway.port"); None means not given. Raises ConfigError, naming file and line,
    variable or flag, for anything that is not as it should be; KeyError for a flag that no setting knows.
    """
    file = Path(FILE_NAME) if path is None else Path(path)
    return load_bytes(read_file(file, required=path is not None), file, env=env, flags=flags)


def load_bytes(
    data: bytes | None,
    file: Path,
    *,
    env: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Return the configuration of a file's bytes (None: there is no file); `file` is where they stood. As `load`."""
    table, lines = ({}, {}) if data is None else _parse(data, file)
    values = check_table(table, Source(file.name, lines))
    _add_environment(values, os.environ if env is None else env)
    _add_flags(values, flags or {})
    return build(values, file if data is not None else None)


def read_file(file: Path, *, required: bool) -> bytes | None:
    """Return a file's bytes, None where it does not exist and need not; raise ConfigError where it cannot be read."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        if required:
            raise ConfigError(f"{file} does not exist; a TOML file was expected. `insource init` makes one.") from None
        return None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror or error}; a readable TOML file was expected. "
                          "Check the path and its permissions.") from error  # fmt: skip


def _parse(data: bytes, file: Path) -> tuple[dict[str, Any], Mapping[tuple[str, ...], int]]:
    try:
        text = data.decode("utf-8-sig")
        return tomllib.loads(text, parse_float=Decimal), lines_of_keys(text)
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file} is not UTF-8 (byte {error.start:,}); UTF-8 was expected. Save it as UTF-8."
        ) from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"{file} is not TOML: {error}; see toml.io for how it is written. Mend that line.") from error


def _add_environment(values: dict[tuple[str, ...], Found], env: Mapping[str, str]) -> None:
    by_variable = {setting.variable: setting for setting in _FIXED.values() if setting.variable is not None}
    for name in sorted(env):
        if name.startswith(_ENVIRONMENT_OWNED) and name not in by_variable:
            raise ConfigError(f"The environment sets {name}, which no setting knows; a known variable was expected. "
                              f"{nearest(name, by_variable)}")  # fmt: skip
    for name, setting in by_variable.items():
        if env.get(name):
            origin = f"environment {name}"
            values[setting.path] = Found(_from_text(setting, env[name], origin), origin)


def _from_text(setting: Setting, text: str, origin: str) -> Any:
    try:
        value = setting.kind.from_text(text)
    except ValueError:
        raise wrong_value(origin, setting.key, text, setting.kind.expected) from None
    return check_value(setting, value, origin)


def _add_flags(values: dict[tuple[str, ...], Found], flags: Mapping[str, Any]) -> None:
    for key, value in flags.items():
        setting = _FIXED[key]
        if value is not None:
            given = str(value) if isinstance(value, Path) else value
            values[setting.path] = Found(check_value(setting, given, "flag"), "flag")
