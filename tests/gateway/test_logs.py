"""The log: one object a line, and never a word of a request, whoever raises or logs it."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

import insource
from insource.errors import StoreError
from insource.gateway.logs import JsonLines, PlainLines, error_of, event_of

CANARY = "canary-7f3a"


def record(message, *args, name="insource.gateway.gateway", error=None, **extra):
    info = (type(error), error, error.__traceback__) if error is not None else None
    made = logging.LogRecord(name, logging.ERROR, "/x/gateway.py", 7, message, args, info)
    for key, value in extra.items():
        setattr(made, key, value)
    return made


def raised(error, cause=None):
    try:
        raise error from cause
    except type(error) as caught:
        return caught


def test_a_line_is_one_json_object_with_the_known_fields_only():
    extra = {"request_id": "r-1", "task": "triage", "status": 200, "ms": 1.5, "text": CANARY, "reason": None}
    line = JsonLines().format(record("%s is not served: %s", "triage@3", "damaged", **extra))
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("time").startswith("20")
    assert told == {
        "level": "error", "event": "triage@3 is not served: damaged", "logger": "insource.gateway.gateway",
        "request_id": "r-1", "task": "triage", "status": 200, "ms": 1.5,
    }  # fmt: skip


@pytest.mark.parametrize("formatter", [JsonLines(), PlainLines()])
def test_a_foreign_exception_is_told_by_type_and_place_ours_by_its_message(formatter):
    line = formatter.format(record("it failed", error=raised(ValueError(f"cannot read {CANARY!r}"))))
    assert "ValueError" in line and "test_logs.py" in line and "in raised" in line
    assert CANARY not in line
    own = raised(StoreError("ledger.db is gone"), ValueError(CANARY))
    line = formatter.format(record("it failed", error=own))
    assert "StoreError" in line and "ledger.db is gone" in line
    assert CANARY not in line


def test_the_standard_formatter_would_have_told_it():
    """The control: what is planted does reach a formatter that is not ours."""
    assert CANARY in logging.Formatter().format(record("it failed", error=raised(ValueError(CANARY))))
    assert CANARY in logging.Formatter().format(record("failed: %s", ValueError(CANARY)))


@pytest.mark.parametrize("message", ["failed: %s", "failed: %(error)s"])
def test_a_foreign_exception_given_as_an_argument_is_told_by_its_type(message):
    args = ({"error": ValueError(CANARY)},) if "(" in message else (ValueError(CANARY),)
    assert event_of(record(message, *args)) == "failed: ValueError"
    assert event_of(record(ValueError(CANARY))) == "ValueError"
    assert event_of(record("failed: %s", StoreError("full"))) == "failed: full"


def test_arguments_that_do_not_fit_are_not_told():
    assert event_of(record("%d rows", CANARY)) == "%d rows (its arguments do not fit)"
    assert event_of(record("rows", CANARY)) == "rows (its arguments do not fit)"


FOREIGN = [
    ("asyncio", f"Task exception was never retrieved\nfuture: <Task exception=ValueError('{CANARY}')>", (),
     "Task exception was never retrieved"),
    ("asyncio", f"Exception in callback received(b'{CANARY}')", (), "Exception in callback"),
    ("asyncio", f"Something new about {CANARY}", (), "message withheld, it may quote a request"),
    ("uvicorn.error", "Exception in ASGI application\n", (), "Exception in ASGI application"),
    ("uvicorn.error", "%s - dropped %d", (CANARY, 3), "%s - dropped %d"),
    ("somebody.else", "dropped %s", (CANARY,), "message withheld, it may quote a request"),
    ("somebody.else", f"Exception in callback {CANARY}", (), "message withheld, it may quote a request"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "message", "args", "told"), FOREIGN)
def test_of_a_foreign_message_only_what_is_constant_is_told(name, message, args, told):
    event = event_of(record(message, *args, name=name))
    assert event == f"{name} at gateway.py:7: {told}"


def test_a_text_line_cannot_be_forged_by_a_line_break():
    lines = PlainLines().format(record("one\n2026-01-01 ERROR two", request_id="r-1"))
    assert lines.count("\n") == 0 and lines.endswith("ERROR one 2026-01-01 ERROR two request_id=r-1")


def test_the_places_are_the_innermost_and_few():
    def dig(depth):
        return dig(depth - 1) if depth else int(CANARY)

    with pytest.raises(ValueError) as caught:
        dig(50)
    found = error_of(caught.value)
    assert found["error"] == "ValueError" and len(found["at"]) == 20
    assert all(" in dig" in place for place in found["at"])


PROGRAM = """
import asyncio, logging, sys, threading, warnings, uvicorn
from insource.errors import StoreError
from insource.gateway.logs import configure_logs

CANARY = "canary-" + "7f3a"
async def app(scope, receive, send):
    raise ValueError(CANARY)
uvicorn.Config(app)  # sets handlers of its own
kind = sys.argv[1]
if kind in ("json", "text"):
    configure_logs(kind)
else:
    logging.basicConfig(format="%(message)s", force=True)

def fail():
    raise ValueError(CANARY)

class Unclean:
    def __del__(self):
        fail()

class Unprintable:
    def __str__(self):
        fail()

async def main():
    asyncio.get_running_loop().call_soon(fail)
    job = asyncio.ensure_future(asyncio.to_thread(fail))
    await asyncio.wait((job,))
    del job

try:
    fail()
except ValueError as error:
    logging.getLogger("insource.gateway.gateway").exception("broken", extra={"task": "triage"})
    logging.getLogger("uvicorn.error").error("Exception in ASGI application\\n", exc_info=error)
    logging.getLogger("insource.x").warning("%s", StoreError("ledger.db is gone"))
asyncio.run(main())
thread = threading.Thread(target=fail)
thread.start()
thread.join()
Unclean()
warnings.warn(CANARY)
logging.getLogger("insource.x").warning("%s", Unprintable())
logging.getLogger("insource.x").info("nobody asked")
"""


def log_of(kind, **environment):
    env = {**os.environ, "PYTHONPATH": str(Path(insource.__file__).parents[1]), "PYTHONWARNINGS": "default"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind], env=env | environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout == "", done.stderr
    return done.stderr


def test_everything_a_process_may_say_goes_through_it_as_json():
    log = log_of("json")
    lines = [json.loads(line) for line in log.splitlines()]
    assert CANARY not in log
    assert [line["logger"] for line in lines].count("asyncio") == 2  # a callback, and a job nobody waited for
    assert {"uvicorn.error", "insource.gateway.gateway", "insource.gateway.logs", "py.warnings"} <= {
        line["logger"] for line in lines
    }
    assert sum(line.get("error") == "ValueError" for line in lines) == 6
    first = lines[0]
    assert (first["event"], first["error"], first["task"]) == ("broken", "ValueError", "triage")
    assert {"level": "warning", "event": "ledger.db is gone"}.items() <= lines[2].items()
    assert not any("nobody asked" in line["event"] for line in lines)


def test_everything_a_process_may_say_goes_through_it_as_text():
    log = log_of("text")
    assert CANARY not in log
    assert "ERROR broken task=triage\n  ValueError\n    at " in log


def test_without_it_the_same_process_tells_what_was_planted():
    """The control: every path above does lead out."""
    log = log_of("none")
    assert log.count(CANARY) >= 6
