BEGIN TRANSACTION;
CREATE TABLE acts (
    seq INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail TEXT
) STRICT;
INSERT INTO "acts" VALUES(1,1795262400000000,'insource','start','ledger','process 17149');
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
INSERT INTO "audits" VALUES(4,'r-1',1795262400000000,'triage',1,0,1,NULL,X'4036DB96ADA01318ACE1CB2E78F869B6D83C9C6084FF4683493471F7522F0F0C');
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
INSERT INTO "contents" VALUES(2,X'F42E90E5BF5423BE14BC656ACA0F0D9ED64A29E3712E8A5EAAFA54F0DD230F48',X'7768657265206973206D7920636172643F',NULL,NULL,1795262400000000,'triage',1797854400000000);
INSERT INTO "contents" VALUES(4,X'60F0F8A6F4AC3B8189DF1DE1DC6F69684DDEF539C5B73A137234A4FE64CEE12C',X'7768657265206973206D7920636172643F',NULL,X'63617264',1795262400000000,'triage',1797854400000000);
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
, tier TEXT, sensitivity TEXT) STRICT;
INSERT INTO "decisions" VALUES(2,'r-1',1795262400000000,'triage','escalated','below_threshold',1,NULL,NULL,NULL,1,0.05,NULL,X'592FA51362992D14A748A5B640F744D2F1AF1946A4C40FFB51A503353D95CB1D',NULL,NULL);
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
INSERT INTO "settlements" VALUES(3,'r-1',1795262400000000,200,'openai',0.5,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX decisions_by_task ON decisions (task, time);
CREATE INDEX contents_by_expiry ON contents (expires);
CREATE TRIGGER contents_are_not_changed BEFORE UPDATE ON contents
BEGIN SELECT RAISE(ABORT, 'contents are written once and erased, never changed'); END;
CREATE TRIGGER decisions_are_not_changed BEFORE UPDATE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are append-only: a row is never changed'); END;
CREATE TRIGGER decisions_are_not_deleted BEFORE DELETE ON decisions
BEGIN SELECT RAISE(ABORT, 'decisions are append-only: a row is never deleted'); END;
CREATE TRIGGER settlements_are_not_changed BEFORE UPDATE ON settlements
BEGIN SELECT RAISE(ABORT, 'settlements are append-only: a row is never changed'); END;
CREATE TRIGGER settlements_are_not_deleted BEFORE DELETE ON settlements
BEGIN SELECT RAISE(ABORT, 'settlements are append-only: a row is never deleted'); END;
CREATE TRIGGER audits_are_not_changed BEFORE UPDATE ON audits
BEGIN SELECT RAISE(ABORT, 'audits are append-only: a row is never changed'); END;
CREATE TRIGGER audits_are_not_deleted BEFORE DELETE ON audits
BEGIN SELECT RAISE(ABORT, 'audits are append-only: a row is never deleted'); END;
CREATE TRIGGER acts_are_not_changed BEFORE UPDATE ON acts
BEGIN SELECT RAISE(ABORT, 'acts are append-only: a row is never changed'); END;
CREATE TRIGGER acts_are_not_deleted BEFORE DELETE ON acts
BEGIN SELECT RAISE(ABORT, 'acts are append-only: a row is never deleted'); END;
COMMIT;
PRAGMA user_version = 2;
