"""Reading test figures out of a version's lineage, which any version of insource may have written.

What is missing or of another shape is None; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from insource.governance.figures import AnswerFigures


def test_figure(lineage: Mapping[str, Any], name: str) -> float | None:
    """Return a figure of the test rows ("accuracy", "macro_f1"), or None."""
    return _number(_test(lineage).get(name))


def per_answer(lineage: Mapping[str, Any]) -> tuple[AnswerFigures, ...]:
    """Return every answer's figures on the test rows; empty where the lineage has none."""
    rows = _test(lineage).get("per_answer", lineage.get("per_answer"))
    if not isinstance(rows, list | tuple):
        return ()
    return tuple(
        AnswerFigures(
            answer=str(row.get("answer", "")),
            rows=_count(row.get("rows")),
            accepted=_count(row.get("accepted")),
            missed=_count(row.get("missed")),
            missed_upper_bound=_number(row.get("missed_upper_bound")),
        )
        for row in rows
        if isinstance(row, Mapping)
    )


def _test(lineage: Mapping[str, Any]) -> Mapping[str, Any]:
    found = lineage.get("test")
    return found if isinstance(found, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
