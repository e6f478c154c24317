import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.backends.reply import ReplyReader
from insource.types import Usage

JSON = (("Content-Type", "application/json; charset=utf-8"),)
EVENTS = (("Content-Type", "text/event-stream"),)
USAGE = b'"usage":{"prompt_tokens":9,"completion_tokens":2}'
PLAIN = b'{"choices":[{"index":0,"message":{"content":"caf\xc3\xa9","x":1}}],' + USAGE + b"}"
STREAM = (
    b': comment\n\ndata: {"choices":[{"delta":{"role":"assistant"}}],"usage":null}\n\n'
    b'data: {"choices":[{"delta":{"content":"caf"}},{"index":1,"delta":{"content":"other"}}]}\r\n\r\n'
    b'data:{"choices":[{"delta":{"content":"\xc3\xa9"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\ndata: [DONE]\n\n'
)


def read(data, headers, cuts=(), **more):
    reader = ReplyReader(200, headers, **more)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in zip(places, places[1:], strict=False):
        reader.feed(data[start:end])
    return reader.finish()


@given(st.lists(st.integers(0, 1000), max_size=8), st.sampled_from([None, "gzip", "deflate"]))
def test_a_reply_says_the_same_however_it_is_cut_and_packed(cuts, encoding):
    for data, headers in ((PLAIN, JSON), (STREAM, EVENTS)):
        if encoding is not None:
            data = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
            headers = (*headers, ("content-encoding", encoding))
        reply = read(data, headers, cuts)
        assert (reply.content, reply.usage, reply.detail) == ("café", Usage(9, 2), None)


@given(st.binary(max_size=300), st.sampled_from([JSON, EVENTS, (*JSON, ("content-encoding", "gzip")), ()]))
def test_no_bytes_make_it_raise(data, headers):
    assert read(data, headers).status == 200
    assert read(b"data: " + data, EVENTS).status == 200


@pytest.mark.parametrize(
    ("data", "headers", "says"),
    [
        (PLAIN[:-5], JSON, "not in the chat completions format"),
        (STREAM[:150], EVENTS, "the stream ended early"),
        (b'{"choices":[{"message":{"content":null}}]}', JSON, "no text"),
        (b'{"object":"list"}', JSON, "no text"),
        (PLAIN, (*JSON, ("content-encoding", "br")), "encoded as br"),
        (b"x" * 20, (*JSON, ("content-encoding", "gzip")), "damaged compression"),
        (b"[" * 100_000, JSON, "not in the chat completions format"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_says_why(data, headers, says):
    reply = read(data, headers)
    assert reply.content is None and reply.usage is None
    assert says in reply.detail


def test_past_its_limit_it_stops_reading_a_bomb_included():
    bomb = gzip.compress(b" " * 10_000_000 + PLAIN)
    for data, headers in ((b" " * 101, JSON), (bomb, (*JSON, ("content-encoding", "gzip")))):
        assert "longer than 100 bytes" in read(data, headers, max_bytes=100).detail


def test_the_tokens_of_other_apis_are_understood():
    data = b'{"usage":{"input_tokens":5,"output_tokens":1,"total_tokens":6}}'
    assert read(data, JSON).usage == Usage(5, 1)
    assert read(b'{"usage":{"prompt_tokens":5,"total_tokens":5}}', JSON).usage == Usage(5, 0)


@pytest.mark.parametrize("odd", ["-1", "9007199254740992", "1" * 400, "null", "1.5", '"3"'])
def test_an_odd_count_is_unknown(odd):
    assert read(b'{"usage":{"prompt_tokens":%s,"completion_tokens":1}}' % odd.encode(), JSON).usage is None
