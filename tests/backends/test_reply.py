import gzip
import json
import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.backends.reply import ReplyReader, read_reply, read_whole
from insource.backends.reply_dialects import READERS
from insource.types import Answer, Relay, Usage

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
TEXT = b'{"choices":[{"index":0,"text":"caf\xc3\xa9","finish_reason":"stop"}],' + USAGE + b"}"
TEXT_STREAM = (
    b'data: {"choices":[{"index":0,"text":"caf"},{"index":1,"text":"other"}]}\n\n'
    b'data: {"choices":[{"index":0,"text":"\xc3\xa9","finish_reason":"stop"}],' + USAGE + b"}\n\ndata: [DONE]\n\n"
)
RESPONSE = (
    b'{"status":"completed","output":[{"type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},'
    b'{"type":"message","content":[{"type":"output_text","text":"caf"},{"type":"output_text","text":"\xc3\xa9"}]}],'
    b'"usage":{"input_tokens":9,"input_tokens_details":{"cached_tokens":7},"output_tokens":2,"total_tokens":11}}'
)
RESPONSE_STREAM = (
    b'event: response.created\ndata: {"type":"response.created","response":{"status":"in_progress","output":[]}}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"caf"}\n\n'
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\xc3\xa9"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":' + RESPONSE + b"}\n\n"
)
MESSAGE = (
    b'{"type":"message","content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"caf"},'
    b'{"type":"text","text":"\xc3\xa9"}],"stop_reason":"end_turn",'
    b'"usage":{"input_tokens":9,"cache_read_input_tokens":null,"output_tokens":2}}'
)
MESSAGE_STREAM = (
    b'event: message_start\ndata: {"type":"message_start","message":{"content":[],"usage":{"input_tokens":9,'
    b'"output_tokens":1}}}\n\nevent: ping\ndata: {"type":"ping"}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"caf"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"input_json_delta",'
    b'"partial_json":"{"}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\xc3\xa9"}}'
    b'\n\nevent: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":2}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n'
)
SAMPLES = {
    "chat": (PLAIN, STREAM),
    "completions": (TEXT, TEXT_STREAM),
    "responses": (RESPONSE, RESPONSE_STREAM),
    "messages": (MESSAGE, MESSAGE_STREAM),
}
DIALECTS = st.sampled_from(sorted(READERS))


def read(data, headers, cuts=(), **more):
    reader = ReplyReader(200, headers, **more)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    for start, end in zip(places, places[1:], strict=False):
        reader.feed(data[start:end])
    return reader.finish()


@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.integers(0, 1000), max_size=8),
    st.sampled_from([None, "gzip", "deflate"]),
)
def test_a_reply_says_the_same_however_it_is_cut_and_packed(dialect, cuts, encoding):
    for data, headers in zip(SAMPLES[dialect], (JSON, EVENTS), strict=True):
        if encoding is not None:
            data = gzip.compress(data) if encoding == "gzip" else zlib.compress(data)
            headers = (*headers, ("content-encoding", encoding))
        for reply in (read(data, headers, cuts, dialect=dialect), read_whole(200, headers, data, dialect)):
            assert (reply.content, reply.usage, reply.detail) == ("café", Usage(9, 2), None)


@given(DIALECTS, st.binary(max_size=300), st.sampled_from([JSON, EVENTS, (*JSON, ("content-encoding", "gzip")), ()]))
def test_no_bytes_make_it_raise(dialect, data, headers):
    assert read(data, headers, dialect=dialect).status == 200
    assert read(b"data: " + data, EVENTS, dialect=dialect).status == 200
    assert read_whole(200, headers, data, dialect).status == 200


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from("choices usage delta message content type output response results flagged text".split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)


@given(DIALECTS, ODD)
def test_no_json_makes_it_raise(dialect, value):
    try:
        data = msgspec.json.encode(value)
    except OverflowError:
        return
    assert read(data, JSON, dialect=dialect).status == 200
    assert read(b"data: " + data + b"\n\n", EVENTS, dialect=dialect).status == 200


@pytest.mark.parametrize(
    ("data", "headers", "says"),
    [
        (PLAIN[:-5], JSON, "not in the chat format"),
        (STREAM[:150], EVENTS, "the stream ended early"),
        (b'{"choices":[{"message":{"content":null}}]}', JSON, "no text"),
        (b'{"object":"list"}', JSON, "no text"),
        (PLAIN, (*JSON, ("content-encoding", "br")), "encoded as br"),
        (PLAIN, (("content-type", "audio/mpeg"),), "of the type audio/mpeg"),
        (b"x" * 20, (*JSON, ("content-encoding", "gzip")), "damaged compression"),
        (b"[" * 100_000, JSON, "not in the chat format"),
    ],
)
def test_what_cannot_be_read_is_unknown_and_says_why(data, headers, says):
    reply = read(data, headers)
    assert reply.content is None and reply.usage is None
    assert says in reply.detail


@pytest.mark.parametrize("dialect", sorted(SAMPLES))
def test_a_stream_without_its_end_has_no_content_and_keeps_the_tokens_it_told(dialect):
    whole = SAMPLES[dialect][1]
    for end in range(len(whole) - len(whole.rstrip().rpartition(b"\n\n")[2]) - 2):
        reply = read(whole[:end], EVENTS, dialect=dialect)
        if reply.detail is None:  # a chat's text is whole with its reason for the end, whatever follows
            assert b"finish_reason" in whole[:end]
        else:
            assert (reply.content, "ended early" in reply.detail) == (None, True)
    assert read(MESSAGE_STREAM[:200], EVENTS, dialect="messages").usage == Usage(9, 1)


@pytest.mark.parametrize(
    ("dialect", "data", "headers"),
    [
        ("chat", PLAIN.replace(b'"index":0,', b'"index":0,"finish_reason":"length",'), JSON),
        ("chat", STREAM.replace(b'"stop"', b'"length"'), EVENTS),
        ("completions", TEXT.replace(b'"stop"', b'"length"'), JSON),
        (
            "responses",
            RESPONSE.replace(b'"usage"', b'"incomplete_details":{"reason":"max_output_tokens"},"usage"'),
            JSON,
        ),
        (
            "responses",
            RESPONSE_STREAM.replace(b"response.completed", b"response.incomplete").replace(
                b'"output":[{', b'"incomplete_details":{"reason":"max_output_tokens"},"output":[{'
            ),
            EVENTS,
        ),
        ("messages", MESSAGE.replace(b"end_turn", b"max_tokens"), JSON),
        ("messages", MESSAGE_STREAM.replace(b"end_turn", b"max_tokens"), EVENTS),
    ],
)
def test_a_text_that_a_limit_cut_off_says_so(dialect, data, headers):
    reply = read(data, headers, dialect=dialect)
    assert (reply.content, reply.detail) == ("café", "cut off by a limit on tokens")


@pytest.mark.parametrize(
    ("dialect", "event"),
    [
        ("messages", b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error"}}\n\n'),
        ("responses", b'event: error\ndata: {"type":"error","message":"x"}\n\n'),
        ("responses", b'data: {"type":"response.failed","response":{"status":"failed"}}\n\n'),
    ],
)
def test_a_stream_that_ends_in_an_error_has_no_content(dialect, event):
    whole = SAMPLES[dialect][1]
    cut = whole.rstrip().rindex(b"event:")
    reply = read(whole[:cut] + event, EVENTS, dialect=dialect)
    assert (reply.content, reply.detail) == (None, "the stream ended in an error")


def test_the_last_event_of_a_response_stands_in_for_deltas_that_never_came():
    cut = RESPONSE_STREAM.rindex(b"event:")
    assert read(RESPONSE_STREAM[cut:], EVENTS, dialect="responses").content == "café"


def test_tool_calls_are_no_text():
    call = b'data: {"choices":[{"delta":{"content":null,"tool_calls":[]},"finish_reason":"tool_calls"}]}\n\n'
    assert read(call, EVENTS).detail == "no text"
    block = b'{"content":[{"type":"tool_use","id":"t","name":"f","input":{}}],"stop_reason":"tool_use"}'
    assert read(block, JSON, dialect="messages").detail == "no text"


def verdict(flagged, **scores):
    held = {name: score > 0.5 for name, score in scores.items()}
    return json.dumps({"results": [{"flagged": flagged, "categories": held, "category_scores": scores}]}).encode()


def test_a_moderation_says_its_worst_category_or_the_answer_that_is_safe():
    flagged = verdict(True, spam=0.7, toxic=0.9, hate=0.1)
    assert read(flagged, JSON, dialect="moderations").content == "toxic"
    unflagged = verdict(False, spam=0.1)
    assert read(unflagged, JSON, dialect="moderations", safe="fine").content == "fine"
    assert read(unflagged, JSON, dialect="moderations").detail == "no text"
    several = b'{"results":[{"flagged":false},{"flagged":false}]}'
    assert read(several, JSON, dialect="moderations", safe="fine").content is None


def test_past_its_limit_it_stops_reading_a_bomb_included():
    bomb = gzip.compress(b" " * 10_000_000 + PLAIN)
    zipped = ("content-encoding", "gzip")
    line = b"data: " + b"x" * 95
    bombs = ((b" " * 101, JSON), (bomb, (*JSON, zipped)), (bomb, (*EVENTS, zipped)), (line, EVENTS))
    for data, headers in bombs:
        assert "longer than 100 bytes" in read(data, headers, max_bytes=100).detail
        assert "longer than 100 bytes" in read_whole(200, headers, data, max_bytes=100).detail


def chunk(text):
    return b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text


def most_held(reader, times):
    """The most bytes that a reader holds between chunks of a long stream with much besides its text."""
    most = 0
    for _ in range(times):
        reader.feed(chunk(b"ab") + b": " + b"x" * 500 + b"\n")
        most = max(most, len(reader._buffer) + len(reader._said.text))
    return most


class Hoarder(ReplyReader):
    """The guard broken on purpose: keeps all the bytes that pass."""

    def _split(self, data):
        self._said.text += data


def test_of_a_stream_the_text_alone_is_held_however_long_it_runs():
    reader = ReplyReader(200, EVENTS, max_bytes=1000)
    assert most_held(reader, 100) <= 200
    reader.feed(b"data: [DONE]\n\n")
    assert reader.finish().content == "ab" * 100
    assert most_held(Hoarder(200, EVENTS), 100) > 200
    reader = ReplyReader(200, EVENTS, max_bytes=1000)
    assert most_held(reader, 600) <= 1000
    assert "longer than 1000 bytes" in reader.finish().detail


def test_the_end_can_be_asked_for_twice():
    reader = ReplyReader(200, EVENTS)
    reader.feed(STREAM)
    assert reader.finish() == reader.finish()


def test_it_says_whether_events_come_and_pass_as_they_are():
    told = [(r.streams, r.readable) for r in (ReplyReader(200, JSON), ReplyReader(200, EVENTS))]
    assert told == [(False, True), (True, True)]
    assert not ReplyReader(200, (*EVENTS, ("content-encoding", "gzip"))).readable


def test_the_tokens_of_what_is_passed_on_unread_are_understood():
    data = b'{"usage":{"input_tokens":5,"output_tokens":1,"total_tokens":6}}'
    assert read(data, JSON, dialect="other").usage == Usage(5, 1)
    assert read(b'{"usage":{"prompt_tokens":5,"total_tokens":5}}', JSON, dialect="embeddings").usage == Usage(5, 0)
    assert read(data, JSON, dialect="a dialect nobody knows").usage == Usage(5, 1)


@pytest.mark.parametrize("odd", ["-1", "9007199254740992", "1" * 400, "null", "1.5", '"3"'])
def test_an_odd_count_is_unknown(odd):
    assert read(b'{"usage":{"prompt_tokens":%s,"completion_tokens":1}}' % odd.encode(), JSON).usage is None


async def test_an_answer_is_read_to_its_end_and_closed():
    closed = []

    async def chunks():
        yield MESSAGE[:50]
        yield MESSAGE[50:]

    async def close():
        closed.append(True)

    for whole in (None, MESSAGE):
        answer = Answer("main", relay=Relay(200, JSON, chunks(), close, whole))
        assert (await read_reply(answer, dialect="messages")).content == "café"
    assert closed == [True, True]
    assert (await read_reply(Answer("s", content="yes"))).content == "yes"


def text_events(*counts):
    """A stream of one piece of text for each count of tokens, None where it says none."""
    usage = [f',"usage":{{"prompt_tokens":7,"completion_tokens":{count}}}' if count else "" for count in counts]
    return "".join(f'data: {{"choices":[{{"delta":{{"content":"w"}}}}]{each}}}\n\n' for each in usage).encode()


def test_of_a_stream_that_ends_early_the_pieces_are_counted_and_stale_tokens_are_unknown():
    reply = read(text_events(1, 2, 3), EVENTS)
    assert (reply.pieces, reply.usage) == (3, Usage(7, 3))
    reply = read(text_events(1, None, None), EVENTS)
    assert (reply.pieces, reply.usage) == (3, None)  # not 1, nor 0: nobody knows
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}\n\n'
    piece = b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"w"}}\n\n'
    reply = read(start + piece * 4, EVENTS, dialect="messages")
    assert (reply.pieces, reply.usage) == (4, None)
    reply = read(start, EVENTS, dialect="messages")
    assert (reply.usage, reply.whole) == (Usage(7, 1), False)
    assert read(MESSAGE_STREAM, EVENTS, dialect="messages").whole


@pytest.mark.parametrize(
    "event",
    [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "redacted_thinking", "data": "x"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "word"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{"}},
    ],
)
def test_of_a_stream_cut_while_it_thinks_or_calls_a_tool_the_tokens_are_unknown(event):
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":10,"output_tokens":1}}}\n\n'
    reply = read(start + b"data: " + json.dumps(event).encode() + b"\n\n", EVENTS, dialect="messages")
    assert (reply.pieces, reply.usage, reply.whole) == (0, None, False)
    counted = b'data: {"type":"message_delta","delta":{},"usage":{"output_tokens":30}}\n\n'
    reply = read(start + b"data: " + json.dumps(event).encode() + b"\n\n" + counted, EVENTS, dialect="messages")
    assert (reply.usage, reply.whole) == (Usage(10, 30), False)


def test_of_a_stream_cut_in_a_tools_call_the_tokens_told_before_are_stale():
    told = text_events(1)
    call = b'data: {"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{"}}]}}]}\n\n'
    assert read(told, EVENTS).usage == Usage(7, 1)
    assert read(told + call, EVENTS).usage is None


def test_tokens_of_the_cache_count_as_tokens_of_the_prompt():
    cached = b'"cache_creation_input_tokens":9000,"cache_read_input_tokens":500'
    whole = b'{"content":[],"usage":{"input_tokens":3,%s,"output_tokens":2}}'
    assert read(whole % cached, JSON, dialect="messages").usage == Usage(9503, 2)
    assert read(whole % cached.replace(b"9000", b"null"), JSON, dialect="messages").usage == Usage(503, 2)
    assert read(whole % cached.replace(b"500", b"-1"), JSON, dialect="messages").usage is None
    start = b'data: {"type":"message_start","message":{"usage":{"input_tokens":3,%s,"output_tokens":1}}}\n\n' % cached
    end = b'data: {"type":"message_delta","delta":{},"usage":{"input_tokens":4,"output_tokens":7}}\n\n'
    stop = b'data: {"type":"message_stop"}\n\n'
    assert read(start + end + stop, EVENTS, dialect="messages").usage == Usage(9504, 7)
    both = b'{"choices":[],"usage":{"prompt_tokens":9503,%s,"completion_tokens":2}}'  # as OpenAI's: cached ones in it
    assert read(both % cached, JSON).usage == Usage(9503, 2)
