"""The schema of the file of texts' keys, as a list of steps; the file's user_version counts the steps taken.

A step that was released is never edited: a change is a further step at the end.
"""

from __future__ import annotations

import os

import apsw

from insource.store.database import Migration

SECRET_BYTES = 32
TABLES = """
CREATE TABLE keys (
    id BLOB PRIMARY KEY,
    key BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TRIGGER keys_are_not_changed BEFORE UPDATE ON keys
BEGIN SELECT RAISE(ABORT, 'a key is made and destroyed, never changed'); END;

CREATE TABLE subjects (
    id BLOB PRIMARY KEY,             -- its key's
    name BLOB NOT NULL,              -- under the secret below: nobody reads from it who it is
    erased INTEGER                   -- when; microseconds since 1970, UTC
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_living_key ON subjects (name) WHERE erased IS NULL;
CREATE INDEX subjects_by_name ON subjects (name);

CREATE TABLE days (
    day INTEGER PRIMARY KEY,         -- since 1970, UTC, on which texts expire
    id BLOB NOT NULL UNIQUE          -- its key's
) STRICT;

CREATE TABLE secrets (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    names BLOB NOT NULL              -- names subjects
) STRICT, WITHOUT ROWID;
"""


def _keys_1(connection: apsw.Connection) -> None:
    connection.execute(TABLES)
    connection.execute("INSERT INTO secrets (one, names) VALUES (1, ?)", (os.urandom(SECRET_BYTES),))


STEPS: list[Migration] = [_keys_1]
