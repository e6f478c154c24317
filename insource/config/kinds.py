"""The kinds of values a setting can have: how each is checked, and how it is read from the environment.

It knows single values; no key, no section and no file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"(?i:(Bearer\s+)?"
    r"(sk-|sk_|pk-|rk_|gsk_|hf_|xai-|ghp_|github_pat_|glpat-|AKIA|AIza|xox[abprs]-|eyJ)[\w.+/=-]{6,})"
    r"|(?i:Bearer|Basic)\s+\S{8,}"
    r"|is-[0-9A-Za-z]{51}"  # this gateway's own
    r"|[0-9a-fA-F]{32}"  # keys that begin like nothing, such as Azure's, old and new
    r"|(?=[^0-9]*[0-9])(?=[^A-Z]*[A-Z])(?=[^a-z]*[a-z])[A-Za-z0-9]{40,}"
)
_WORD = re.compile(r"[\w.+~-]+")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: its name, what is expected in words, how to check a TOML value, and how to read a text first.

    `check` returns the value as the models hold it; both raise ValueError where it is not of the kind.
    """

    name: str
    expected: str
    check: Callable[[Any], Any]
    from_text: Callable[[str], Any] = str

    def mapped(self, to: Callable[[Any], Any]) -> Kind:
        """Return the kind whose checked values are passed through `to`."""
        return replace(self, check=lambda value: to(self.check(value)))


def integer(low: int, high: int) -> Kind:
    """A whole number from low to high."""

    def check(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise ValueError
        return value

    return Kind("integer", f"a whole number from {low:,} to {high:,}", check, int)


def number(low: float, high: float, *, low_open: bool = False, high_open: bool = False) -> Kind:
    """A number from low to high; an open end does not belong to the range."""

    def check(value: Any) -> float:
        found = float(_finite(value))
        inside = (low < found or (low == found and not low_open)) and (
            found < high or (found == high and not high_open)
        )
        if not inside:
            raise ValueError
        return found

    below = f"below {high:,g}" if high_open else f"at most {high:,g}"
    return Kind("number", f"a number {'above' if low_open else 'of at least'} {low:,g} and {below}", check, _decimal)


def money() -> Kind:
    """An amount of at least 0, exact."""

    def check(value: Any) -> Decimal:
        amount = _finite(value)
        if amount < 0:
            raise ValueError
        return amount

    return Kind("amount", "an amount of at least 0, such as 0.15", check, _decimal)


def choice(*options: str) -> Kind:
    """One of a few words."""
    return _text("choice", f"one of {', '.join(repr(option) for option in options)}", lambda text: text in options)


def text(name: str, expected: str, pattern: str) -> Kind:
    """Text that matches a pattern as a whole."""
    compiled = re.compile(pattern, re.DOTALL)
    return _text(name, expected, lambda value: compiled.fullmatch(value) is not None)


def variable() -> Kind:
    """The name of an environment variable."""
    return _text("variable", "the name of an environment variable, such as OPENAI_API_KEY",
                 lambda value: _VARIABLE.fullmatch(value) is not None and not looks_secret(value))  # fmt: skip


def texts(expected: str, *, or_none: bool = False) -> Kind:
    """One text or a list of texts, none of them empty; held as a tuple without doubles.

    An empty list is refused, as nobody could tell "none" from "not set", unless `or_none` gives it that meaning.
    """

    def check(value: Any) -> tuple[str, ...]:
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not (found or or_none):
            raise ValueError
        if not all(isinstance(item, str) and item for item in found):
            raise ValueError
        return tuple(dict.fromkeys(found))

    return Kind("text or list", expected, check)


def weights() -> Kind:
    """One name, a list of names (each after the first only steps in on failure), or a table of names and weights.

    Held as a tuple of names and weights, each at most 1,000,000; a weight of 0 means on failure only.
    """

    def check(value: Any) -> tuple[tuple[str, float], ...]:
        if isinstance(value, dict):
            found = tuple((name, float(_finite(weight))) for name, weight in value.items())
            if not all(0 <= weight <= 1e6 for _, weight in found) or not any(weight > 0 for _, weight in found):
                raise ValueError
        else:
            names = [value] if isinstance(value, str) else value
            if not isinstance(names, list) or len(set(map(str, names))) != len(names):
                raise ValueError
            found = tuple((name, 0.0 if place else 1.0) for place, name in enumerate(names))
        if not found or not all(isinstance(name, str) and NAME.fullmatch(name) for name, _ in found):
            raise ValueError
        return found

    return Kind("upstreams", "an upstream's name, a list of names in the order of fallback, or a table of names and "
                "weights such as { first = 3, second = 1 }", check)  # fmt: skip


def pairs(expected: str) -> Kind:
    """A table of header names and texts; held as pairs with the names in small letters."""

    def check(value: Any) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict) or not value:
            raise ValueError
        if not all(_HEADER.fullmatch(name) and isinstance(text, str) and text for name, text in value.items()):
            raise ValueError
        return tuple((name.lower(), text) for name, text in value.items())

    return Kind("table", expected, check)


def address() -> Kind:
    """An IP address of this machine, 0.0.0.0 or :: for all of them, or localhost."""

    def is_address(value: str) -> bool:
        try:
            return value == "localhost" or ipaddress.ip_address(value) is not None
        except ValueError:
            return False

    return _text("host", "an IP address of this machine or localhost, such as 127.0.0.1, ::1 or 0.0.0.0", is_address)


def url() -> Kind:
    """An http(s) address without credentials, query or fragment; held without its closing slash."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or any(c.isspace() or not c.isprintable() for c in value):
            raise ValueError
        parts = urlsplit(value)
        plain = not (parts.query or parts.fragment or "@" in parts.netloc or "?" in value or "#" in value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or not plain:
            raise ValueError
        return value.rstrip("/")

    return Kind("address", "an http or https address without user, password, query or fragment, such as "
                "https://api.openai.com/v1", check)  # fmt: skip


def looks_secret(value: str) -> bool:
    """Say whether a text looks like a key rather than the name of one."""
    return _SECRET.fullmatch(value.strip()) is not None


def holds_secret(value: str) -> bool:
    """Say whether a text, or a part of it such as an address's user or query, looks like a key."""
    return looks_secret(value) or any(looks_secret(word) for word in _WORD.findall(value))


def _text(name: str, expected: str, fits: Callable[[str], bool]) -> Kind:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not fits(value):
            raise ValueError
        return value

    return Kind(name, expected, check)


def _finite(value: Any) -> Decimal:
    if type(value) not in (int, float, Decimal):
        raise ValueError
    found = value if isinstance(value, Decimal) else Decimal(str(value))
    if not found.is_finite():
        raise ValueError
    return found


def _decimal(value: str) -> Decimal:
    try:
        return Decimal(value)
    except InvalidOperation as error:
        raise ValueError(value) from error
