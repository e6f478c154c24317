"""The gateway's listening socket, on loopback only.

It knows addresses; it does not know who accepts.
"""

from __future__ import annotations

import ipaddress
import socket

from insource.errors import ConfigError


def listen(host: str, port: int) -> socket.socket:
    """Bind to a loopback address; raise ConfigError for any other, or where the port is taken."""
    address = "127.0.0.1" if host == "localhost" else host
    try:
        loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ConfigError(
            f"gateway.host is {host!r}; without keys of its own the gateway listens on loopback only. "
            "Use 127.0.0.1, and a proxy with authentication in front if others are to reach it."
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


def url_of(listening: socket.socket) -> str:
    """Return the socket's address as a URL without a path."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
