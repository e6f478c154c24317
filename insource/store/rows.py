"""From a noun and the text that goes with it to the rows of one job, the same in every process that writes.

It knows the tables' names and the retention; it knows no connection and no number of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from insource.store import columns
from insource.store.columns import Act, Feedback, Values
from insource.store.contents import content_rows
from insource.types import Audit, Content, Decision, Settlement

Rows = tuple[tuple[str, Values], ...]


class RowMaker:
    """Makes rows; contents expire `retention` after their time."""

    def __init__(self, retention: timedelta) -> None:
        self._retention = retention

    def decision(self, decision: Decision, content: Content | None, keep_text: bool) -> Rows:
        """Return the decision's row, and its content's where there is one."""
        return self._rows("decisions", columns.decision_values, decision, content, keep_text)

    def settlement(self, settlement: Settlement, content: Content | None, keep_text: bool) -> Rows:
        """Return the settlement's row, and its content's where there is one."""
        return self._rows("settlements", columns.settlement_values, settlement, content, keep_text)

    def audit(self, audit: Audit, content: Content | None, keep_text: bool) -> Rows:
        """Return the audit's row, and its content's where there is one."""
        return self._rows("audits", columns.audit_values, audit, content, keep_text)

    def act(self, act: Act) -> Rows:
        """Return the act's row."""
        return (("acts", columns.act_values(act)),)

    def feedback(self, feedback: Feedback) -> Rows:
        """Return the row of a person's answer."""
        return (("feedback", columns.feedback_values(feedback)),)

    def _rows(self, table: str, values: Callable[[Any, bytes | None], Values], noun: Any, content: Content | None,
              keep_text: bool) -> Rows:  # fmt: skip
        if content is None:
            return ((table, values(noun, None)),)
        digest, kept = content_rows(content, self._retention, keep_text)
        return ((table, values(noun, digest)), ("contents", kept))
