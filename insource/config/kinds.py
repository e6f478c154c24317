"""The kinds of values a setting can have: how each is checked, and how it is read from the environment.

It knows single values; no key, no section and no file.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import urlsplit

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(
    r"(?i)(Bearer\s+)?"
    r"(sk-|sk_|pk-|rk_|gsk_|hf_|xai-|ghp_|github_pat_|glpat-|AKIA|AIza|xox[abprs]-|eyJ)[\w.+/=-]{6,}"
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind: its name, what is expected in words, how to check a TOML value, and how to read a text first.

    `check` returns the value as the models hold it; both raise ValueError where it is not of the kind.
    """

    name: str
    expected: str
    check: Callable[[Any], Any]
    from_text: Callable[[str], Any] = str


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


def texts(expected: str) -> Kind:
    """One text or a list of texts, none of them empty; held as a tuple without doubles."""

    def check(value: Any) -> tuple[str, ...]:
        found = [value] if isinstance(value, str) else value
        if not isinstance(found, list) or not found or not all(isinstance(item, str) and item for item in found):
            raise ValueError
        return tuple(dict.fromkeys(found))

    return Kind("text or list", expected, check)


def loopback() -> Kind:
    """An address that only this machine can reach: 127.0.0.0/8, ::1 or localhost."""

    def is_loopback(value: str) -> bool:
        try:
            return value == "localhost" or ipaddress.ip_address(value).is_loopback
        except ValueError:
            return False

    return _text("host", "127.0.0.1, ::1 or localhost (without virtual keys, which this version does not have, anyone "
                 "who reaches the gateway could use it)", is_loopback)  # fmt: skip


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
