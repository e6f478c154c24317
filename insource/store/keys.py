"""Virtual keys: made, listed and revoked; kept as a digest, so that nobody can read one out of the file.

It knows rows and what a key looks like; who may use one for what, the gateway asks. `registry` holds the file.
"""

from __future__ import annotations

import re
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import apsw
import msgspec

from insource.errors import UnknownKey
from insource.store import columns
from insource.store.columns import Act
from insource.types import Key, Limits, Sensitivity

PREFIX = "is-"
ID_LENGTH = 8
SECRET_LENGTH = 43
"""Characters of base62 that 32 random bytes take."""
KEY = re.compile(rf"{PREFIX}[0-9A-Za-z]{{{ID_LENGTH + SECRET_LENGTH}}}")
_DIGITS = string.digits + string.ascii_uppercase + string.ascii_lowercase
_COLUMNS = (
    "id, digest, name, created, created_by, tasks, upstreams, sensitivity, admin, expires, limits, revoked, revoked_by"
)
_INSERT = f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)"
_SELECT = f"SELECT {_COLUMNS} FROM keys ORDER BY created, id"
_REVOKE = "UPDATE keys SET revoked = ?, revoked_by = ? WHERE id = ? AND revoked IS NULL"


def digest_of(key: str) -> bytes:
    """Return the SHA-256 of a whole key: 256 random bits need no slow hash, as nobody can try them out."""
    return sha256(key.encode("utf-8", "surrogatepass")).digest()


def new_secret() -> tuple[str, str]:
    """Return a fresh key's public id and the whole key, which holds it."""
    public = "".join(secrets.choice(_DIGITS) for _ in range(ID_LENGTH))
    number, written = int.from_bytes(secrets.token_bytes(32), "big"), ""
    for _ in range(SECRET_LENGTH):
        number, digit = divmod(number, len(_DIGITS))
        written += _DIGITS[digit]
    return public, f"{PREFIX}{public}{written}"


class Keys(ABC):
    """The registry's methods for keys; the subclass brings the file."""

    def create_key(self, key: Key, why: str) -> tuple[Key, str]:
        """Make a key with what `key` says but its id; return it and the whole key, which cannot be had again.

        It and the act are durable on return. Raises StoreError.
        """
        public, secret = new_secret()
        made = replace(key, id=public, revoked=None, revoked_by=None)
        values = (
            made.id, digest_of(secret), columns.plain(made.name), columns.micros(made.created),
            columns.plain(made.created_by), _listed(made.tasks), _listed(made.upstreams), made.sensitivity,
            made.admin, None if made.expires is None else columns.micros(made.expires),
            msgspec.json.encode(made.limits).decode(),
        )  # fmt: skip
        with self._writing() as connection:
            connection.execute(_INSERT, values)
            self._key_act(connection, made.created, made.created_by, "create key", made, why)
        return made, secret

    def revoke_key(self, key_id: str, who: str, why: str, now: datetime) -> tuple[Key, bool]:
        """Revoke a key for good; return it, and whether it stood until now. Raises UnknownKey."""
        with self._writing() as connection:
            found = {key.id: key for key in self.keys()}.get(key_id)
            if found is None:
                raise UnknownKey(
                    f"There is no key {key_id[:20]!r}; an id as `insource keys list` shows it was expected."
                )
            if found.revoked is not None:
                return found, False
            connection.execute(_REVOKE, (columns.micros(now), columns.plain(who), key_id))
            self._key_act(connection, now, who, "revoke key", found, why)
        return replace(found, revoked=now, revoked_by=columns.plain(who)), True

    def keys(self) -> tuple[Key, ...]:
        """Return all keys ever made, oldest first."""
        return tuple(_to_key(row) for row in self._read(_SELECT, ()))

    def keys_by_digest(self) -> Mapping[bytes, Key]:
        """Return all keys ever made by the digest of the whole key."""
        return {row[1]: _to_key(row) for row in self._read(_SELECT, ())}

    def _key_act(self, connection: apsw.Connection, now: datetime, who: str, what: str, key: Key, why: str) -> None:
        act = Act(now, columns.plain(who) or "", what, key.id, f"{key.name}: {why}")
        connection.execute(columns.INSERT_ACT, columns.act_values(act))

    @abstractmethod
    def _writing(self) -> AbstractContextManager[apsw.Connection]: ...

    @abstractmethod
    def _read(self, statement: str, values: Sequence[Any]) -> list[Any]: ...


def _listed(names: Sequence[str] | None) -> str | None:
    return None if names is None else msgspec.json.encode(names).decode()


def _names(stored: str | None) -> tuple[str, ...] | None:
    return None if stored is None else msgspec.json.decode(stored, type=tuple[str, ...])


def _time(value: int | None) -> datetime | None:
    return None if value is None else columns.moment(value)


def _to_key(row: Sequence[Any]) -> Key:
    public, _, name, created, by, tasks, upstreams, sensitivity, admin, expires, limits, revoked, revoked_by = row
    return Key(
        public, name, columns.moment(created), by, _names(tasks), _names(upstreams), Sensitivity(sensitivity),
        bool(admin), _time(expires), msgspec.json.decode(limits, type=Limits), _time(revoked), revoked_by,
    )  # fmt: skip
