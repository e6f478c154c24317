"""Reading traffic in every shape, and what bad files get."""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from insource.errors import DataError, TrafficError
from insource.traffic import BadLine, Traffic, examples_of_task, read, write
from insource.traffic.lines import MAX_LINE_BYTES
from insource.traffic.shapes import SHAPES
from insource.types import Example, Message, Usage

CHAT = [{"role": "system", "content": "Sort."}, {"role": "user", "content": "hi"}]
REPLY = {"choices": [{"message": {"role": "assistant", "content": "A"}}], "created": 1_700_000_000,
         "usage": {"prompt_tokens": 7, "completion_tokens": 1}}  # fmt: skip
RESPONSE = {"object": "response", "output": [{"type": "reasoning", "summary": []}, {"type": "message", "content": [
    {"type": "output_text", "text": "A"}]}], "usage": {"input_tokens": 7, "output_tokens": 1}}  # fmt: skip
PARTS = [{"type": "text", "text": "A"}]
WHEN = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def one(tmp_path: Path, line: object) -> Example:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(line))
    (example,) = read(path).examples
    return example


def file_of(tmp_path: Path, data: bytes, name: str = "log.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


def refusal(path: Path, **how: bool) -> str:
    with pytest.raises(TrafficError) as error:
        read(path, **how)
    return str(error.value)


def test_the_own_shape_with_everything(tmp_path):
    example = one(tmp_path, {"text": "hi", "answer": "A", "gold": "B", "task": "triage", "time": "2023-11-14T22:13:20Z",
                             "group": 7, "metadata": "ignored", "model": "m"})  # fmt: skip
    assert example.request.messages == (Message("user", "hi"),)
    assert (example.request.id, example.request.model, example.request.fields) == ("log:1", "m", {})
    assert (example.answer, example.gold, example.task, example.time) == ("A", "B", "triage", WHEN)
    assert example.group == "7"


def test_a_context_follows_its_text_on_a_line_of_its_own(tmp_path):
    example = one(tmp_path, {"text": "It was repaid.", "context": "The loan is open.", "label": "no"})
    assert example.request.messages == (Message("user", "It was repaid.\nThe loan is open."),)
    for nothing in (None, ""):
        assert one(tmp_path, {"text": "hi", "context": nothing}).request.messages == (Message("user", "hi"),)
    assert "'context' is an object; text was expected" in refusal(
        file_of(tmp_path, b'{"text": "hi", "context": {"page": 1}}')
    )


def test_beside_messages_which_hold_all_that_was_sent_a_context_says_nothing(tmp_path):
    example = one(tmp_path, {"messages": CHAT, "context": "more", "label": "A"})
    assert example.request.messages == (Message("system", "Sort."), Message("user", "hi"))


LINES = [
    {"messages": CHAT, "label": "A"},
    {"messages": [*CHAT, {"role": "assistant", "content": "A"}]},
    {"input": CHAT, "ideal": "A"},
    {"input": CHAT, "ideal": ["A", "a"]},
    {"request": {"model": "m", "messages": CHAT}, "response": REPLY},
    {"request": {"body": {"messages": CHAT}}, "response": {"status_code": 200, "body": REPLY}},
    {"custom_id": "1", "body": {"messages": CHAT}, "response": {"body": REPLY}, "error": None},
    {"request": {"messages": CHAT}, "response": "A"},
    {"request": {"messages": CHAT}, "response": {"choices": [{"message": {"content": PARTS}}]}},
    {"messages": CHAT, "response": REPLY, "startTime": 1.7e9, "call_type": "acompletion", "status": "success"},
    {"messages": CHAT, "response": "A", "model_parameters": None},
    {"input": {"messages": CHAT}, "output": {"role": "assistant", "content": "A"}, "traceId": "t"},
    {"input": CHAT, "output": "A"},
    {"input": json.dumps(CHAT), "output": json.dumps({"role": "assistant", "content": "A"}), "trace_id": "t"},
    {"input": CHAT, "output": REPLY},
    {"messages": CHAT[1:], "system": "Sort.", "answer": "A"},
    {"instructions": "Sort.", "input": "hi", "answer": "A"},
    {"input": CHAT, "text": {"format": {"type": "text"}}, "answer": "A"},
    {"request": {"instructions": "Sort.", "input": "hi"}, "response": RESPONSE},
    {"custom_id": "1", "body": {"instructions": "Sort.", "input": "hi"}, "response": {"body": RESPONSE}},
    {"request": {"system": "Sort.", "messages": CHAT[1:]}, "response": {"role": "assistant", "content": PARTS}},
    {"input": CHAT, "output": {"content": "A"}, "start_time": "2023-11-14 22:13:20.000000"},
]


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_every_shape_gives_the_same_conversation_and_answer(tmp_path, line):
    example = one(tmp_path, line)
    assert example.request.messages == (Message("system", "Sort."), Message("user", "hi"))
    assert example.answer == "A"


def test_every_row_of_the_table_is_somebodys_first_fit():
    lines = [*LINES, {"text": "hi"}]
    used = {next(shape.name for shape in SHAPES if shape.fits(line)) for line in lines}
    assert used == {shape.name for shape in SHAPES}


def test_a_pair_brings_fields_usage_and_time(tmp_path):
    example = one(tmp_path, {"request": {"model": "task:triage", "messages": CHAT, "temperature": 0, "stream": True},
                             "response": REPLY})  # fmt: skip
    assert example.request.fields == {"temperature": 0, "stream": True}
    assert example.request.stream
    assert (example.usage, example.time, example.task) == (Usage(7, 1), WHEN, "triage")


SCHEMA = {"type": "json_schema", "name": "ticket", "schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ({"model": "m", "messages": CHAT, "response_format": SCHEMA, "customer": 7}, {"response_format": SCHEMA}),
        ({"messages": CHAT, "output_config": {"format": SCHEMA}}, {"output_config": {"format": SCHEMA}}),
        ({"messages": CHAT, "output_format": SCHEMA}, {"output_format": SCHEMA}),
        ({"input": CHAT, "text": {"format": SCHEMA}}, {"input": CHAT, "text": {"format": SCHEMA}}),
        ({"text": "hi"}, {}),
    ],
)
def test_the_format_asked_for_is_kept_and_unknown_keys_are_not(tmp_path, line, fields):
    assert one(tmp_path, line).request.fields == fields


def test_parts_of_text_in_an_input_are_text(tmp_path):
    content = [{"type": "input_text", "text": "hi"}]
    example = one(tmp_path, {"instructions": "Sort.", "input": [{"role": "user", "content": content}]})
    assert [message.text for message in example.request.messages] == ["Sort.", "hi"]


@pytest.mark.parametrize("outer", [{}, {"response": REPLY}])
def test_headers_are_kept_without_credentials(tmp_path, outer):
    sent = {"X-App": "desk", "Authorization": "Bearer x", "X-API-Key": "k", "api-key": "k", "Cookie": "c", "x-n": 7}
    for line in ({"request": {"body": {"messages": CHAT}, "headers": sent}}, {"request": {"messages": CHAT},
                 "headers": sent}, {"messages": CHAT, "answer": "A", "headers": sent}):  # fmt: skip
        assert one(tmp_path, {**line, **(outer if "request" in line else {})}).request.headers == {"x-app": "desk"}
    told = refusal(file_of(tmp_path, json.dumps({"text": "hi", "headers": ["x"]}).encode()))
    assert "'headers' is a list; an object of names and texts was expected" in told


def test_litellm_brings_model_usage_time_and_trace(tmp_path):
    example = one(tmp_path, {"messages": CHAT, "response": REPLY, "startTime": 1_700_000_000.0, "model": "openai/m",
                             "model_group": "m", "trace_id": "t", "model_parameters": {"n": 1, "x": {}}})  # fmt: skip
    assert (example.request.model, example.time, example.group) == ("m", WHEN, "t")
    assert (example.usage, example.request.fields) == (Usage(7, 1), {"n": 1})
    assert one(tmp_path, {"messages": CHAT, "response": {}, "status": "failure"}).answer is None


def test_langfuse_brings_model_usage_time_and_trace(tmp_path):
    example = one(tmp_path, {"input": "hi", "output": "A", "startTime": "2023-11-14T22:13:20.000Z", "traceId": "t",
                             "model": "m", "usage": {"input": 3, "output": 1, "unit": "TOKENS"}})  # fmt: skip
    assert (example.request.model, example.time, example.group, example.usage) == ("m", WHEN, "t", Usage(3, 1))


def test_an_ideal_is_answer_and_gold(tmp_path):
    example = one(tmp_path, {"input": "hi", "ideal": ["A", "B"]})
    assert (example.answer, example.gold) == ("A", "A")


@pytest.mark.parametrize(
    ("answer", "text"),
    [("A", "A"), (" A\n", " A\n"), ({"b": 1, "a": [1.5, "ä"]}, '{"b":1,"a":[1.5,"ä"]}'), (["x"], '["x"]'), (3, "3"),
     (True, "true"), (0, "0"), (False, "false"), (None, None), ("", None), (" ", None)],
)  # fmt: skip
def test_answers_are_the_text_the_teacher_would_send(tmp_path, answer, text):
    assert one(tmp_path, {"text": "hi", "answer": answer}).answer == text


@pytest.mark.parametrize(
    "time", ["2023-11-14T22:13:20+00:00", "2023-11-14T23:13:20+01:00", "2023-11-14 22:13:20", 1_700_000_000, 1.7e9,
             1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000, "1700000000"]
)  # fmt: skip
def test_times_become_utc(tmp_path, time):
    assert one(tmp_path, {"text": "hi", "time": time}).time == WHEN


BAD = [
    (b"nonsense", "not JSON"),
    (b'{"text": "a"', "not JSON"),
    (b'"text"', "text; one JSON object on each line"),
    (b"[1]", "a list; one JSON object"),
    (b"3", "a number; one JSON object"),
    (b"{}", "no known shape (it has no keys)"),
    (b'{"question": "a"}', "no known shape (it has 'question')"),
    (b'{"text": null}', "no text"),
    (b'{"text": 3}', "'text' is a number"),
    (b'{"text": ["a"]}', "'text' is a list"),
    (b'{"messages": []}', "no text"),
    (b'{"messages": {"role": "user"}}', "an object; a list"),
    (b'{"messages": ["a"]}', "a message is text"),
    (b'{"messages": [{"content": "a"}]}', "a message has no role"),
    (b'{"messages": [{"role": "user", "content": 3}]}', "content is a number"),
    (b'{"messages": [{"role": "user", "content": ["a"]}]}', "part that is not an object"),
    (b'{"request": {"model": "m"}, "response": {}}', "no text"),
    (b'{"request": {"body": 3}, "response": {}}', "'body' is a number"),
    (b'{"input": {"question": "a"}, "output": "b"}', "no text"),
    (b'{"text": "a", "time": "yesterday"}', "the time 'yesterday' is neither"),
    (b'{"text": "a", "time": 1e300}', "the time 1e+300 is neither"),
    (b'{"text": "a", "time": true}', "the time True is neither"),
    (b'{"text": "a", "task": {}}', "'task' is an object"),
    (b'{"text": "a", "n": 1e999}', "not JSON"),
    (b'{"text": "\\ud800"}', "not JSON"),
    (b'{"text": ' + b"[" * 100_000, "nested too deeply"),
    (b'{"text": "a\xff"}', "not UTF-8: byte 0xff at offset 34 of the file"),
    (b"\x00\x01\x02", "not JSON"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=range(len(BAD)))
def test_bad_lines_are_refused_with_file_line_and_reason(tmp_path, line, reason):
    path = file_of(tmp_path, b'{"text": "fine"}\n\n    \n' + line + b"\n")
    told = refusal(path)
    assert told.startswith("1 of 2 lines cannot be read:")
    assert f"{path}:4: " in told and reason in told
    kept = read(path, skip_bad=True)
    assert (len(kept.examples), kept.skipped, kept.lines, kept.bad[0].line) == (1, 1, 2, 4)


def test_the_first_ten_bad_lines_are_named_and_the_rest_counted(tmp_path):
    path = file_of(tmp_path, b'{"text": "fine"}\n' + b"bad\n" * 25)
    told = refusal(path)
    assert told.startswith("25 of 26 lines cannot be read:")
    assert f"{path}:11: " in told and f"{path}:12: " not in told
    assert "... and 15 more" in told and "--skip-bad" in told
    kept = read(path, skip_bad=True)
    assert (kept.skipped, len(kept.bad)) == (25, 10)
    assert kept.bad[0] == BadLine(str(path), 2, kept.bad[0].reason)


def test_nothing_left_is_refused_even_when_bad_lines_may_go(tmp_path):
    assert "2 of 2 lines" in refusal(file_of(tmp_path, b"bad\nbad\n"), skip_bad=True)


@pytest.mark.parametrize("data", [b"", b"\n\n  \n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_a_file_without_lines_is_refused(tmp_path, data):
    assert "has no lines" in refusal(file_of(tmp_path, data))


def test_what_is_no_readable_file_is_refused(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.jsonl")
    assert "is a folder" in refusal(tmp_path)
    assert "cannot be read" in refusal(Path("nul\0byte"))
    assert "is UTF-16" in refusal(file_of(tmp_path, '{"text": "a"}'.encode("utf-16")))


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz", "log"])
def test_gzip_is_told_by_its_bytes_not_its_name(tmp_path, name):
    data = b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}'
    plain = read(file_of(tmp_path, data, name))
    zipped = read(file_of(tmp_path, gzip.compress(data), name))
    assert plain.examples == zipped.examples
    assert [example.request.id for example in plain.examples] == ["log:1", "log:2"]


CUTS = [lambda z: z[: len(z) // 2], lambda z: z[:-4], lambda z: z + b"garbage", lambda z: z[:-8] + bytes(8),
        lambda z: z[:40_000] + bytes(500) + z[40_500:]]  # fmt: skip


@pytest.mark.parametrize("cut", CUTS, ids=range(len(CUTS)))
def test_a_damaged_gzip_says_how_many_lines_were_whole(tmp_path, cut):
    data = b"".join(b'{"text": "%d %x"}\n' % (i, i * 7_919**3) for i in range(5_000))
    path = file_of(tmp_path, cut(gzip.compress(data)), "log.jsonl.gz")
    told = refusal(path)
    kept = read(path, skip_bad=True)
    assert f"after {kept.lines:,} whole lines" in told
    assert 0 < len(kept.examples) <= 5_000
    assert all(e.request.messages[0].content.startswith(f"{i} ") for i, e in enumerate(kept.examples))


def test_ten_megabytes_in_one_text(tmp_path):
    text = "ä" * 5 * 2**20
    assert one(tmp_path, {"text": text}).request.messages[0].content == text


def test_a_line_over_the_limit_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"text": "')
        file.write(bytes(MAX_LINE_BYTES))
        file.write(b'"}\n{"text": "after"}\n')
    kept = read(path, skip_bad=True)
    assert [example.request.id for example in kept.examples] == ["log:2"]
    assert kept.bad == (BadLine(str(path), 1, "longer than 64 MB"),)


def test_progress_ends_at_the_whole_file(tmp_path):
    path = file_of(tmp_path, b'{"text": "a"}\n' * 5_000)
    told: list[tuple[int, int]] = []
    read(path, progress=lambda done, total: told.append((done, total)))
    size = path.stat().st_size
    assert len(told) > 3 and told[-1] == (size, size)
    assert told == sorted(told)


def test_a_limit_reads_no_further(tmp_path):
    assert len(read(file_of(tmp_path, b'{"text": "a"}\n' * 3 + b"bad\n"), limit=3).examples) == 3


def named(tmp_path: Path, *tasks: str | None) -> Traffic:
    path = tmp_path / "Last Month.jsonl.gz"
    write(path, [{"text": "a", **({"task": task} if task else {})} for task in tasks])
    return read(path)


def test_a_task_is_chosen_from_the_lines_or_the_file(tmp_path):
    assert examples_of_task(named(tmp_path, None))[0] == "last-month"
    assert examples_of_task(named(tmp_path, None), "x")[0] == "x"
    assert examples_of_task(named(tmp_path, "a", "a", None))[0] == "a"
    name, examples = examples_of_task(named(tmp_path, "a", "b", "a"), "a")
    assert (name, len(examples)) == ("a", 2)
    with pytest.raises(DataError, match="holds 2 tasks: a, b; one was expected"):
        examples_of_task(named(tmp_path, "a", "b"))
    with pytest.raises(DataError, match="belongs to task 'c'"):
        examples_of_task(named(tmp_path, "a", "b"), "c")


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
def test_what_is_written_reads_back_and_is_the_same_each_time(tmp_path, name):
    records = [{"text": "ä\n", "answer": "A", "time": WHEN}, {"text": "b", "answer": {"x": 1}}]
    path = tmp_path / name
    assert write(path, records) == 2
    first = path.read_bytes()
    assert (first[:2] == b"\x1f\x8b") == name.endswith(".gz")
    examples = read(path).examples
    assert [(e.answer, e.time) for e in examples] == [("A", WHEN), ('{"x":1}', None)]
    write(path, iter(records))
    assert path.read_bytes() == first


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = file_of(tmp_path, b"old")

    def failing():
        yield {"text": "a"}
        raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write(path, failing())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("log.jsonl", b"old")]
    with pytest.raises(TrafficError, match="cannot be written"):
        write(tmp_path / "none" / "x.jsonl", [])


KEYS = st.sampled_from(
    "text messages answer label gold task time group model request response body input output ideal role content "
    "choices message usage prompt_tokens completion_tokens startTime traceId model_parameters created error".split()
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([CHAT, REPLY]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
SHAPED = st.dictionaries(KEYS, JSON, max_size=6).map(lambda value: json.dumps(value).encode())
QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@given(st.lists(SHAPED | st.binary(max_size=60), max_size=4), st.sampled_from([bytes, gzip.compress]),
       st.booleans(), st.integers(0, 30))  # fmt: skip
def test_any_bytes_give_traffic_or_a_refusal(tmp_path, lines, pack, skip_bad, cut):
    data = pack(b"\n".join(lines))
    path = file_of(tmp_path, data[: len(data) - cut] if cut > 20 else data)
    try:
        found = read(path, skip_bad=skip_bad)
    except TrafficError as error:
        assert str(path) in str(error)
        return
    assert len(found.examples) + found.skipped == found.lines
    assert skip_bad or not found.skipped
    for example in found.examples:
        assert example.request.messages
        assert all(message.text is None or isinstance(message.text, str) for message in example.request.messages)
        assert example.answer is None or isinstance(example.answer, str)
        assert example.time is None or example.time.tzinfo is UTC


@QUIET
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=10)), min_size=1, max_size=8), st.booleans())
def test_written_texts_and_answers_come_back_exactly(tmp_path, rows, zipped):
    path = tmp_path / ("t.jsonl.gz" if zipped else "t.jsonl")
    write(path, [{"text": text, "answer": answer} for text, answer in rows])
    found = [(e.request.messages[0].content, e.answer) for e in read(path).examples]
    assert found == [(text, answer if answer and not answer.isspace() else None) for text, answer in rows]


@pytest.mark.parametrize(
    ("line", "subject"),
    [
        ({"text": "hello", "answer": "a", "subject": "ada"}, "ada"),
        ({"text": "hello", "answer": "a", "user": "bob"}, "bob"),
        ({"text": "hello", "answer": "a", "user": "bob", "subject": "ada"}, "ada"),
        ({"text": "hello", "answer": "a", "headers": {"X-Insource-Subject": "eve"}}, "eve"),
        (
            {"request": {"messages": [{"role": "user", "content": "hi"}], "safety_identifier": "s"}, "response": "a"},
            "s",
        ),
        (
            {
                "request": {"messages": [{"role": "user", "content": "hi"}], "metadata": {"user_id": "m"}},
                "response": "a",
            },
            "m",
        ),
        ({"text": "hello", "answer": "a", "user": ""}, None),
        ({"text": "hello", "answer": "a"}, None),
    ],
)
def test_a_line_says_whom_it_is_about(tmp_path, line, subject):
    file = tmp_path / "lines.jsonl"
    file.write_text(json.dumps(line) + "\n")
    (example,) = read(file).examples
    assert example.request.subject == subject


def test_a_subject_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "lines.jsonl"
    file.write_text(json.dumps({"text": "hello", "answer": "a", "subject": 5}) + "\n")
    with pytest.raises(TrafficError, match="'subject' is a number; text was expected"):
        read(file)
