"""Rows of a version that drifts, for tests: signals and audits as a ledger has them, drawn from a seed."""

from dataclasses import replace

import numpy as np

from insource.lifecycle.evidence import Row
from insource.store.signals import Signal
from insource.types import Stage
from reliability.rehearsed import NOON, MemoryLedger, audit

KINDS, THRESHOLD = 6, 0.4


def stream(requests, *, seed=0, first=1, strange=0.0, wrong=0.03, audited=0.05, version=1):
    """Return rows in order; `strange` is the share of requests with low scores that are given one answer."""
    random = np.random.default_rng(seed)
    scores, answers = random.beta(2.0, 0.6, size=requests), random.integers(KINDS, size=requests)
    other = random.random(requests) < strange
    scores, answers = np.where(other, scores / 2, scores), np.where(other, 1, answers)
    slips = random.random(requests) < np.where(scores < THRESHOLD, 0.3, wrong)
    picked = random.random(requests) < audited
    rows, seq = [], first
    for n in range(requests):
        score, answer, agrees = float(scores[n]), int(answers[n]), not slips[n]
        rows.append(Signal(seq, NOON, version, score, answer))
        seq += 1
        if score < THRESHOLD:
            reference = answer if agrees else (answer + 1) % KINDS
            rows.append(Signal(seq, NOON, version, None, None, bool(agrees), reference))
            seq += 1
        if picked[n]:
            told = audit(10_000_000 + seq, version, Stage.ACTIVE, agrees=bool(agrees), accepts=score >= THRESHOLD)
            rows.append(Row(seq, replace(told, score=score)))
            seq += 1
    return rows


class SignalLedger(MemoryLedger):
    """A ledger in memory with signals, too."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def write(self, rows):
        """Append rows, numbered anew."""
        for row in rows:
            seq = len(self.rows) + 1
            if isinstance(row, Row):
                self.rows.append(Row(seq, replace(row.audit, request_id=f"r-{seq}")))
            else:
                self.rows.append(row._replace(seq=seq))

    def audits(self, task=None, *, after=0, limit=None):
        """Yield as `LedgerReader.audits`."""
        found = ((row.seq, row.audit) for row in self.rows[after:] if isinstance(row, Row))
        yield from list(found)[:limit]

    def last_row(self):
        """Return as `LedgerReader.last_row`."""
        return len(self.rows)

    def signals(self, task, *, after=0, until):
        """Yield as `LedgerReader.signals`."""
        yield from [row for row in self.rows[after:until] if isinstance(row, Signal)]
