"""The ledger's recorded requests as examples, for `insource discover` without a file.

It reads what was kept (`content = "full"`); what only has a digest it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from insource.errors import DataError
from insource.store.ledger import FILE
from insource.store.ledger_reader import LedgerReader, LedgerRow
from insource.types import Example, Message, Request

_EVERY = 1_000


def recorded(home: Path, report: Callable[[int, int | None], None], limit: int | None = None) -> list[Example]:
    """Return the requests whose text the ledger holds, with the reference as answer and the task they were given to.

    The text is what the specialist sees: no system prompt is kept. What was accepted here without an audit has no
    reference, so it has no answer. Raises DataError where there is no ledger or it holds no text, StoreError.
    """
    if not (home / FILE).is_file():
        raise DataError(f"There is no ledger in {home}; recorded requests were expected. Name a traffic file, or serve "
                        "first.")  # fmt: skip
    found: list[Example] = []
    seen = 0
    with LedgerReader(home) as reader:
        for row in reader.rows():
            seen += 1
            example = _example(row)
            if example is not None:
                found.append(example)
            if seen % _EVERY == 0:
                report(seen, None)
            if limit is not None and len(found) >= limit:
                break
    report(seen, seen)
    if not found:
        raise DataError(
            f"The ledger in {home} holds {seen:,} decisions and the text of none; texts were expected. Set content = "
            '"full" for a task to keep them from then on, or name a traffic file.'
        )
    return found


def _example(row: LedgerRow) -> Example | None:
    content = row.content
    if content is None or not content.text:
        return None
    request = Request(row.decision.request_id, (Message("user", content.text),))
    usage = row.settlement.usage if row.settlement is not None else None
    return Example(request, content.reference or None, task=row.decision.task, time=row.decision.time, usage=usage)
