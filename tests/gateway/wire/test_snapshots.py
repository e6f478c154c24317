"""What accepted answers look like on the wire, byte for byte, against the files in `snapshots`.

`INSOURCE_RENEW_SNAPSHOTS=1 pytest tests/gateway/wire` writes them anew; read the difference before you commit it.
"""

import json
import os
from pathlib import Path

import anthropic.types
import pydantic
import pytest
from openai.types import Completion, ModerationCreateResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from insource.gateway.wire import render
from insource.types import Answer, Request

FOLDER = Path(__file__).parent / "snapshots"
RENEW = "INSOURCE_RENEW_SNAPSHOTS"
CONTENT = '{"label": "é \U0001f600"}'
OFFICIAL = """harassment harassment/threatening hate hate/threatening illicit illicit/violent self-harm
self-harm/instructions self-harm/intent sexual sexual/minors violence violence/graphic""".split()

SAID = Answer("specialist:triage@1", CONTENT, label="é", score=0.875)
UNSAFE = Answer("specialist:m@1", "toxic", label="toxic", probabilities={"safe": 0.25, "toxic": 0.625, "spam": 0.125})
SAFE = Answer("specialist:m@1", "safe", label="safe", probabilities={"safe": 0.75, "toxic": 0.125, "spam": 0.125})
VIOLENT = Answer("s", "violence", label="violence", probabilities={"ok": 0.0, **dict.fromkeys(OFFICIAL, 0.0625)})
HOUSE = Answer("vllm", "toxic", label="toxic", score=0.5)

ECHO = {
    "instructions": "Say yes or no.",
    "metadata": {"team": "é"},
    "temperature": 0,
    "top_p": 0.5,
    "max_output_tokens": 64,
    "text": {"format": {"type": "text"}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "user": "u",
    "store": False,
}


def asked(dialect, stream=False, **fields):
    return Request("abc", (), "gpt-x", fields, stream=stream, dialect=dialect)


USAGE = {"stream_options": {"include_usage": True}}
CASES = {
    "chat.json": (asked("chat"), SAID),
    "chat_stream.txt": (asked("chat", True), SAID),
    "chat_stream_usage.txt": (asked("chat", True, **USAGE), SAID),
    "completions.json": (asked("completions"), SAID),
    "completions_stream.txt": (asked("completions", True), SAID),
    "completions_stream_usage.txt": (asked("completions", True, **USAGE), SAID),
    "responses.json": (asked("responses"), SAID),
    "responses_echo.json": (asked("responses", **ECHO), SAID),
    "responses_stream.txt": (asked("responses", True), SAID),
    "messages.json": (asked("messages"), SAID),
    "messages_stream.txt": (asked("messages", True), SAID),
    "moderations_flagged.json": (asked("moderations"), UNSAFE),
    "moderations_safe.json": (asked("moderations"), SAFE),
    "moderations_official.json": (asked("moderations"), VIOLENT),
    "moderations_tier.json": (asked("moderations"), HOUSE),
}
WHOLE = {
    "chat": ChatCompletion,
    "completions": Completion,
    "responses": Response,
    "messages": anthropic.types.Message,
    "moderations": ModerationCreateResponse,
}
EVENT = {
    "chat": ChatCompletionChunk,
    "completions": Completion,
    "responses": pydantic.TypeAdapter(ResponseStreamEvent),
    "messages": pydantic.TypeAdapter(anthropic.types.RawMessageStreamEvent),
}


def rendered(name):
    request, answer = CASES[name]
    return b"".join(render(request, answer, 1700000000, ("safe", "ok")))


def differs(found, path):
    """Whether what is rendered is not what stands in the file."""
    return not path.exists() or path.read_bytes() != found


@pytest.mark.parametrize("name", CASES)
def test_what_is_rendered_is_what_was_recorded(name):
    if os.environ.get(RENEW):
        (FOLDER / name).write_bytes(rendered(name))
    assert not differs(rendered(name), FOLDER / name), f"{name} changed; {RENEW}=1 writes it anew"


def test_a_change_of_one_byte_is_seen(tmp_path):
    path = tmp_path / "chat.json"
    assert differs(rendered("chat.json"), path)
    path.write_bytes(rendered("chat.json").replace(b"stop", b"stoP"))
    assert differs(rendered("chat.json"), path)


def test_every_file_is_a_case():
    assert {path.name for path in FOLDER.iterdir()} == CASES.keys()


def events_of(data):
    """The events of a stream: the name where it has one, and the data."""
    for block in data.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        yield lines.get("event"), lines["data"]


def strictly(kind, text):
    validate = kind.validate_python if isinstance(kind, pydantic.TypeAdapter) else kind.model_validate
    return validate(json.loads(text))


UNOFFICIAL = {"moderations_flagged.json", "moderations_safe.json", "moderations_tier.json"}


@pytest.mark.parametrize("name", sorted(CASES.keys() - UNOFFICIAL))
def test_every_snapshot_is_what_the_official_clients_types_ask_for(name):
    dialect, data = CASES[name][0].dialect, (FOLDER / name).read_bytes()
    if name.endswith(".json"):
        strictly(WHOLE[dialect], data)
        return
    events = list(events_of(data))
    if dialect in ("chat", "completions"):
        assert events.pop() == (None, "[DONE]")
        assert {name for name, _ in events} == {None}
    for named, text in events:
        if named != "ping":  # the client skips it, and has no type for it
            found = strictly(EVENT[dialect], text)
            assert named is None or found.type == named


def test_the_types_refuse_what_is_not_theirs():
    data = json.loads((FOLDER / "chat.json").read_bytes())
    del data["choices"][0]["finish_reason"]
    with pytest.raises(pydantic.ValidationError):
        strictly(ChatCompletion, json.dumps(data))


@pytest.mark.parametrize("name", sorted(UNOFFICIAL))
def test_categories_of_ones_own_are_read_as_leniently_as_the_client_reads_them(name):
    data = json.loads((FOLDER / name).read_bytes())
    (result,) = ModerationCreateResponse.construct(**data).results
    assert result.flagged is (name != "moderations_safe.json")
    assert set(data["results"][0]["categories"]) == ({"toxic"} if "tier" in name else {"toxic", "spam"})


def test_a_moderation_says_which_answer_it_was_and_how_probable_each():
    (result,) = json.loads(rendered("moderations_flagged.json"))["results"]
    assert result["categories"] == {"toxic": True, "spam": False}
    assert result["category_scores"] == {"toxic": 0.625, "spam": 0.125}
    (safe,) = json.loads(rendered("moderations_safe.json"))["results"]
    assert (safe["flagged"], safe["categories"]) == (False, {"toxic": False, "spam": False})


def test_a_moderation_without_a_model_names_what_answered():
    request = Request("abc", (), "", dialect="moderations")
    assert json.loads(render(request, UNSAFE, 0)[0])["model"] == "specialist:m@1"


@pytest.mark.parametrize("dialect", ["chat", "completions", "responses", "messages"])
def test_no_tokens_are_ever_counted(dialect):
    usage = json.loads(rendered(f"{dialect}.json"))["usage"]
    counts = [count for value in usage.values() for count in (value.values() if isinstance(value, dict) else [value])]
    assert len(counts) >= 3 and set(counts) == {0}


def test_the_numbers_of_a_responses_events_rise_by_one():
    numbers = [json.loads(text)["sequence_number"] for _, text in events_of(rendered("responses_stream.txt"))]
    assert numbers == list(range(9))
