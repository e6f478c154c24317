"""Requests that a well-behaved client would not send, for every endpoint and dialect, and mutants of their bodies.

Fields come from the table of what specialists can honour, so that a new field is tried without a word here. It sends
nothing, and draws everything from the random source it is given.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from insource.cascade.honoured import HONOURED, NOTHING
from insource.gateway.app import API, REVIEWS
from insource.gateway.wire import DIALECTS
from reliability.mutants import mutant
from reliability.served import TASKS

DEEP = 2_000
LONG = 40_000
WORD = re.compile(rb"[A-Za-z_]{2,}|-?[0-9]+")
WORDS = (
    b"", b"0", b"1", b"-1", b"1e9", b"99999999999999999999999", b"true", b"null", b"user", b"system", b"stream",
    b"model", b"messages",
    b"content", b"type", b"text", b"input", b"\\u0000", b"\\ud83d", b"\\ud83d\\ude00", b"\xc3\xa9",
    b"\xf0\x9f\xa7\xbe", b"A" * 5_000,
)  # fmt: skip
TOO_LONG = 2**20 + 1
"""A byte more than a served gateway takes."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
TEXTS = (
    "where is my card", "refund", "", " ", "\0", "\x7f\x1b[31m", "\r\n\r\nGET /v1/models HTTP/1.1\r\n\r\n", "\ud83d",
    "\U0001f9fe",
    "'; DROP TABLE decisions;--", "{{7*7}}", "${jndi:ldap://127.0.0.1}", "../../etc/passwd", "\u202e\u0000\ufeff",
    "e\u0301" * 50,
    "task:triage", "task:", "task:nobody", "null", "NaN", "yes",
)  # fmt: skip
NUMBERS = (
    0, -0.0, 1, -1, 0.5, 2, 1e-320, 1.7976931348623157e308, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 2**64, 10**30,
    10**400,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A request; `dialect` is the one that its body is read in, None where it is read in none."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    dialect: str | None
    chunked: bool = False

    @property
    def hopeless(self) -> bool:
        """Whether the body is read and is no JSON object (RFC 8259), so that nobody may be asked."""
        return self.dialect is not None and is_no_object(self.body)

    def wire(self) -> bytes:
        """Return the bytes to send."""
        lines = [
            f"{self.method} {self.target} HTTP/1.1",
            "host: 127.0.0.1",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        if self.chunked:
            pieces = [self.body[at : at + 1_000] for at in range(0, len(self.body), 1_000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            lines.append("transfer-encoding: chunked")
        else:
            body = self.body
            lines.append(f"content-length: {len(body)}")
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def is_no_object(body: bytes) -> bool:
    """Say whether bytes are certainly no JSON object; numbers of any size are JSON, NaN and a byte-order mark are
    not."""
    try:
        found = json.loads(body.decode(), parse_constant=_no_number, parse_int=str, parse_float=str)
    except RecursionError:  # too deep for this reader; the gateway may go deeper
        return False
    except ValueError:
        return True
    return not isinstance(found, dict)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def generated(chance: random.Random) -> Asked:
    """Return a request to an endpoint, mostly one that reads a dialect."""
    if chance.random() < 0.15:
        return _elsewhere(chance)
    path, dialect = chance.choice(list(DIALECTS.items()))
    return Asked("POST", path + _query(chance), _headers(chance), _encoded(_fields(dialect, chance), chance), dialect,
                 chance.random() < 0.1)  # fmt: skip


def mutated(chance: random.Random) -> Asked:
    """Return a request whose body was one of a dialect's before bytes of it were changed."""
    path, dialect = chance.choice(list(DIALECTS.items()))
    body = json.dumps(_fields(dialect, chance, odd=0.1), ensure_ascii=chance.random() < 0.5).encode(
        "utf-8", "surrogatepass"
    )
    changed = mutant(body, chance) if chance.random() < 0.5 else _retold(body, chance)
    return Asked("POST", path, (("content-type", "application/json"),), changed, dialect, chance.random() < 0.1)


def _retold(body: bytes, chance: random.Random) -> bytes:
    """Change words and numbers and leave the marks between them, so that most of it still reads as JSON."""
    changed = bytearray(body)
    for _ in range(chance.choice((1, 1, 2, 5))):
        found = chance.choice(list(WORD.finditer(changed[:200_000])) or [None])
        if found is not None:
            changed[found.start() : found.end()] = chance.choice(WORDS)
    return bytes(changed)


def _elsewhere(chance: random.Random) -> Asked:
    """Return a request to a path that reads no body."""
    target = chance.choice(
        ("/v1/models", "/healthz", "/readyz", "/metrics", REVIEWS, REVIEWS + _token(chance), API, API + _token(chance),
         "/" + _token(chance), *DIALECTS)
    ) + _query(chance)  # fmt: skip
    body = chance.choice((b"", b"", b"{}", chance.randbytes(chance.choice((1, 300, 70_000)))))
    return Asked(chance.choice(METHODS), target, _headers(chance), body, None, chance.random() < 0.1)


def _token(chance: random.Random) -> str:
    return chance.choice(
        (
            "x",
            "%00",
            "%ff",
            "%2e%2e/",
            "..",
            "a" * 3_000,
            "%E2%80%AE",
            ";",
            "'",
            "files/a%20b",
            "insource/",
            "%25",
            "a//b",
            "*",
        )
    )


def _query(chance: random.Random) -> str:
    return chance.choice(("",) * 12 + ("?", "?a=b", "?%00=%ff", "?" + "a" * 3_000, "?a=b?c=/../", "?x=%0d%0aX:y"))


def _headers(chance: random.Random) -> tuple[tuple[str, str], ...]:
    found = [
        ("content-type", chance.choice(("application/json", "text/plain", "", "multipart/form-data; boundary=\xff")))
    ]
    odd: tuple[tuple[str, Callable[[], str]], ...] = (
        ("x-insource-task", lambda: chance.choice((*TASKS, "nobody", "\xe9", "triage, best", ""))),
        ("x-insource-sensitivity", lambda: chance.choice(("public", "restricted", "RESTRICTED", "none", "\xff", ""))),
        ("authorization", lambda: chance.choice(("Bearer x", "Bearer " + "y" * 5_000, "\xff", "", "Basic Og=="))),
        ("accept-encoding", lambda: chance.choice(("gzip", "br;q=1, *;q=0", "identity;q=0", "\xff"))),
        ("content-encoding", lambda: chance.choice(("gzip", "identity", "br"))),
        ("traceparent", lambda: chance.choice(("00-" + "0" * 32 + "-" + "0" * 16 + "-01", "00-\xff", "x" * 500))),
        ("connection", lambda: chance.choice(("keep-alive", "x-insource-task", "host, content-length"))),
        ("expect", lambda: chance.choice(("100-continue", "200-ok"))),
        ("cookie", lambda: "a=" + "b" * chance.choice((1, 5_000))),
        ("x-" + "n" * chance.choice((1, 1_000)), lambda: chance.choice(("\t\t", "\xff" * 100, "a, b", '"'))),
        ("accept", lambda: chance.choice(("text/event-stream", "*/*", "nonsense"))),
    )
    for name, value in odd:
        if chance.random() < 0.07:
            found += [(name, value())] * chance.choice((1, 1, 1, 2, 40))
    return tuple(found)


def _fields(dialect: str, chance: random.Random, odd: float = 0.35) -> dict[str, Any]:
    """Return fields of a dialect: a conversation for a task, some further fields, and some that are not as they
    should be."""
    fields: dict[str, Any] = {"model": chance.choice(("gpt-4o", *(f"task:{name}" for name in TASKS), "task:triage")),
                              **_conversation(dialect, chance)}  # fmt: skip
    honoured = HONOURED.get(dialect, NOTHING)
    names = sorted({*honoured.always, *honoured.within} - fields.keys()) + ["unheard_of", "", "model"]
    for name in chance.sample(names, min(len(names), chance.choice((0, 1, 2, 6)))):
        fields[name] = _plausible(name, chance)
    if chance.random() < odd:
        for name in chance.sample(sorted(fields), min(len(fields), chance.choice((1, 1, 2, 4)))):
            fields[name] = _damaged(fields[name], chance)
    if chance.random() < 0.3:
        fields["stream"] = True
    if chance.random() < 0.05:
        for name in chance.sample(sorted(fields), 1):
            del fields[name]
    return fields


def _conversation(dialect: str, chance: random.Random) -> dict[str, Any]:
    text = chance.choice((*TEXTS, "card " * chance.choice((1, 20, 2_000))))
    role = chance.choice(("user",) * 6 + ("system", "assistant", "tool", "", "\ud83d"))
    turns = [{"role": role, "content": chance.choice((text, [{"type": "text", "text": text}]))}]
    if chance.random() < 0.5:
        turns.insert(0, {"role": "system", "content": chance.choice(("Say what it is about.", text))})
    turns *= chance.choice((1, 1, 1, 3, 200))
    if dialect == "messages":
        return {"messages": turns, "system": chance.choice((text, [{"type": "text", "text": text}])), "max_tokens": 99}
    if dialect == "responses":
        return {"input": chance.choice((text, turns)), "instructions": text}
    if dialect in ("moderations", "embeddings"):
        return {"input": chance.choice((text, [text], [text, text], [{"type": "text", "text": text}], [1, 2]))}
    return (
        {"prompt": chance.choice((text, [text], [1, 2])), "max_tokens": 99}
        if dialect == "completions"
        else {"messages": turns}
    )


def _plausible(name: str, chance: random.Random) -> Any:
    if name == "stream_options":
        return {"include_usage": chance.choice((True, False, None, 1))}
    if "format" in name or name in ("text", "output_config"):
        form = {
            "type": chance.choice(("text", "json_object", "json_schema")),
            "json_schema": {"name": "x", "schema": _value(chance, 2)},
        }
        return chance.choice((form, {"format": form}))
    return chance.choice((None, None, True, False, 0, 1, 64, 0.7, "auto", "none", [], {}, ["x"], {"a": "b"}))


def _damaged(value: Any, chance: random.Random) -> Any:
    """Return another value: of another type, nested, or with something inside it damaged."""
    if isinstance(value, list) and value and chance.random() < 0.5:
        at = chance.randrange(len(value))
        return [*value[:at], _damaged(value[at], chance), *value[at + 1 :]]
    if isinstance(value, dict) and value and chance.random() < 0.7:
        key = chance.choice(sorted(value, key=str))
        return {**value, key: _damaged(value[key], chance)}
    return _value(chance, 3)


def _value(chance: random.Random, depth: int) -> Any:
    """Return any JSON value."""
    kind = chance.randrange(9 if depth else 6)
    if kind < 3:
        return chance.choice((None, True, False, chance.choice(NUMBERS), chance.choice(NUMBERS)))
    if kind < 6:
        return chance.choice(TEXTS) if chance.random() < 0.95 else chance.choice("xé\0") * LONG
    if kind == 6:
        return [_value(chance, depth - 1) for _ in range(chance.choice((0, 1, 2, 5)))]
    if kind == 7:
        return {chance.choice(TEXTS): _value(chance, depth - 1) for _ in range(chance.choice((0, 1, 2, 5)))}
    value: Any = chance.choice(TEXTS)
    for _ in range(chance.choice((3, 60, 300))):
        value = chance.choice(([value], {"a": value}))
    return value


def _encoded(fields: dict[str, Any], chance: random.Random) -> bytes:
    """Return the fields as JSON; sometimes in another encoding, with NaN, twice the same key, or no object at all."""
    kind = chance.randrange(40)
    text = json.dumps(fields, ensure_ascii=chance.random() < 0.6)
    body = text.encode("utf-8", "surrogatepass")
    odd: dict[int, Callable[[], bytes]] = {
        0: lambda: text.encode("utf-16", "surrogatepass"),
        1: lambda: b"\xef\xbb\xbf" + body,
        2: lambda: body[:-1] + b',"model":NaN}',
        3: lambda: body[:-1] + b',"model":"task:best","model":"task:triage"}',
        4: lambda: b"[" * DEEP + b"]" * DEEP,
        5: lambda: body[:-1] + b',"deep":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}",
        6: lambda: chance.choice((b"", b" ", b"null", b"[]", b"0", b'"x"', b"{", b"{}{}", b"true", b"\0")),
        7: lambda: body + b" " * TOO_LONG if chance.random() < 0.2 else body + b"\r\n\t ",
        8: lambda: b" \n\t" + body,
        9: lambda: body[:-1] + b',"n":' + b"9" * 5_000 + b"}",
        10: lambda: body[:-1] + b',"n":1e999999}',
    }
    return odd.get(kind, lambda: body)()
