"""One short name for a whole configuration, so that two processes can be told to run under the same one.

It knows values, not where they come from; secrets are never among them.
"""

from __future__ import annotations

import hashlib

import msgspec

from insource.config.models import Config

DIGITS = 12


def config_digest(config: Config) -> str:
    """Return the first 12 hexadecimal digits of SHA-256 over every value; the order in the file does not matter."""
    values = (config.gateway, config.store, config.upstreams, config.tasks, config.policy, config.embeddings)
    told = msgspec.json.encode(values, order="deterministic", enc_hook=str)
    return hashlib.sha256(told).hexdigest()[:DIGITS]
