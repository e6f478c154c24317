"""A route's address as somebody writes it who wants it to be taken for another: path, host and origin in disguise.

It knows paths and headers; it knows neither the gateway's routes nor what is done about a disguise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a disguise makes of an address: the SAME one; ANOTHER that a careless server takes for it; one that LEAVES
    the API or no reader reads alike; or one that a web page of another machine asked for, a FOREIGN one.
    """

    SAME = "same"
    ANOTHER = "another"
    LEAVES = "leaves"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Disguise:
    """A way to write a target, and the headers that go with it; `host` None leaves the Host header out."""

    name: str
    kind: Kind
    target: Callable[[str], str] = lambda path: path
    host: str | None = "127.0.0.1"
    headers: tuple[tuple[str, str], ...] = ()


def _inside(path: str, between: str) -> str:
    """Put something in place of the last slash, if there is one."""
    head, slash, tail = path.rpartition("/")
    return f"{head}{between}{tail}" if slash else path


def _encoded(path: str) -> str:
    return f"{path[:-1]}%{ord(path[-1]):02x}"


def _paths(kind: Kind, **targets: Callable[[str], str]) -> tuple[Disguise, ...]:
    return tuple(Disguise(name.replace("_", " "), kind, target) for name, target in targets.items())


def _header(kind: Kind, name: str, *values: str) -> tuple[Disguise, ...]:
    return tuple(Disguise(f"{name}: {value}", kind, headers=((name, value),)) for value in values)


def _hosts(*hosts: str) -> tuple[Disguise, ...]:
    return tuple(Disguise(f"host: {host}", Kind.FOREIGN, host=host) for host in hosts)


PATHS = (
    *_paths(
        Kind.SAME, plain=lambda path: path, query=lambda path: path + "?x=/../..//metrics", an_encoded_letter=_encoded,
        absolute=lambda path: "http://127.0.0.1" + path, encoded_slash=lambda path: path[:1] + _inside(path[1:], "%2f"),
    ),
    *_paths(
        Kind.ANOTHER, slash_behind=lambda path: path + "/", slashes_behind=lambda path: path + "//",
        slash_inside=lambda path: _inside(path, "//"),
        parameter=lambda path: path + ";x=1", inner_parameter=lambda path: _inside(path, ";x=1/"),
        upper_case=lambda path: path[:4] + path[4:].upper(), upper_case_all=str.upper,
        encoded_twice=lambda path: _encoded(path).replace("%", "%25"), blank_behind=lambda path: path + "%20",
        blank_inside=lambda path: _inside(path, "/%20"), wide=lambda path: _inside(path, "%EF%BC%8F"),
        encoded_question=lambda path: path + "%3Fx=1", suffix=lambda path: path + ".json",
        dot_behind=lambda path: path + ".",
    ),
    *_paths(
        Kind.LEAVES, slash_before=lambda path: "/" + path, dot=lambda path: _inside(path, "/./"),
        up=lambda path: _inside(path, "/x/../"), up_from_the_api=lambda path: "/v1/.." + path,
        encoded_up=lambda path: "/v1/%2e%2e" + path, encoded_up_twice=lambda path: "/v1/%252e%252e" + path,
        up_with_parameter=lambda path: "/v1/..;x" + path, up_and_backslash=lambda path: "/v1/..\\" + path[1:],
        backslash=lambda path: _inside(path, "\\"), encoded_backslash=lambda path: _inside(path, "%5c"),
        nothing_behind=lambda path: path + "%00", new_line_behind=lambda path: path + "%0d%0ax: y",
        broken_encoding=lambda path: path + "%", overlong=lambda path: _inside(path, "%c0%af"),
        no_slash=lambda path: path[1:],
        fragment=lambda path: path + "%23/../metrics/..",
    ),
)  # fmt: skip
PLACES = (
    Disguise("no host", Kind.SAME, host=None),
    *_header(Kind.SAME, "x-forwarded-host", "evil.example"),
    *_header(Kind.SAME, "x-original-url", "/metrics", "/v1/files"),
    *_header(Kind.SAME, "x-rewrite-url", "/v1/models"),
    *_header(Kind.SAME, "x-http-method-override", "GET", "DELETE"),
    *_header(Kind.SAME, "origin", "http://localhost:3000"),
    *_hosts(
        "evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8600", "127.0.0.1@evil.example",
        "192.168.0.4:8600",
        "0.0.0.0:8600", "127.0.0.1#.evil.example", "127.0.0.1/.evil.example", "127.0.0.1?evil.example",
        "127.0.0.1\\evil.example",
        "127.0.0.1, evil.example", "[::1].evil.example", "2130706433.evil.example", "evil.example\t", "",
    ),
    Disguise("two hosts", Kind.FOREIGN, headers=(("host", "evil.example"),)),
    Disguise("absolute, foreign", Kind.FOREIGN, lambda path: "http://evil.example" + path),
    Disguise("absolute, foreign behind a name", Kind.FOREIGN, lambda path: "http://127.0.0.1@evil.example:8600" + path),
    *_header(
        Kind.FOREIGN, "origin", "https://evil.example", "null", "http://127.0.0.1.evil.example", "http://localhost@evil.example",
        "http://127.0.0.1, https://evil.example", "http://127.0.0.1 https://evil.example", "file://",
        "chrome-extension://abc", "",
    ),
    *_header(Kind.FOREIGN, "sec-fetch-site", "cross-site"),
)  # fmt: skip
DISGUISES: tuple[Disguise, ...] = (*PATHS, *PLACES)
