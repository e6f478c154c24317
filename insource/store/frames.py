"""What travels between the ledger's process and the others: frames of a length and a msgpack body, shapes checked.

It knows the rows' shapes and nothing of sockets or SQLite. The client numbers its jobs; the server answers by number.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from insource.errors import ArtifactDamaged, InsourceError, Overloaded, StoreBusy, StoreError, StoreFull, StoreTooNew
from insource.store.rows import Rows

LARGEST = 512 * 2**20
HEAD = 4

DecisionRow = tuple[
    str, int, str | None, str, str, int | None, str | None, float | None, float | None, bool, float, str | None,
    bytes | None, str | None, str | None, int | None, str | None
]  # fmt: skip
SettlementRow = tuple[
    str, int, int, str, float, float | None, int | None, int | None, str | None, str | None, float | None, str | None,
    bytes | None, bool | None, int | None
]  # fmt: skip
AuditRow = tuple[
    str, int, str, int, bool, bool | None, str | None, bytes | None, bool | None, str | None, float | None, float | None
]
ActRow = tuple[int, str, str, str, str | None]
FeedbackRow = tuple[str, int, str, str, str, str]
ContentRow = tuple[bytes, bytes | None, bytes | None, bytes | None, int, str | None, int, str | None]

TABLES = ("decisions", "settlements", "audits", "acts", "feedback", "contents")
"""The order of a job's rows on the wire; None where the job has no row for the table."""


class SentJob(msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True):
    """One job: a row of one table, and the content that belongs to it."""

    patient: bool
    decision: DecisionRow | None
    settlement: SettlementRow | None
    audit: AuditRow | None
    act: ActRow | None
    feedback: FeedbackRow | None
    content: ContentRow | None

    def rows(self) -> Rows:
        """Return the job's rows; ValueError where it is not one row, or a content stands with one that has none."""
        given = (self.decision, self.settlement, self.audit, self.act, self.feedback)
        rows: Rows = tuple((table, row) for table, row in zip(TABLES, given, strict=False) if row is not None)
        if len(rows) != 1 or (self.content is not None and rows[0][0] in ("acts", "feedback")):
            raise ValueError("a job is one row, with a content unless it is an act or feedback")
        return rows if self.content is None else (*rows, ("contents", self.content))


class Sent(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a client sends: jobs numbered from `first` on, or, as number `first`, the wish to erase what has expired."""

    first: int
    jobs: list[SentJob]
    purge: bool = False


class Told(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What the server answers: jobs that are durable, jobs that failed (number, code, message), rows erased."""

    done: list[int]
    failed: list[tuple[int, str, str]]
    erased: list[tuple[int, int]] = []


WireJob = tuple[object, ...]
"""A job as the client encodes it: whether it is patient, then a row or None for each of TABLES."""


def wire_job(rows: Rows, patient: bool) -> WireJob:
    """Return what `SentJob` reads."""
    job: list[object] = [patient, *(None for _ in TABLES)]
    for table, values in rows:
        job[_PLACES[table]] = values
    return tuple(job)


def frame(body: bytes) -> bytes:
    """Put its length before a body; ValueError where it is longer than LARGEST."""
    if len(body) > LARGEST:
        raise ValueError(f"a frame of {len(body):,} bytes; at most {LARGEST:,} are taken")
    return len(body).to_bytes(HEAD, "big") + body


class Splitter:
    """Cuts a stream of bytes into the bodies of frames."""

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield every body that is now complete; ValueError for a length beyond LARGEST."""
        held = self._held
        held += data
        start = 0
        while len(held) - start >= HEAD:
            length = int.from_bytes(held[start : start + HEAD], "big")
            if length > LARGEST:
                raise ValueError(f"a frame of {length:,} bytes was announced; at most {LARGEST:,} are taken")
            end = start + HEAD + length
            if len(held) < end:
                break
            yield bytes(held[start + HEAD : end])
            start = end
        if start:
            del held[:start]


def error_of(code: str, message: str) -> InsourceError:
    """Return the error that the server told; a StoreError where the code is none of the store's."""
    return _KINDS.get(code, StoreError)(message)


_PLACES = {table: place for place, table in enumerate(TABLES, start=1)}
_KINDS: dict[str, type[InsourceError]] = {
    kind.code: kind for kind in (StoreError, ArtifactDamaged, StoreBusy, StoreFull, StoreTooNew, Overloaded)
}
