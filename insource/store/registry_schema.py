"""The schema of the registry, as a list of steps; the file's user_version counts the steps taken.

A step that was released is never edited: a change is a further step at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from insource.store.content_keys import ContentKeys
from insource.store.database import Migration
from insource.store.ledger_schema import APPEND_ONLY
from insource.store.registry_row_digests import add_row_digests
from insource.store.reviews import seal_texts

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

REVIEW_COLUMNS = """
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
"""
REVIEW_CHECKS = """
    CHECK ((state = 'answered') = (answer IS NOT NULL)),
    CHECK ((state = 'waiting') = (who IS NULL) AND (state = 'waiting') = (answered_at IS NULL))
) STRICT, WITHOUT ROWID;
"""
REVIEW_GUARDS = """
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
REVIEW_TABLES = f"""
CREATE TABLE reviews (               -- kept requests that wait, or waited, for a person
{REVIEW_COLUMNS.strip()}
{REVIEW_CHECKS.strip()}
{REVIEW_GUARDS.strip()}
"""

STAGES = """
DROP TRIGGER versions_change_stage_only;
UPDATE versions SET stage = 'candidate' WHERE stage IN ('shadow', 'canary');  -- by hand: no release wrote these before
ALTER TABLE versions ADD COLUMN share REAL NOT NULL DEFAULT 0;  -- of the requests, in canary
CREATE UNIQUE INDEX one_trial_version ON versions (task) WHERE stage IN ('shadow', 'canary');
CREATE TRIGGER versions_change_stage_and_share_only
BEFORE UPDATE OF task, version, family, digest, created, calibration, lineage ON versions
BEGIN SELECT RAISE(ABORT, 'of a version only stage and share may change'); END;
CREATE TRIGGER canaries_alone_have_a_share BEFORE UPDATE OF stage, share ON versions
WHEN NOT (NEW.share BETWEEN 0 AND 1 AND (NEW.stage = 'canary') = (NEW.share > 0))
BEGIN SELECT RAISE(ABORT, 'a canary has a share above 0 and up to 1, every other version 0'); END;

CREATE TABLE moves (                 -- every step of a version from stage to stage
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    before TEXT NOT NULL,
    stage TEXT NOT NULL,
    share REAL NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    back INTEGER NOT NULL DEFAULT 0, -- 1 where a rollback made the version active again
    FOREIGN KEY (task, version) REFERENCES versions (task, version)
) STRICT;
CREATE INDEX moves_by_task ON moves (task);

CREATE TABLE suspensions (           -- while one stands, nothing of its task is accepted
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    time INTEGER NOT NULL,
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    lifted INTEGER                   -- when
) STRICT;
CREATE UNIQUE INDEX one_standing_suspension ON suspensions (task) WHERE lifted IS NULL;
CREATE TRIGGER suspensions_are_lifted_once BEFORE UPDATE ON suspensions
WHEN OLD.lifted IS NOT NULL OR NEW.seq <> OLD.seq OR NEW.task <> OLD.task OR NEW.time <> OLD.time
    OR NEW.who <> OLD.who OR NEW.why <> OLD.why
BEGIN SELECT RAISE(ABORT, 'a suspension is lifted once, never changed'); END;
CREATE TRIGGER suspensions_are_not_deleted BEFORE DELETE ON suspensions
BEGIN SELECT RAISE(ABORT, 'suspensions are lifted, never deleted'); END;

CREATE TABLE proposals (             -- the next step of a task that waits for a person; any move withdraws it
    task TEXT PRIMARY KEY,
    time INTEGER NOT NULL,
    version INTEGER NOT NULL,
    before TEXT NOT NULL,
    stage TEXT NOT NULL,
    share REAL NOT NULL,
    why TEXT NOT NULL                -- JSON: a list of texts
) STRICT, WITHOUT ROWID;
"""

OUTBOX = """
CREATE TABLE outbox (                -- people's answers on their way into the ledger, which takes one writer
    seq INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    time INTEGER NOT NULL,
    task TEXT NOT NULL,
    answer TEXT NOT NULL,
    who TEXT NOT NULL,
    source TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'refused')),
    UNIQUE (request_id, time, who, source)
) STRICT;
CREATE INDEX outbox_waiting ON outbox (seq) WHERE state = 'waiting';
CREATE TRIGGER outbox_answers_stay BEFORE UPDATE OF seq, request_id, time, task, answer, who, source ON outbox
BEGIN SELECT RAISE(ABORT, 'an answer on its way is delivered, never changed'); END;
CREATE TRIGGER outbox_is_not_deleted BEFORE DELETE ON outbox
BEGIN SELECT RAISE(ABORT, 'an answer on its way is delivered, never deleted'); END;
"""
INSERT_OLD_MOVE = """
INSERT INTO moves (time, task, version, before, stage, share, who, why) VALUES (?, ?, ?, ?, ?, 0, ?, ?)
"""

DOUBTS = """
CREATE TABLE doubts (                -- while one stands, every request of its task is audited
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,        -- void once another one is active
    time INTEGER NOT NULL,
    kinds TEXT NOT NULL,             -- JSON: what drifted
    row INTEGER NOT NULL,            -- of the ledger, that had been read when it began
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    ended INTEGER,                   -- when
    FOREIGN KEY (task, version) REFERENCES versions (task, version)
) STRICT;
CREATE UNIQUE INDEX one_standing_doubt ON doubts (task) WHERE ended IS NULL;
CREATE TRIGGER doubts_end_once BEFORE UPDATE ON doubts
WHEN OLD.ended IS NOT NULL OR NEW.seq <> OLD.seq OR NEW.task <> OLD.task OR NEW.version <> OLD.version
    OR NEW.time <> OLD.time OR NEW.kinds <> OLD.kinds OR NEW.row <> OLD.row OR NEW.who <> OLD.who OR NEW.why <> OLD.why
BEGIN SELECT RAISE(ABORT, 'a doubt ends once and is never changed'); END;
CREATE TRIGGER doubts_are_not_deleted BEFORE DELETE ON doubts
BEGIN SELECT RAISE(ABORT, 'doubts end and are never deleted'); END;

CREATE TABLE watches (               -- how far the ledger was read of a task, and what that came to: a cache
    task TEXT PRIMARY KEY,
    basis TEXT NOT NULL,             -- what the counts depend on: of another basis they are void
    row INTEGER NOT NULL,
    time INTEGER NOT NULL,
    state TEXT NOT NULL,             -- JSON, to go on from
    told TEXT NOT NULL               -- JSON, for people
) STRICT, WITHOUT ROWID;
"""

RECERTIFICATIONS = """
CREATE TABLE recertifications (      -- thresholds raised: the last one of a version is in force, not its own
    seq INTEGER PRIMARY KEY,
    task TEXT NOT NULL,
    version INTEGER NOT NULL,
    time INTEGER NOT NULL,
    before REAL NOT NULL,            -- the threshold until then
    calibration TEXT NOT NULL,       -- JSON
    doubts INTEGER NOT NULL,         -- of the version so far
    since INTEGER NOT NULL,          -- the row of the ledger after which the evidence began
    who TEXT NOT NULL,
    why TEXT NOT NULL,
    FOREIGN KEY (task, version) REFERENCES versions (task, version)
) STRICT;
CREATE INDEX recertifications_by_version ON recertifications (task, version);
"""

PURCHASES = """
CREATE TABLE purchases (             -- labels reserved of a task's budget
    task TEXT NOT NULL,
    day INTEGER NOT NULL,            -- since 1970, UTC
    taken INTEGER NOT NULL,
    PRIMARY KEY (task, day)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER purchases_only_grow BEFORE UPDATE ON purchases
WHEN NEW.task <> OLD.task OR NEW.day <> OLD.day OR NEW.taken <= OLD.taken
BEGIN SELECT RAISE(ABORT, 'a label that was reserved is never given back'); END;
"""

KEYS = """
CREATE TABLE keys (                  -- who may ask the gateway
    id TEXT PRIMARY KEY,             -- public
    digest BLOB NOT NULL UNIQUE,     -- SHA-256 of the whole key, which is nowhere kept
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    tasks TEXT,                      -- JSON: a list; NULL for all
    upstreams TEXT,                  -- JSON: a list; NULL for all
    sensitivity TEXT NOT NULL,       -- the highest that may leave
    admin INTEGER NOT NULL,
    expires INTEGER,
    limits TEXT NOT NULL,            -- JSON
    revoked INTEGER,                 -- when
    revoked_by TEXT,
    CHECK ((revoked IS NULL) = (revoked_by IS NULL))
) STRICT, WITHOUT ROWID;
CREATE TRIGGER keys_are_revoked_once BEFORE UPDATE ON keys
WHEN OLD.revoked IS NOT NULL OR NEW.id <> OLD.id OR NEW.digest <> OLD.digest OR NEW.name <> OLD.name
    OR NEW.created <> OLD.created OR NEW.created_by <> OLD.created_by OR NEW.tasks IS NOT OLD.tasks
    OR NEW.upstreams IS NOT OLD.upstreams OR NEW.sensitivity <> OLD.sensitivity OR NEW.admin <> OLD.admin
    OR NEW.expires IS NOT OLD.expires OR NEW.limits <> OLD.limits
BEGIN SELECT RAISE(ABORT, 'a key is revoked once, never changed'); END;
CREATE TRIGGER keys_are_not_deleted BEFORE DELETE ON keys
BEGIN SELECT RAISE(ABORT, 'keys are revoked, never deleted'); END;

CREATE TABLE acts_told (             -- up to which number the ledger has these acts
    one INTEGER PRIMARY KEY CHECK (one = 1),
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO acts_told (one, seq) VALUES (1, 0);
"""

SEALED_REVIEWS = f"""
CREATE TABLE sealed_reviews (        -- becomes reviews, in which nothing was sealed
{REVIEW_COLUMNS.strip()}
    seal BLOB,                       -- the ids of the keys of text and suggestion, which are sealed
{REVIEW_CHECKS.strip()}
"""
FILL = "INSERT INTO sealed_reviews VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SEALED_INSTEAD = f"""
DROP TABLE reviews;
ALTER TABLE sealed_reviews RENAME TO reviews;
{REVIEW_GUARDS.strip()}
CREATE TRIGGER review_seals_stay BEFORE UPDATE OF seal ON reviews
BEGIN SELECT RAISE(ABORT, 'the seal of a review is never changed'); END;
"""


def _registry_1(connection: apsw.Connection) -> None:
    connection.execute(REGISTRY_TABLES)
    connection.execute(APPEND_ONLY.format(table="acts"))


def _registry_2(connection: apsw.Connection) -> None:
    connection.execute(REVIEW_TABLES)


def _registry_3(connection: apsw.Connection) -> None:
    connection.execute(STAGES)
    for values in _old_moves(connection):
        connection.execute(INSERT_OLD_MOVE, values)
    connection.execute(APPEND_ONLY.format(table="moves"))
    connection.execute(OUTBOX)


def _registry_4(connection: apsw.Connection) -> None:
    connection.execute(DOUBTS)


def _registry_5(connection: apsw.Connection) -> None:
    connection.execute(PURCHASES)


def _registry_6(connection: apsw.Connection) -> None:
    connection.execute(RECERTIFICATIONS)
    connection.execute(APPEND_ONLY.format(table="recertifications"))


def _registry_7(connection: apsw.Connection) -> None:
    connection.execute(KEYS)


def _registry_9(connection: apsw.Connection) -> None:
    """Seal what was queued in the clear until now; pages of the table that is dropped are overwritten as a whole."""
    connection.execute(SEALED_REVIEWS)
    kept: list[Any] = connection.execute("SELECT * FROM reviews").fetchall()
    if kept:
        with ContentKeys.open(Path(connection.filename).parent) as keys:
            for request_id, time, task, text, suggestion, *others in kept:
                seal = (keys.fresh(),) if text is not None or suggestion is not None else ()
                sealed = seal_texts(keys, seal, request_id, text, suggestion)
                connection.execute(FILL, (request_id, time, task, *sealed, *others, b"".join(seal) or None))
    connection.execute(SEALED_INSTEAD)


def _old_moves(connection: apsw.Connection) -> Iterator[tuple[object, ...]]:
    """Yield the moves behind the promotions recorded so far, so that what was active before can be again."""
    promoted = "SELECT time, who, subject, coalesce(detail, '') FROM acts WHERE what = 'promote' ORDER BY seq"
    acts: list[Any] = connection.execute(promoted).fetchall()
    known = set(connection.execute("SELECT task || '@' || version FROM versions").fetchall())
    active: dict[str, int] = {}
    served: set[str] = set()
    for time, who, subject, why in acts:
        if (subject,) not in known:
            continue
        task, _, number = subject.rpartition("@")
        version, before = int(number), active.get(task)
        if before == version:
            continue
        if before is not None:
            yield time, task, before, "active", "retired", who, why
        earlier = "retired" if subject in served else "candidate"
        active[task] = version
        served.add(subject)
        yield time, task, version, earlier, "active", who, why


STEPS: list[Migration] = [
    _registry_1, _registry_2, _registry_3, _registry_4, _registry_5, _registry_6, _registry_7, add_row_digests,
    _registry_9,
]  # fmt: skip
