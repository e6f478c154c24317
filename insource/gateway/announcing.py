"""What a gateway that has started says of itself.

It knows the configuration and what was opened; it prints nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from insource.config import Config
from insource.config.keeping import content_lines
from insource.gateway.keyring import keys_line
from insource.gateway.listening import is_loopback
from insource.store.proof.keeper import Keeper


def start_lines(config: Config, url: str, keeper: Keeper, now: datetime) -> Iterator[str]:
    """Yield the lines that a person needs to know; `keeper` signs the ledger's proofs, or says why it does not."""
    upstream, loopback = config.default_upstream, is_loopback(config.gateway.host)
    yield f"insource listens on {url}/v1 ({'loopback only' if loopback else 'open to others'})"
    yield keys_line(config.home, now, loopback=loopback)
    if config.gateway.workers > 1:
        yield f"workers: {config.gateway.workers}, and this process, which writes the ledger"
    yield f"upstream: {upstream.name + ', ' + upstream.base_url if upstream else 'none configured'}"
    yield f"ledger: {config.home}, files readable by you only"
    yield f"proofs: signed by {keeper.key}" if keeper.refusal is None else f"! proofs: NOT signed: {keeper.refusal}"
    yield from content_lines(config)
