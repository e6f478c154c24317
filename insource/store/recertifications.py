"""Thresholds raised after a doubt: the version goes on with another calibration, and what was there before stays.

It knows calibrations, not how one was found. `registry` holds the file; doubts end with it, so they stand below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from insource.errors import StageConflict
from insource.store import columns
from insource.store.columns import Act
from insource.store.doubts import END, INSERT_ACT, Doubts
from insource.types import Calibration

RECERTIFIED = "task, version, time, before, calibration, doubts, since, who, why"
INSERT = f"INSERT INTO recertifications ({RECERTIFIED}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
LATEST = (
    f"SELECT {RECERTIFIED} FROM recertifications WHERE task = ?1 AND (?2 IS NULL OR version = ?2) ORDER BY seq DESC"
)
IN_FORCE = """
coalesce((SELECT r.calibration FROM recertifications r WHERE r.task = versions.task AND r.version = versions.version
          ORDER BY r.seq DESC LIMIT 1), calibration)
"""
"""The calibration that a version serves by: that of its last re-certification, else the one it was registered with."""


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
            values = (told.task, told.version, time, told.before, text, told.doubts, told.since, who, why)
            connection.execute(INSERT, values)
            connection.execute(INSERT_ACT, columns.act_values(Act(told.time, who, "re-certify", name, why)))
            connection.execute(END, (time, told.task))
            if connection.changes():
                connection.execute(INSERT_ACT, columns.act_values(Act(told.time, who, "end doubt", name, why)))

    def recertified(self, task: str, version: int | None = None) -> Recertified | None:
        """Return the last re-certification of a version, or of any version of the task; None where there was none."""
        rows = self._read(LATEST, (task, version))
        return _to_recertified(rows[0]) if rows else None


def calibration_text(calibration: Calibration) -> str:
    """Return a calibration as it is stored; ValueError where a figure of it is not finite."""
    text = msgspec.json.encode(calibration)
    if msgspec.json.decode(text, type=Calibration) != calibration:
        raise ValueError(f"a figure of the calibration is not finite, so it cannot be stored exactly: {calibration}")
    return text.decode()


def _to_recertified(row: Sequence[Any]) -> Recertified:
    read = Recertified(*row)
    calibration = msgspec.json.decode(row[4], type=Calibration)
    return replace(read, time=columns.moment(row[2]), calibration=calibration)
