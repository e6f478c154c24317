"""What keeps a server from starting is said before anything listens."""

import socket
from dataclasses import replace

import pytest

from insource.errors import ConfigError, StoreError
from insource.gateway.app import create_app
from insource.gateway.listening import listen
from insource.gateway.server import ServerThread


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "example.com", "::", ""])
def test_only_loopback_is_listened_on(host):
    with pytest.raises(ConfigError, match="listens on loopback only"):
        listen(host, 0)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.5"])
def test_loopback_is(host):
    with listen(host, 0) as listening:
        assert listening.getsockname()[0].startswith("127.")


def test_a_port_that_is_taken_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} cannot be used .* set gateway.port"):
            listen("127.0.0.1", port)


def test_a_registry_that_cannot_be_read_keeps_the_server_from_starting(house):
    class Unreadable:
        def changed(self):
            raise StoreError("registry.db is damaged")

    house.start()
    with pytest.raises(StoreError, match=r"registry\.db is damaged"):
        ServerThread(create_app(replace(house.parts, versions=Unreadable()))).__enter__()
