"""What the gateway's log says, as text or as one JSON object a line, and what it never says: a word of a request.

It knows log records and exceptions. A foreign exception may quote what it choked on, so of those only the type and the
place are told; of a foreign library's message only what is a constant of that library.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from insource.errors import InsourceError

FIELDS = ("request_id", "task", "outcome", "reason", "status", "ms", "upstream", "version", "code")
"""What may be given in `extra`; anything else given there is left out."""

DEEPEST = 20
WITHHELD = "message withheld, it may quote a request"
_OWN = "insource"
_TEMPLATES = ("asyncio", "opentelemetry", "uvicorn")
"""Libraries that log constant templates with arguments: the template is told, the arguments are not."""

_CONSTANTS = (
    "ASGI callable returned without",
    "Application shutdown failed",
    "Application startup failed",
    "Exception in ASGI application",
    "Exception in callback",
    "Exceeded concurrency limit",
    "Fatal error on transport",
    "Fatal read error on socket transport",
    "Fatal write error on socket transport",
    "Future exception was never retrieved",
    "Invalid HTTP request received",
    "Task exception was never retrieved",
    "Task was destroyed but it is pending",
    "Unhandled exception in event loop",
    "socket.accept() out of system resource",
    "socket.send() raised exception",
)
"""How messages of those libraries begin that are put together before they are logged; the rest of them is left out."""


def configure_logs(kind: str, stream: TextIO | None = None) -> None:
    """Send every logger of this process to `stream` (default: standard error), as "text" or "json", from WARNING on.

    Takes away the handlers that others have set, uvicorn's among them (its own `log_config` must be None, else it sets
    them again), and takes over what would be printed of exceptions in threads and finalisers.
    """
    handler = logging.StreamHandler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonLines() if kind == "json" else PlainLines())
    for name in list(logging.root.manager.loggerDict):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # else a record that cannot be written is printed with its arguments
    threading.excepthook = _thread_failed
    sys.unraisablehook = _not_raised


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event, then those of FIELDS that are known, then the error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "event": event_of(record),
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= error_of(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=_unknown)


class PlainLines(logging.Formatter):
    """Time, level and event, the known fields, and the error with its places below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines, without the last one's end."""
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        told = f"{_when(record)} {record.levelname} {' '.join(event_of(record).split())}{fields}"
        if record.exc_info and record.exc_info[1] is not None:
            error = error_of(record.exc_info[1])
            message = f": {' '.join(error['message'].split())}" if "message" in error else ""
            told += f"\n  {error['error']}{message}" + "".join(f"\n    at {place}" for place in error["at"])
        return told


def event_of(record: logging.LogRecord) -> str:
    """Return what happened: our own message, what is constant of a foreign one, or that it is withheld."""
    if record.name == _OWN or record.name.startswith(_OWN + "."):
        return _own_message(record)
    place = f"{record.filename}:{record.lineno}"
    if record.name.partition(".")[0] not in _TEMPLATES or not isinstance(record.msg, str):
        return f"{record.name} at {place}: {WITHHELD}"
    if record.args:
        return f"{record.name} at {place}: {' '.join(record.msg.split())}"
    known = next((constant for constant in _CONSTANTS if record.msg.startswith(constant)), WITHHELD)
    return f"{record.name} at {place}: {known}"


def error_of(error: BaseException) -> dict[str, Any]:
    """Return an exception as type, places (innermost first) and, where it is one of ours, its message."""
    found: dict[str, Any] = {"error": type(error).__name__}
    if isinstance(error, InsourceError):
        found["message"] = str(error)
    return found | {"at": _places(error.__traceback__)}


def _when(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _own_message(record: logging.LogRecord) -> str:
    """Return our message; foreign exceptions among its arguments are told by their type."""
    args = record.args
    if isinstance(args, Mapping):
        args = {name: _told(value) for name, value in args.items()}
    elif args:
        args = tuple(_told(value) for value in args)
    text = str(_told(record.msg))
    try:
        return text % args if args else text
    except (TypeError, ValueError, KeyError):
        return f"{text} (its arguments do not fit)"


def _told(value: object) -> object:
    foreign = isinstance(value, BaseException) and not isinstance(value, InsourceError)
    return type(value).__name__ if foreign else value


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}


def _places(trace: TracebackType | None) -> list[str]:
    places: list[str] = []
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}")
        trace = trace.tb_next
    return places[::-1][:DEEPEST]


def _unknown(value: object) -> str:
    return type(value).__name__


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_type is not SystemExit and failed.exc_value is not None:
        error = failed.exc_value
        logging.getLogger(__name__).error(
            "a thread ended with an exception", exc_info=(type(error), error, failed.exc_traceback)
        )


def _not_raised(failed: Any) -> None:
    error = failed.exc_value
    if error is not None:
        logging.getLogger(__name__).error(
            "an exception had nowhere to go", exc_info=(type(error), error, failed.exc_traceback)
        )
