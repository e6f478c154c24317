"""Limits that workers share over sockets, for tests: the supervisor's end and theirs, in one process."""

import socket
from contextlib import asynccontextmanager

from insource.gateway.limits_shared import LimitsClient, LimitsServer


@asynccontextmanager
async def shared(limits, workers=1):
    """The ends of so many workers, closed at the end."""
    server, clients = LimitsServer(limits), []
    for _ in range(workers):
        here, there = socket.socketpair()
        await server.serve(there)
        clients.append(await LimitsClient.connect(here))
    yield clients
    for client in clients:
        client.close()
