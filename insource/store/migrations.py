"""The schemas of the ledger and the registry, as lists of steps; a file's user_version counts the steps taken.

A step that was released is never edited: a change is a further step at the end.
"""

from __future__ import annotations

import apsw

from insource.store.database import Migration

APPEND_ONLY = """
CREATE TRIGGER {table}_are_not_changed BEFORE UPDATE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only: a row is never changed'); END;
CREATE TRIGGER {table}_are_not_deleted BEFORE DELETE ON {table}
BEGIN SELECT RAISE(ABORT, '{table} are append-only: a row is never deleted'); END;
"""

LEDGER_TABLES = """
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
CREATE TRIGGER contents_are_not_changed BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are written once and erased, never changed'); END;
"""

TIER_AND_SENSITIVITY = """
ALTER TABLE decisions ADD COLUMN tier TEXT;         -- the upstream in the house that was asked last
ALTER TABLE decisions ADD COLUMN sensitivity TEXT;  -- how far the text was allowed to travel
"""

REGISTRY_TABLES = """
CREATE TABLE versions (
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    family TEXT NOT NULL,
    digest TEXT NOT NULL,
    stage TEXT NOT NULL,
    created INTEGER NOT NULL,        -- microseconds since 1970, UTC
    calibration TEXT,                -- JSON
    lineage TEXT NOT NULL,           -- JSON
    PRIMARY KEY (task, version)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_active_version ON versions (task) WHERE stage = 'active';
CREATE TRIGGER versions_change_stage_only BEFORE UPDATE OF task, version, family, digest, created, calibration, lineage
ON versions BEGIN SELECT RAISE(ABORT, 'of a version only the stage may change'); END;
CREATE TRIGGER versions_are_not_deleted BEFORE DELETE ON versions
BEGIN SELECT RAISE(ABORT, 'versions are never deleted'); END;

CREATE TABLE acts (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT
) STRICT;
"""

REVIEW_TABLES = """
CREATE TABLE reviews (               -- kept requests that wait, or waited, for a person
    request_id TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    task TEXT NOT NULL,
    text TEXT,                       -- NULL once erased, as is the suggestion
    suggestion TEXT,
    score REAL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'answered', 'dismissed')),
    answer TEXT,
    who TEXT,
    answered_at INTEGER,             -- when it was answered or dismissed
    CHECK ((state = 'answered') = (answer IS NOT NULL)),
    CHECK ((state = 'waiting') = (who IS NULL) AND (state = 'waiting') = (answered_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX reviews_by_state ON reviews (state, time);
CREATE TRIGGER reviews_are_closed_once BEFORE UPDATE OF state, answer, who, answered_at ON reviews
WHEN OLD.state <> 'waiting' BEGIN SELECT RAISE(ABORT, 'a review is answered or dismissed once'); END;
CREATE TRIGGER reviews_keep_their_question BEFORE UPDATE OF request_id, time, task, score ON reviews
BEGIN SELECT RAISE(ABORT, 'of a review only the answer is added'); END;
CREATE TRIGGER review_texts_are_erased_only BEFORE UPDATE OF text, suggestion ON reviews
WHEN NEW.text IS NOT NULL OR NEW.suggestion IS NOT NULL OR OLD.state = 'waiting'
BEGIN SELECT RAISE(ABORT, 'the text of a closed review is erased, never changed'); END;
CREATE TRIGGER reviews_are_not_deleted BEFORE DELETE ON reviews
BEGIN SELECT RAISE(ABORT, 'reviews are never deleted'); END;
"""


def _ledger_1(connection: apsw.Connection) -> None:
    connection.execute(LEDGER_TABLES)
    for table in ("decisions", "settlements", "audits", "acts"):
        connection.execute(APPEND_ONLY.format(table=table))


def _registry_1(connection: apsw.Connection) -> None:
    connection.execute(REGISTRY_TABLES)
    connection.execute(APPEND_ONLY.format(table="acts"))


def _ledger_2(connection: apsw.Connection) -> None:
    connection.execute(TIER_AND_SENSITIVITY)


def _registry_2(connection: apsw.Connection) -> None:
    connection.execute(REVIEW_TABLES)


LEDGER: list[Migration] = [_ledger_1, _ledger_2]
REGISTRY: list[Migration] = [_registry_1, _registry_2]
