"""What a configuration is read from, kept so that another process, or a later moment, can read the same again.

It holds a file's bytes, flags and the command line's upstream; what they mean, `loading` says.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from insource.config.checking import check_value
from insource.config.loading import FILE_NAME, load_bytes, read_file
from insource.config.models import Config, UpstreamConfig
from insource.config.settings import SETTINGS

FLAG_UPSTREAM = "command-line"


@dataclass(frozen=True, slots=True)
class Given:
    """A file's path and bytes (None where there is no file), flags by key, and the address of `--upstream`.

    `named` says whether a person named the file; one that nobody named need not exist.
    """

    path: str
    data: bytes | None
    named: bool = False
    flags: Mapping[str, str | int | None] = field(default_factory=dict)
    upstream: str | None = None

    @classmethod
    def read(cls, path: str | Path | None, flags: Mapping[str, str | int | None], upstream: str | None = None) -> Given:
        """Read the file; raise ConfigError where it cannot be read, or a named one does not exist."""
        file = Path(FILE_NAME) if path is None else Path(path)
        return cls(str(file), read_file(file, required=path is not None), path is not None, flags, upstream)

    def again(self) -> Given:
        """Read the same file as it is now; raises as `read` does."""
        return Given.read(self.path if self.named else None, self.flags, self.upstream)

    def config(self, env: Mapping[str, str] | None = None) -> Config:
        """Return the configuration; raise ConfigError as `load` does."""
        config = load_bytes(self.data, Path(self.path), env=env, flags=self.flags)
        return config if self.upstream is None else with_upstream(config, self.upstream)


def with_upstream(config: Config, url: str) -> Config:
    """Return the configuration with one more upstream, the default; it never gets a key meant for another one.

    Raises ConfigError where `url` is not an http(s) address.
    """
    setting = next(setting for setting in SETTINGS if setting.key == "upstreams.NAME.base_url")
    named = dataclasses.replace(setting, key="--upstream")
    added = UpstreamConfig(FLAG_UPSTREAM, check_value(named, url, "flag"))
    gateway = dataclasses.replace(config.gateway, default_upstreams=((FLAG_UPSTREAM, 1.0),))
    return dataclasses.replace(config, gateway=gateway, upstreams={**config.upstreams, FLAG_UPSTREAM: added})
