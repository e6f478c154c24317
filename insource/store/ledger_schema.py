"""The schema of the ledger, as a list of steps; the file's user_version counts the steps taken.

A step that was released is never edited: a change is a further step at the end.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

from insource.store.content_keys import ContentKeys
from insource.store.contents import sealed_rows
from insource.store.database import Migration

APPEND_ONLY = """
CREATE TRIGGER {table}_are_not_changed BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only: a row is never changed'); END;
CREATE TRIGGER {table}_are_not_deleted BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only: a row is never deleted'); END;
"""

CONTENTS_STAY = """
CREATE TRIGGER contents_are_not_changed BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are written once and erased, never changed'); END;
"""
LEDGER_TABLES = f"""
CREATE TABLE decisions (
    seq INTEGER PRIMARY KEY,         -- one sequence over decisions, settlements, audits and acts
    request_id TEXT NOT NULL UNIQUE,
    time INTEGER NOT NULL,           -- all times: microseconds since 1970, UTC
    task TEXT,
    outcome TEXT NOT NULL,
    reason TEXT NOT NULL,
    version INTEGER,
    digest TEXT,
    score REAL,
    threshold REAL,
    audited INTEGER NOT NULL,
    audit_rate REAL NOT NULL,
    detail TEXT,
    content_digest BLOB              -- salted SHA-256; the salt lies in contents
) STRICT;
CREATE INDEX decisions_by_task ON decisions (task, time);

CREATE TABLE settlements (
    seq INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE REFERENCES decisions (request_id),
    time INTEGER NOT NULL,
    status INTEGER NOT NULL,
    served_by TEXT NOT NULL,
    seconds REAL NOT NULL,
    upstream_seconds REAL,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    cost TEXT,                       -- money: decimal figures as text
    cost_saved TEXT,
    joules REAL,
    detail TEXT,
    content_digest BLOB
) STRICT;

CREATE TABLE audits (
    seq INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL REFERENCES decisions (request_id),
    time INTEGER NOT NULL,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    accepted INTEGER NOT NULL,
    agrees INTEGER,
    detail TEXT,
    content_digest BLOB,
    UNIQUE (request_id, task, version)
) STRICT;

CREATE TABLE acts (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT
) STRICT;

CREATE TABLE contents (              -- the only rows that may be erased
    seq INTEGER PRIMARY KEY,         -- that of the row whose content_digest this is
    salt BLOB NOT NULL,
    text BLOB,                       -- UTF-8, NULL where only the digest is kept
    answer BLOB,
    reference BLOB,
    time INTEGER NOT NULL,
    task TEXT,
    expires INTEGER NOT NULL
) STRICT;
CREATE INDEX contents_by_expiry ON contents (expires);
{CONTENTS_STAY.strip()}
"""

TIER_AND_SENSITIVITY = """
ALTER TABLE decisions ADD COLUMN tier TEXT;         -- the upstream in the house that was asked last
ALTER TABLE decisions ADD COLUMN sensitivity TEXT;  -- how far the text was allowed to travel
"""

EVIDENCE_AND_FEEDBACK = """
ALTER TABLE audits ADD COLUMN accepts INTEGER;  -- whether the version would accept, served or not
ALTER TABLE audits ADD COLUMN stage TEXT;       -- the version's, then
ALTER TABLE audits ADD COLUMN score REAL;
ALTER TABLE audits ADD COLUMN seconds REAL;
CREATE INDEX audits_by_task ON audits (task);

CREATE TABLE feedback (              -- what people say is the right answer
    seq INTEGER PRIMARY KEY,         -- of the one sequence
    request_id TEXT NOT NULL REFERENCES decisions (request_id),
    time INTEGER NOT NULL,
    task TEXT NOT NULL,
    answer TEXT NOT NULL,
    who TEXT NOT NULL,
    source TEXT NOT NULL CHECK (source IN ('feedback', 'label', 'review')),
    UNIQUE (request_id, time, who, source)
) STRICT;
CREATE INDEX feedback_by_task ON feedback (task);
"""

DRIFT = """
ALTER TABLE decisions ADD COLUMN answer INTEGER;       -- the specialist's answer: its number in the closed set
ALTER TABLE settlements ADD COLUMN agrees INTEGER;     -- of an escalated request: whether that was the reference
ALTER TABLE settlements ADD COLUMN reference INTEGER;  -- the reference's number, -1 for one outside the set
"""

KEY = """
ALTER TABLE decisions ADD COLUMN key TEXT;             -- the public id of the key that the request came with
"""


HEADS = """
CREATE TABLE heads (                 -- the tree of proofs after each commit
    size INTEGER PRIMARY KEY,        -- how many rows of the one sequence it covers
    root BLOB NOT NULL               -- its root: RFC 6962, SHA-256
) STRICT;
"""

SEALED_CONTENTS = """
CREATE TABLE sealed_contents (       -- becomes contents, in which nothing was sealed
    seq INTEGER PRIMARY KEY,         -- that of the row whose content_digest this is
    salt BLOB NOT NULL,              -- sealed, as are the next three
    text BLOB,                       -- UTF-8, NULL where only the digest is kept
    answer BLOB,
    reference BLOB,
    time INTEGER NOT NULL,
    task TEXT,
    expires INTEGER NOT NULL,
    subject BLOB,                    -- the id of its subject's key, NULL where it names none
    day BLOB NOT NULL                -- the id of the key of the day it expires
) STRICT;
"""
FILL = """
INSERT INTO sealed_contents (seq, salt, text, answer, reference, time, task, expires, subject, day)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
SEALED_INSTEAD = f"""
DROP TABLE contents;
ALTER TABLE sealed_contents RENAME TO contents;
CREATE INDEX contents_by_expiry ON contents (expires);
CREATE INDEX contents_by_subject ON contents (subject) WHERE subject IS NOT NULL;
{CONTENTS_STAY.strip()}
"""

KEPT = "SELECT seq, salt, text, answer, reference, time, task, expires, NULL FROM contents"


def _ledger_1(connection: apsw.Connection) -> None:
    connection.execute(LEDGER_TABLES)
    for table in ("decisions", "settlements", "audits", "acts"):
        connection.execute(APPEND_ONLY.format(table=table))


def _ledger_2(connection: apsw.Connection) -> None:
    connection.execute(TIER_AND_SENSITIVITY)


def _ledger_3(connection: apsw.Connection) -> None:
    connection.execute(EVIDENCE_AND_FEEDBACK)
    connection.execute(APPEND_ONLY.format(table="feedback"))


def _ledger_4(connection: apsw.Connection) -> None:
    connection.execute(DRIFT)


def _ledger_key(connection: apsw.Connection) -> None:
    connection.execute(KEY)


def _ledger_heads(connection: apsw.Connection) -> None:
    connection.execute(HEADS)
    connection.execute(APPEND_ONLY.format(table="heads"))


def _ledger_sealed(connection: apsw.Connection) -> None:
    """Seal what was kept in the clear until now; the pages of the table that is dropped are overwritten as a whole."""
    connection.execute(SEALED_CONTENTS)
    kept: list[Any] = connection.execute(KEPT).fetchall()
    if kept:
        with ContentKeys.open(Path(connection.filename).parent) as keys:
            connection.executemany(FILL, sealed_rows(keys, kept))
    connection.execute(SEALED_INSTEAD)


STEPS: list[Migration] = [_ledger_1, _ledger_2, _ledger_3, _ledger_4, _ledger_key, _ledger_heads, _ledger_sealed]
