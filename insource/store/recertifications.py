"""Thresholds raised after a doubt: the version goes on with another calibration, and what was there before stays.

It knows calibrations, not how one was found. `registry` holds the file; doubts end with it, so they stand below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from insource.errors import StageConflict
from insource.store import columns
from insource.store.columns import Act
from insource.store.doubts import END, Doubts
from insource.store.registry_rows import RECERTIFIED, matches, raw, row_digest
from insource.types import Calibration

INSERT = f"INSERT INTO recertifications ({RECERTIFIED}, row_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
NAME = "UPDATE versions SET recertified = ? WHERE task = ? AND version = ?"
LATEST = f"""
SELECT {raw(f"row_digest, {RECERTIFIED}", "recertifications")} FROM recertifications
WHERE task = ?1 AND (?2 IS NULL OR version = ?2) ORDER BY seq DESC
"""


@dataclass(frozen=True, slots=True)
class Recertified:
    """A version's threshold was raised from `before` to that of `calibration`, on the audits of its last doubt.

    `doubts` counts the version's doubts so far, as their budgets of error do; what was seen up to the row `since` of
    the ledger is about the world as it was.
    """

    task: str
    version: int
    time: datetime
    before: float
    calibration: Calibration
    doubts: int
    since: int
    who: str
    why: str


class Recertifications(Doubts):
    """The registry's methods for re-certifications; the subclass brings the file and the versions."""

    def recertify(self, told: Recertified) -> None:
        """Have the active version serve by another calibration from now on, and end the doubt about it.

        Raises ValueError where its threshold is not higher than `before`, or a figure of it is not finite;
        StageConflict where another version is active by now, or serves at another threshold than `before`;
        UnknownTask or UnknownVersion. Then nothing is changed.
        """
        calibration, name = told.calibration, f"{told.task}@{told.version}"
        if calibration.threshold is None or not calibration.threshold > told.before:
            raise ValueError(f"{name} is to serve at {calibration.threshold} after {told.before}; only a higher "
                             "threshold was expected, since a lower one takes a new version.")  # fmt: skip
        text = calibration_text(calibration)
        with self._writing() as connection:
            self._check_active(told.task, told.version, "certified anew")
            found = self.get(told.task, told.version).calibration
            now = None if found is None else found.threshold
            if now != told.before:
                raise StageConflict(
                    f"{name} was to be certified anew after a threshold of {told.before:.4f}, and serves at {now} by "
                    "now. Somebody was first: look, and decide again."
                )
            who, why, time = columns.plain(told.who) or "", columns.plain(told.why) or "", columns.micros(told.time)
            before = float(told.before)
            values = (told.task, told.version, time, before, text, told.doubts, told.since, who, why)
            connection.execute(INSERT, (*values, digest := row_digest(values)))
            connection.execute(NAME, (digest, told.task, told.version))
            detail = f"{why} (row {digest})"
            connection.execute(columns.INSERT_ACT, columns.act_values(Act(told.time, who, "re-certify", name, detail)))
            connection.execute(END, (time, told.task))
            if connection.changes():
                connection.execute(columns.INSERT_ACT, columns.act_values(Act(told.time, who, "end doubt", name, why)))

    def recertified(self, task: str, version: int | None = None) -> Recertified | None:
        """Return the last re-certification of a version, or of any version of the task; None where there was none.

        Those that are not as they were written are passed over: their versions are not served.
        """
        rows = self._read(LATEST, (task, version))
        return next((_to_recertified(row) for kept, *row in rows if matches(row, kept)), None)


def calibration_text(calibration: Calibration) -> str:
    """Return a calibration as it is stored; ValueError where a figure of it is not finite."""
    text = msgspec.json.encode(calibration)
    if msgspec.json.decode(text, type=Calibration) != calibration:
        raise ValueError(f"a figure of the calibration is not finite, so it cannot be stored exactly: {calibration}")
    return text.decode()


def _to_recertified(row: Sequence[Any]) -> Recertified:
    task, version, time, before, calibration, doubts, since, who, why = row
    in_force = msgspec.json.decode(calibration, type=Calibration)
    return Recertified(
        task.decode(), version, columns.moment(time), before, in_force, doubts, since, who.decode(), why.decode()
    )
