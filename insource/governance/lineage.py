"""Reading test figures out of a version's lineage and acts, which any version of insource may have written.

What is missing or of another shape is None; nothing here raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from insource.governance.figures import AnswerFigures, Promotion
from insource.store.columns import Act

_DETAIL = re.compile(r"(?P<why>.*) \(before: (?P<before>\S+); digest \S+?(; row \S+)?\)", re.DOTALL)


def figure_on_test(lineage: Mapping[str, Any], name: str) -> float | None:
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


def promotion_of(act: Act) -> Promotion:
    """Return the promotion that an act of the registry records; the reason as written where it has another shape."""
    found = _DETAIL.fullmatch(act.detail or "")
    if found is None:
        return Promotion(act.time, act.who, act.detail or "", None)
    return Promotion(act.time, act.who, found["why"], None if found["before"] == "none" else found["before"])


def _test(lineage: Mapping[str, Any]) -> Mapping[str, Any]:
    found = lineage.get("test")
    return found if isinstance(found, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
