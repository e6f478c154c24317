"""The registry's step 8: each version and re-certification bears a digest of its row; a version names its last one."""

from __future__ import annotations

import apsw

from insource.store.registry_rows import RECERTIFIED, VERSION, raw, row_digest

ROW_DIGESTS = """
ALTER TABLE versions ADD COLUMN row_digest TEXT NOT NULL DEFAULT '';  -- of what never changes of the row
ALTER TABLE versions ADD COLUMN recertified TEXT;  -- the digest of its last re-certification's row
ALTER TABLE recertifications ADD COLUMN row_digest TEXT NOT NULL DEFAULT '';
DROP TRIGGER versions_change_stage_and_share_only;
DROP TRIGGER recertifications_are_not_changed;
"""
LAST = """
(SELECT row_digest FROM recertifications r WHERE r.task = versions.task AND r.version = versions.version
ORDER BY seq DESC LIMIT 1)
"""
ROW_DIGESTS_STAY = f"""
CREATE TRIGGER versions_change_stage_and_share_only
BEFORE UPDATE OF task, version, family, digest, created, calibration, lineage, row_digest ON versions
BEGIN SELECT RAISE(ABORT, 'of a version only stage and share may change'); END;
CREATE TRIGGER versions_name_their_last_recertification BEFORE UPDATE OF recertified ON versions
WHEN NEW.recertified IS NOT {LAST.strip().replace("versions.", "NEW.")}
BEGIN SELECT RAISE(ABORT, 'a version names its last re-certification'); END;
CREATE TRIGGER recertifications_are_not_changed BEFORE UPDATE ON recertifications
BEGIN SELECT RAISE(ABORT, 'recertifications are append-only: a row is never changed'); END;
"""


def add_row_digests(connection: apsw.Connection) -> None:
    """Add them; rows that stand already are taken as they are: what was altered before cannot be told."""
    connection.execute(ROW_DIGESTS)
    for row in connection.execute(f"SELECT task, version, {raw(VERSION, 'versions')} FROM versions").fetchall():
        values = (row_digest(row[2:]), *row[:2])
        connection.execute("UPDATE versions SET row_digest = ? WHERE task = ? AND version = ?", values)
    for row in connection.execute(f"SELECT seq, {raw(RECERTIFIED, 'r')} FROM recertifications r").fetchall():
        connection.execute("UPDATE recertifications SET row_digest = ? WHERE seq = ?", (row_digest(row[1:]), row[0]))
    connection.execute(f"UPDATE versions SET recertified = {LAST}")
    connection.execute(ROW_DIGESTS_STAY)
