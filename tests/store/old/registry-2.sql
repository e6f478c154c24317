BEGIN TRANSACTION;
CREATE TABLE acts (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT
) STRICT;
INSERT INTO "acts" VALUES(1,1795262400000000,'ada','promote','triage@1','promotion of 1 (before: none; digest 0000000000000000000000000000000000000000000000000000000000000000)');
INSERT INTO "acts" VALUES(2,1795262400000000,'ada','promote','triage@2','promotion of 2 (before: triage@1; digest 1111111111111111111111111111111111111111111111111111111111111111)');
INSERT INTO "acts" VALUES(3,1795262400000000,'ada','promote','triage@1','promotion of 1 (before: triage@2; digest 0000000000000000000000000000000000000000000000000000000000000000)');
INSERT INTO "acts" VALUES(4,1795262400000000,'ada','promote','triage@3','promotion of 3 (before: triage@1; digest 2222222222222222222222222222222222222222222222222222222222222222)');
INSERT INTO "acts" VALUES(5,1795262400000000,'grace','review','r-1','answered, task triage');
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
INSERT INTO "reviews" VALUES('r-1',1795262400000000,'triage','where is my card?','card',0.25,'answered','refund','grace',1795262400000000);
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
INSERT INTO "versions" VALUES('other',1,'linear','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','candidate',1795262400000000,NULL,'{}');
INSERT INTO "versions" VALUES('triage',1,'linear','0000000000000000000000000000000000000000000000000000000000000000','retired',1795262400000000,NULL,'{"rows":0}');
INSERT INTO "versions" VALUES('triage',2,'linear','1111111111111111111111111111111111111111111111111111111111111111','retired',1795262400000000,NULL,'{"rows":1}');
INSERT INTO "versions" VALUES('triage',3,'linear','2222222222222222222222222222222222222222222222222222222222222222','active',1795262400000000,NULL,'{"rows":2}');
CREATE UNIQUE INDEX one_active_version ON versions (task) WHERE stage = 'active';
CREATE TRIGGER versions_change_stage_only BEFORE UPDATE OF task, version, family, digest, created, calibration, lineage
ON versions BEGIN SELECT RAISE(ABORT, 'of a version only the stage may change'); END;
CREATE TRIGGER versions_are_not_deleted BEFORE DELETE ON versions
BEGIN SELECT RAISE(ABORT, 'versions are never deleted'); END;
CREATE TRIGGER acts_are_not_changed BEFORE UPDATE ON acts
BEGIN SELECT RAISE(ABORT, 'acts are append-only: a row is never changed'); END;
CREATE TRIGGER acts_are_not_deleted BEFORE DELETE ON acts
BEGIN SELECT RAISE(ABORT, 'acts are append-only: a row is never deleted'); END;
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
COMMIT;
PRAGMA user_version = 2;
