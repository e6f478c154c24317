"""The results of all promises: one JSON file, and docs/reliability.md made from it.

It knows figures and words; it runs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from reliability.harness import Promise

FILE = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
HEAD = """# Reliability

What insource promises about faults, attacks and damaged files, and what was seen when it was tried. Each promise has a
harness in `reliability/` with a control: the same harness, run against a build that is broken on purpose, must fail.

```bash
scripts/soak --list        # every promise, and its last result
scripts/soak R2            # one promise in full; a second call goes on where the first was stopped
scripts/soak --write       # this page, from reliability/results.json
```

The default suite tries a sample of each (`scripts/test`), `scripts/test --all` a larger one. A run of fewer cases than
a full one is marked *sampled*. What a promise does not cover stands below the table.
"""
COLUMNS = "| | promise | figure asked | figure seen | held | cases | command, date |"


@dataclass(frozen=True)
class Result:
    """The outcome of one run: `complaints` empty means held. `date` is the day in UTC, `builds` the source states."""

    id: str
    says: str
    asked: str
    seen: str
    complaints: tuple[str, ...]
    control: str
    open: str
    cases: int
    full: int
    unit: str
    seconds: float
    builds: tuple[str, ...]
    command: str
    date: str

    @property
    def held(self) -> bool:
        """Whether the judge had nothing to say."""
        return not self.complaints


def read_results(path: Path = FILE) -> dict[str, Result]:
    """Return the results by promise; none where there is no file yet."""
    if not path.exists():
        return {}
    rows = json.loads(path.read_text("utf-8"))
    return {row["id"]: Result(**{**row, "complaints": tuple(row["complaints"]), "builds": tuple(row["builds"])})
            for row in rows}  # fmt: skip


def keep_result(result: Result, path: Path = FILE) -> bool:
    """Put a result in the place of the promise's earlier one, and say whether it was.

    A run that held does not replace a larger one that held: a sample must not hide a full run.
    """
    results = read_results(path)
    before = results.get(result.id)
    if before is not None and before.held and result.held and before.cases > result.cases:
        return False
    results[result.id] = result
    rows = [asdict(results[key]) for key in sorted(results, key=_order)]
    path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    return True


def page(results: Mapping[str, Result], promises: Iterable[Promise]) -> str:
    """Return docs/reliability.md."""
    rows = [
        "| | promise | figure asked | figure seen | held | cases | command, date |",
        "|---|---|---|---|---|---|---|",
    ]
    notes = []
    for promise in promises:
        result = results.get(promise.id)
        if result is None:
            rows.append(f"| {promise.id} | {promise.says} | {promise.asked} | not run yet | | | `scripts/soak "
                        f"{promise.id}` |")  # fmt: skip
            continue
        command = f"`{result.command}`, {result.date}"
        rows.append("| " + " | ".join((
            promise.id, promise.says, promise.asked, result.seen, _held(result), _cases(result), command
        )) + " |")  # fmt: skip
        notes += [f"- **{promise.id}**, does not hold: {complaint}" for complaint in result.complaints]
        notes += [f"- **{promise.id}**, not reached yet: {result.open}"] if result.open else []
        notes.append(f"- **{promise.id}**, control: {result.control}")
    return "\n".join([HEAD, *rows, "", "## Controls and limits", "", *(notes or ["Nothing was run yet."])]) + "\n"


def _held(result: Result) -> str:
    return "no" if not result.held else "in part" if result.open else "yes"


def _cases(result: Result) -> str:
    if result.cases < result.full:
        return f"sampled: {result.cases:,} of {result.full:,} {result.unit}"
    return f"{result.cases:,} {result.unit}"


def _order(key: str) -> tuple[str, int]:
    return key[0], int(key[1:])
