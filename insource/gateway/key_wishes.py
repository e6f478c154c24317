"""Keys in words: from what a person asks for, at the command line or over HTTP, to a key, and from a key to data.

It knows the words and which of them fit; it makes no key and stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import Any, TypeVar

from insource.config.amounts import RATE_EXPECTED, parse_money, parse_rate, parse_span, parse_tokens
from insource.errors import UserError
from insource.gateway.budgets import MONEY, TOKENS, shown, window_of
from insource.store.spending import Place
from insource.types import Key, Limits, Sensitivity

FIELDS = ("name", "tasks", "upstreams", "sensitivity", "admin", "expires", "rate", "concurrency", "budget", "tokens")
LONGEST = 200
T = TypeVar("T")


def wish(
    told: Mapping[str, Any], *, who: str, now: datetime, tasks: Collection[str], upstreams: Collection[str]
) -> Key:
    """Return the key that is asked for, without an id; `tasks` and `upstreams` are the names there are.

    Raises UserError, which names the field, for whatever does not fit.
    """
    for field in told:
        if field not in FIELDS:
            raise UserError(f"A key has no {field[:40]!r}; {', '.join(FIELDS)} were expected.")
    name = told.get("name")
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST or not name.isprintable():
        raise _wrong("name", name, f"a text of 1 to {LONGEST} printable characters")
    admin = told.get("admin", False)
    if type(admin) is not bool:
        raise _wrong("admin", admin, "true or false")
    return Key(
        "", name, now, who,
        _named("tasks", told.get("tasks"), tasks), _named("upstreams", told.get("upstreams"), upstreams),
        _read("sensitivity", told.get("sensitivity"), Sensitivity, "public, internal or restricted")
        or Sensitivity.RESTRICTED,
        admin, _expires(told.get("expires"), now), _limits(told),
    )  # fmt: skip


def state(key: Key, now: datetime) -> str:
    """Return "valid", "expired" or "revoked"."""
    if key.lets_in(now):
        return "valid"
    return "expired" if key.revoked is None else "revoked"


def to_data(key: Key, spending: Mapping[Place, Decimal], now: datetime) -> dict[str, Any]:
    """Return what may be told of a key: all but its secret, which nobody has."""
    return {
        "id": key.id,
        "name": key.name,
        "state": state(key, now),
        "created": _time(key.created),
        "created_by": key.created_by,
        "expires": _time(key.expires),
        "revoked": _time(key.revoked),
        "revoked_by": key.revoked_by,
        "admin": key.admin,
        "tasks": key.tasks,
        "upstreams": key.upstreams,
        "sensitivity": key.sensitivity.value,
        "rate": None if key.limits.rate is None else {"requests": key.limits.rate[0], "seconds": key.limits.rate[1]},
        "concurrency": key.limits.concurrency,
        "budgets": list(_budgets(key, spending, now)),
    }


def _budgets(key: Key, spending: Mapping[Place, Decimal], now: datetime) -> Iterable[dict[str, Any]]:
    money, tokens = key.limits.money, key.limits.tokens
    given = [] if money is None else [(MONEY, key.limits.currency, money[0], money[1])]
    given += [] if tokens is None else [(TOKENS, "tokens", Decimal(tokens[0]), tokens[1])]
    for kind, unit, limit, per in given:
        spent = spending.get((key.id, kind, window_of(per, now)), Decimal(0))
        left = max(limit - spent, Decimal(0))
        yield {"kind": kind, "unit": unit, "per": per, "limit": shown(limit), "spent": shown(spent),
               "left": shown(left)}  # fmt: skip


def _limits(told: Mapping[str, Any]) -> Limits:
    concurrency = told.get("concurrency")
    if concurrency is not None and (type(concurrency) is not int or not 1 <= concurrency <= 100_000):
        raise _wrong("concurrency", concurrency, "a whole number from 1 to 100,000")
    money = _read("budget", told.get("budget"), parse_money, "an amount a day, month or in total, such as 5/day or "
                  "20 EUR/month")  # fmt: skip
    return Limits(
        _read("rate", told.get("rate"), parse_rate, RATE_EXPECTED),
        concurrency,
        None if money is None else (money[0], money[2]),
        "USD" if money is None else money[1],
        _read("tokens", told.get("tokens"), parse_tokens, "a number a day, month or in total, such as 200000/day"),
    )


def _expires(told: Any, now: datetime) -> datetime | None:
    def read(text: str) -> datetime:
        try:
            return now + parse_span(text)
        except ValueError:
            time = datetime.fromisoformat(text)
            return time if time.tzinfo is not None else time.replace(tzinfo=UTC)

    found = _read("expires", told, read, "a time to come, such as 90d, 12h or 2027-01-31")
    if found is not None and found <= now:
        raise _wrong("expires", told, "a time to come, such as 90d, 12h or 2027-01-31")
    return found


def _read(field: str, told: Any, read: Callable[[str], T], expected: str) -> T | None:
    if told is None:
        return None
    try:
        if isinstance(told, str):
            return read(told)
    except (ValueError, OverflowError):
        pass
    raise _wrong(field, told, expected)


def _named(field: str, told: Any, known: Collection[str]) -> tuple[str, ...] | None:
    if told is None:
        return None
    if not isinstance(told, list | tuple) or not told or not all(isinstance(name, str) for name in told):
        raise _wrong(field, told, "a list of names")
    for name in told:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known)[:10]) or 'none'}."
            raise UserError(f"{field} names {name[:60]!r}, which there is not here; a known one was expected: {hint}")
    return tuple(dict.fromkeys(told))


def _wrong(field: str, told: Any, expected: str) -> UserError:
    return UserError(f"{field} is {repr(told)[:60]}; {expected} was expected.")


def _time(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
