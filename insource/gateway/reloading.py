"""What may change while the gateway runs: everything but what was fixed when it started.

It compares two configurations; who takes over a new one, and how, is the supervisor's business.
"""

from __future__ import annotations

from insource.config import Config
from insource.errors import ConfigError

FIXED = ("gateway.host", "gateway.port", "gateway.workers", "gateway.log", "store.")
"""Keys, or beginnings of keys, that only a new start can change."""


def check_fixed(before: Config, after: Config) -> None:
    """Raise ConfigError naming every setting that differs and cannot change while the gateway runs."""
    changed = [
        f"{key} ({before.values.get(key)!r} now, {after.values.get(key)!r} in {after.origins.get(key, 'the file')})"
        for key in sorted({*before.values, *after.values})
        if key.startswith(FIXED) and before.values.get(key) != after.values.get(key)
    ]
    if (before.gateway.tls_cert is None) != (after.gateway.tls_cert is None):
        changed.append("gateway.tls_cert (set, or not set, at the start)")
    if changed:
        raise ConfigError(
            f"{', '.join(changed)} cannot change while the gateway runs; only other settings can. "
            "Take the change back, or stop the gateway and start it again."
        )
