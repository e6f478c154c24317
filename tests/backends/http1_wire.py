"""A wire without a network, and a clock that never waits, for tests of one HTTP/1.1 exchange."""

import asyncio

from insource.backends.http1 import Connection

HEAD = b"POST /v1/x HTTP/1.1\r\nhost: u\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes only when it is told to."""

    now = 1000.0

    def time(self):
        return self.now

    async def pass_(self, seconds):
        self.now += seconds
        for _ in range(3):  # the timer, what it calls, what that wakes
            await asyncio.sleep(0)


class Wire(asyncio.Transport):
    """A transport that keeps what is written and hands over what it is told."""

    def __init__(self, connection):
        super().__init__()
        self.connection, self.written, self.closing, self.paused, self.waiting = connection, [], False, False, 0
        connection.connection_made(self)

    def write(self, data):
        self.written.append(bytes(data))

    def get_write_buffer_size(self):
        return self.waiting

    def is_closing(self):
        return self.closing

    def pause_reading(self):
        self.paused = True

    def resume_reading(self):
        self.paused = False

    def abort(self):
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.connection.connection_lost, None)

    def hand(self, *pieces, eof=False):
        for piece in pieces:
            if not self.closing:
                self.connection.data_received(piece)
        if eof and not self.closing:
            self.connection.eof_received()


def run(work):
    with asyncio.Runner(loop_factory=Clock) as runner:
        return runner.run(work)


def opened(kind=Connection, silence=60.0):
    freed = []
    connection = kind(silence, freed.append, lambda _: None)
    return connection, Wire(connection), freed
