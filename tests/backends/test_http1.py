"""The connection over a transport of our own: every byte and every second is chosen here."""

import asyncio
import gzip
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insource.backends.http1 import HEAD_BYTES, HELD_BYTES, Connection
from insource.backends.http1_reply import Broken, Failed
from tests.backends.http1_wire import HEAD, OK, opened, run


@dataclass
class Seen:
    status: int = 0
    headers: tuple = ()
    body: bytes = b""
    failure: Failed | None = None
    freed: bool = False
    closed: bool = False
    chunks: list = field(default_factory=list)


def exchanged(pieces, *, kind=Connection, eof=False, bodyless=False):
    """Hand the pieces over as the reply to one request and say what came of it."""

    async def work():
        connection, wire, freed = opened(kind)
        reply = connection.send(HEAD, b"", bodyless=bodyless)
        seen = Seen()
        try:
            wire.hand(*pieces, eof=eof)
            if not reply.status and reply.failure is None:
                return None
            await reply.head()
            seen.status, seen.headers = reply.status, reply.headers
            while reply.parts or reply.complete or reply.failure:
                chunk = await reply.read()
                if not chunk:
                    break
                seen.chunks.append(chunk)
            else:
                return None  # more would have to come
        except Failed as failure:
            seen.failure = failure
        finally:
            seen.body, seen.freed, seen.closed = b"".join(seen.chunks), bool(freed), wire.closing
            reply.close()
            await asyncio.sleep(0)
        return seen

    return run(work())


@st.composite
def replies(draw):
    """A valid reply: its bytes, what it must read as, and whether it ends with the connection."""
    body = draw(st.binary(max_size=600))
    framing = draw(st.sampled_from(["length", "chunked", "close"]))
    names = draw(st.lists(st.sampled_from(["x-a", "X-B", "content-type", "set-cookie"]), max_size=4))
    headers = [(name, draw(st.text("abc \xe9", max_size=8)).strip()) for name in names]
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * draw(st.integers(0, 2))
    lines = [f"{name}: {value}".encode("latin-1") for name, value in headers]
    expected = [(name.lower(), value) for name, value in headers]
    if framing == "length":
        lines.append(b"Content-Length: %d" % len(body))
        expected.append(("content-length", str(len(body))))
    coded = body
    if framing == "chunked":
        lines.append(b"Transfer-Encoding: chunked")
        cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=5)))
        chunks = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if b > a]
        trailer = draw(st.sampled_from([b"", b"x-trailer: 1\r\n"]))
        coded = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer + b"\r\n"
    raw = interim + b"HTTP/1.1 200 OK\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + coded
    return raw, tuple(expected), body, framing == "close"


def split(raw, cuts):
    cuts = sorted({cut % (len(raw) + 1) for cut in cuts})
    return [piece for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True) if (piece := raw[a:b])]


@settings(max_examples=150, deadline=None)
@given(replies(), st.lists(st.integers(0, 5000), max_size=30))
def test_any_split_of_a_reply_reads_the_same(reply, cuts):
    raw, headers, body, to_the_end = reply
    for pieces in (split(raw, cuts), [raw[n : n + 1] for n in range(len(raw))]):
        seen = exchanged(pieces, eof=to_the_end)
        assert (seen.status, seen.headers, seen.body, seen.failure) == (200, headers, body, None)
        assert seen.freed is not to_the_end and seen.closed is to_the_end


class Merging(Connection):
    """Broken: reads only what comes with the first bytes of a body."""

    def on_body(self, data):
        if not self._reply.parts:
            super().on_body(data)


def test_the_property_finds_a_body_that_is_lost():
    raw = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
    assert exchanged([raw]).body == b"ab"
    assert exchanged([raw], kind=Merging).body != b"ab"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from(OK.split(b" ")), st.just(OK)), max_size=8))
def test_any_bytes_end_in_a_reply_or_a_failure(pieces):
    seen = exchanged(pieces, eof=True)
    assert seen is not None and (seen.failure is None or isinstance(seen.failure, Broken))


HOSTILE = {
    "garbage": [b"nonsense\r\n\r\n"],
    "another protocol": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "http/2": [b"HTTP/2.0 200 OK\r\ncontent-length: 0\r\n\r\n"],
    "status below 100": [b"HTTP/1.1 099 No\r\ncontent-length: 0\r\n\r\n"],
    "status above 599": [b"HTTP/1.1 600 No\r\ncontent-length: 0\r\n\r\n"],
    "switched": [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"],
    "switched without saying to what": [b"HTTP/1.1 101 Switching\r\n\r\n"],
    "two lengths": [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nab"],
    "two lengths in one": [b"HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nab"],
    "a signed length": [b"HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nab"],
    "length and chunks": [b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "chunks and length": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n"],
    "unasked coding": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nab"],
    "chunked, then coded": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, gzip\r\n\r\nab"],
    "bare line feeds": [b"HTTP/1.1 200 OK\ncontent-length: 2\n\nab"],
    "folded header": [b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n"],
    "zero byte in a header": [b"HTTP/1.1 200 OK\r\nx: a\0b\r\ncontent-length: 0\r\n\r\n"],
    "blank in a header's name": [b"HTTP/1.1 200 OK\r\nx y: a\r\ncontent-length: 0\r\n\r\n"],
    "bad chunk": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", b"zz\r\n"],
    "chunk longer than said": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n"],
    "nothing": [],
    "half a status line": [b"HTTP/1.1 2"],
    "half a head": [b"HTTP/1.1 200 OK\r\ncontent-le"],
    "interim only": [b"HTTP/1.1 100 Continue\r\n\r\n"],
    "short body": [b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello"],
    "no last chunk": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"],
    "half a trailer": [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\r\n"],
}


def fails(pieces, **more):
    seen = exchanged(pieces, eof=True, **more)
    return isinstance(seen.failure, Broken) and seen.closed and not seen.freed


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_wrong_is_a_failure_and_ends_the_connection(name):
    assert fails(HOSTILE[name])
    assert fails([raw[n : n + 1] for raw in HOSTILE[name] for n in range(len(raw))])


class EndIsEnd(Connection):
    """Broken: takes the connection's end for the reply's."""

    def eof_received(self):
        self._end(None)
        self._transport.abort()


class Lax(Connection):
    """Broken: refuses nothing that the parser takes."""

    def _refuse(self, reason):
        return None


class LaxCoding(Lax):
    """Broken: passes a coding on that it does not know."""

    def on_headers_complete(self):
        super().on_headers_complete()
        self._to_the_end = True


@pytest.mark.parametrize(("name", "kind"), [
    ("short body", EndIsEnd), ("no last chunk", EndIsEnd), ("half a trailer", EndIsEnd),
    ("http/2", Lax), ("status above 599", Lax), ("unasked coding", LaxCoding), ("chunked, then coded", LaxCoding),
])  # fmt: skip
def test_the_check_finds_a_guard_that_is_gone(name, kind):
    assert not fails(HOSTILE[name], kind=kind)


def test_a_failure_after_the_head_comes_after_the_bytes_before_it():
    seen = exchanged(HOSTILE["short body"], eof=True)
    assert (seen.status, seen.body) == (200, b"hello")
    assert isinstance(seen.failure, Broken) and "hello" not in str(seen.failure)


@pytest.mark.parametrize("body", [b"", b"ignored"])
@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_statuses_have_no_body_and_what_follows_is_not_theirs(status, body):
    seen = exchanged([b"HTTP/1.1 " + status + b"\r\ncontent-length: 7\r\nx: 1\r\n\r\n" + body])
    assert (seen.headers, seen.body, seen.failure, seen.freed) == ((("x", "1"),), b"", None, not body)


def test_a_reply_to_head_has_no_body_and_its_connection_is_not_used_again():
    seen = exchanged([b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"], bodyless=True)
    assert (seen.headers, seen.body, seen.failure, seen.closed) == ((("content-length", "7"),), b"", None, True)


@pytest.mark.parametrize("raw", [
    b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nconnection: x-a, CLOSE\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\ncontent-length: 2\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabc",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nabHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\ncd",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n0",
])  # fmt: skip
def test_such_replies_are_whole_but_their_connection_is_not_used_again(raw):
    seen = exchanged([raw])
    assert (seen.body, seen.failure, seen.freed, seen.closed) == (b"ab", None, False, True)


class Careless(Connection):
    """Broken: does not mind what comes after a reply."""

    def on_message_begin(self):
        return None

    def on_headers_complete(self):
        if self._reply is not None:
            super().on_headers_complete()


def test_the_check_finds_a_connection_used_again_with_a_second_reply_in_it():
    two = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab" + OK
    assert not exchanged([two]).freed
    assert exchanged([two], kind=Careless).freed


def test_bytes_are_relayed_as_they_are_and_headers_of_the_connection_are_not():
    packed = gzip.compress(b"hello")
    head = (
        b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\nContent-Encoding: gzip\r\nKeep-Alive: timeout=5\r\n"
        b"Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nSet-Cookie: a\r\nSet-Cookie: \xe9\r\nContent-Length: %d\r\n\r\n"
    )
    seen = exchanged([head % len(packed) + packed])
    assert seen.body == packed and seen.freed
    assert seen.headers == (
        ("location", "http://elsewhere/"), ("content-encoding", "gzip"), ("set-cookie", "a"), ("set-cookie", "\xe9"),
        ("content-length", str(len(packed))),
    )  # fmt: skip


def long_head(size):
    start = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx: "
    return start + b"a" * (size - len(start) - 4) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1 << 20, 1000, 7])
def test_a_head_may_be_so_long_and_no_longer(step):
    for size, good in ((HEAD_BYTES, True), (HEAD_BYTES + 1, False)):
        raw = long_head(size) + b"hello"
        seen = exchanged([raw[n : n + step] for n in range(0, len(raw), step)])
        assert (seen.failure is None) is good and (seen.body == b"hello") is good


def endless_head(kind):
    """Whether a head without end is cut off."""
    return exchanged([b"HTTP/1.1 200 OK\r\n", *[b"x: yyyyyyyy\r\n" * 100] * 60], kind=kind) is not None


def endless_interims(kind):
    return exchanged([b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100] * 30, kind=kind) is not None


def endless_trailer(kind):
    start = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: "
    return exchanged([start, *[b"y" * 5000] * 20], kind=kind) is not None


class Unbounded(Connection):
    """Broken: no limit on anything."""

    def _feed_head(self, parser, reply, data):
        parser.feed_data(data)

    def _bound(self, reply, barren):
        return None


@pytest.mark.parametrize("check", [endless_head, endless_interims, endless_trailer])
def test_what_has_no_end_is_cut_off(check):
    assert check(Connection)
    assert not check(Unbounded)


def test_a_body_without_end_passes_with_bounded_memory():
    async def held(kind):
        connection, wire, _ = opened(kind)
        reply = connection.send(HEAD, b"", bodyless=False)
        wire.hand(b"HTTP/1.1 200 OK\r\n\r\n")
        most, passed, pauses = 0, 0, 0
        for _ in range(40):
            for _ in range(10):
                if not wire.paused:
                    wire.hand(b"x" * 60_000)
            most, pauses = max(most, reply.size), pauses + wire.paused
            passed += len(await reply.read())
            assert not wire.paused  # the reader took it, so more may come
        reply.close()
        await asyncio.sleep(0)
        return most, passed, pauses

    most, passed, pauses = run(held(Connection))
    assert most <= HELD_BYTES + 60_000 and passed > 40 * HELD_BYTES and pauses == 40
    assert run(held(Unbounded))[0] > 2 * HELD_BYTES


def test_events_come_one_by_one_as_they_arrive():
    async def work():
        connection, wire, _ = opened()
        reply = connection.send(HEAD, b"", bodyless=False)
        wire.hand(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await reply.head()
        assert reply.whole is None
        for n in range(3):
            reading = asyncio.ensure_future(reply.read())
            await asyncio.sleep(0)
            assert not reading.done()
            wire.hand(b"7\r\ndata: %d\r\n" % n)
            assert await reading == b"data: %d" % n
        wire.hand(b"0\r\n\r\n")
        assert await reply.read() == b"" and reply.complete

    run(work())


def test_a_reply_that_is_here_with_its_head_is_whole():
    async def work():
        connection, wire, freed = opened()
        reply = connection.send(HEAD, b"", bodyless=False)
        wire.hand(OK[:20], OK[20:])
        await reply.head()
        assert reply.whole == b"hello" and freed == [connection]
        reply.close()  # after the end, so the connection stays
        assert connection.alive

    run(work())
