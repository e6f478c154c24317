"""The gateway's listening socket, on loopback unless there are keys.

It knows addresses; it does not know who accepts.
"""

from __future__ import annotations

import ipaddress
import socket

from insource.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int, *, keys: bool = False) -> socket.socket:
    """Bind to an address; raise ConfigError for one beyond loopback where there are no `keys`, or a port that is taken.

    Without keys of its own, whoever reaches the gateway could use it.
    """
    address = "127.0.0.1" if host == "localhost" else host
    if not is_loopback(host) and not keys:
        raise ConfigError(
            f"gateway.host is {host!r}, which others can reach; without a key that is valid the gateway listens on "
            "loopback only. Make one first: `insource keys create NAME --admin`; or use 127.0.0.1."
        )
    listening = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address, port))
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"The address {address}:{port} cannot be used ({error.strerror}). A free port was expected. "
            "Stop what listens there, or set gateway.port."
        ) from error
    return listening


def url_of(listening: socket.socket, *, tls: bool = False) -> str:
    """Return the socket's address as a URL without a path."""
    host, port = listening.getsockname()[:2]
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
