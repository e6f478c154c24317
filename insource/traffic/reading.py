"""From a traffic file to examples, with every line that could not be read counted and the first ten named.

It knows lines and shapes; not which text a specialist sees, nor whether the answers form a closed set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from insource.errors import DataError, TrafficError
from insource.traffic.fields import BadShape, answer_of, kind_of, messages_of, name_of, time_of
from insource.traffic.lines import MAX_LINE_BYTES, Line, LineFile
from insource.traffic.shapes import parts_of
from insource.traffic.wire import headers_of
from insource.types import Example, Request

SHOWN = 10
"""So many bad lines are named; the rest are counted."""

_ENDINGS = (".gz", ".jsonl", ".ndjson", ".json")


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that could not be read: its file, its number (from 1) and why."""

    file: str
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a file held: its examples in their order, how many lines were left out, and the first ten of those.

    `lines` counts the lines that are not blank; `skipped` those of them that are not among the examples.
    """

    path: Path
    examples: tuple[Example, ...]
    skipped: int = 0
    bad: tuple[BadLine, ...] = ()
    lines: int = 0

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that lines name themselves, by alphabet."""
        return tuple(sorted({example.task for example in self.examples if example.task is not None}))


def read(
    path: str | Path,
    *,
    skip_bad: bool = False,
    progress: Callable[[int, int], None] | None = None,
    limit: int | None = None,
) -> Traffic:
    """Read a file of JSON lines, plain or gzip; blank lines do not count.

    progress: called now and then with bytes read and bytes in all (as on disk). limit: stop after so many examples.
    Raises TrafficError where the file cannot be opened or has no lines, and where lines are bad unless `skip_bad`
    leaves them out; then only where no line could be read.
    """
    path = Path(path)
    stem = stem_of(path)
    examples: list[Example] = []
    bad: list[BadLine] = []
    lines = skipped = 0
    with LineFile(path, progress) as file:
        for line in file:
            if limit is not None and len(examples) >= limit:
                break
            lines += 1
            try:
                examples.append(_example(line, stem))
            except BadShape as error:
                skipped += 1
                if len(bad) < SHOWN:
                    bad.append(BadLine(str(path), line.number, str(error)))
        damage = file.damage
    traffic = Traffic(path, tuple(examples), skipped, tuple(bad), lines)
    _check(traffic, damage, skip_bad, limit)
    return traffic


def examples_of_task(traffic: Traffic, name: str | None = None) -> tuple[str, tuple[Example, ...]]:
    """Return a task's name and its examples: those whose lines name it, or all where no line names a task.

    Without a name, the one task of the lines, or else a name made from the file's. Raises DataError where the lines
    name several tasks and none was chosen, or none of them the one chosen.
    """
    tasks = traffic.tasks
    if not tasks:
        return name or _task_name(traffic.path), traffic.examples
    named = ", ".join(tasks[:SHOWN]) + (", ..." if len(tasks) > SHOWN else "")
    if name is None and len(tasks) > 1:
        raise DataError(f"{traffic.path} holds {len(tasks)} tasks: {named}; one was expected. Choose it with --task.")
    name = name or tasks[0]
    if name not in tasks:
        raise DataError(f"No line of {traffic.path} belongs to task '{name}'; its lines name: {named}. Choose one.")
    return name, tuple(example for example in traffic.examples if example.task == name)


def stem_of(path: Path) -> str:
    """Return a file's name without .jsonl, .gz and the like."""
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name or path.name


def _task_name(path: Path) -> str:
    letters = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in stem_of(path).lower())
    return letters.strip("._-")[:64] or "task"


_decode = msgspec.json.Decoder().decode


def _example(line: Line, stem: str) -> Example:
    value = _decoded(line)
    if not isinstance(value, dict):
        raise BadShape(f"{kind_of(value)}; one JSON object on each line was expected")
    parts = parts_of(value)
    model = parts.model if isinstance(parts.model, str) else ""
    task = name_of(parts.task, "task") or (model[5:] if model.startswith("task:") else None) or None
    request = Request(
        f"{stem}:{line.number}",
        messages_of(parts.messages),
        model,
        parts.fields,
        headers_of(parts.headers),
        stream=parts.fields.get("stream") is True,
    )
    return Example(
        request,
        answer_of(parts.answer),
        answer_of(parts.gold),
        task,
        time_of(parts.time),
        name_of(parts.group, "group"),
        parts.usage,
    )


def _decoded(line: Line) -> object:
    if line.data is None:
        raise BadShape(f"longer than {MAX_LINE_BYTES // 2**20} MB")
    try:
        return _decode(line.data)
    except RecursionError:
        raise BadShape("nested too deeply") from None
    except (UnicodeDecodeError, msgspec.DecodeError) as error:
        _check_utf8(line.data, line.offset)
        raise BadShape(f"not JSON: {str(error).removeprefix('JSON is malformed: ')}") from None


def _check_utf8(data: bytes, offset: int) -> None:
    """Raise BadShape with the byte's place in the (unpacked) file if the bytes are not UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        place = offset + error.start
        raise BadShape(f"not UTF-8: byte 0x{data[error.start]:02x} at offset {place:,} of the file") from None


def _check(traffic: Traffic, damage: str | None, skip_bad: bool, limit: int | None) -> None:
    """Raise TrafficError where the file holds nothing, or bad lines that nobody allowed to leave out."""
    path, good = traffic.path, len(traffic.examples)
    if damage is not None and not (skip_bad and good):
        raise TrafficError(
            f"{path} is a gzip file that ends early or is damaged ({damage}), after {traffic.lines:,} whole lines; a "
            "complete file was expected. Fetch it again, or pass --skip-bad to go on with those lines."
        )
    if traffic.lines == 0 and limit != 0:
        raise TrafficError(f"{path} has no lines; one JSON object on each line was expected. Check the file.")
    if traffic.skipped and (not skip_bad or not good):
        count = f"{traffic.skipped:,} of {traffic.lines:,} lines"
        raise TrafficError(
            f"{count} cannot be read:\n{_report(traffic.bad, traffic.skipped)}\nOne JSON object on each line was "
            f"expected. Mend the lines{'' if skip_bad else ', or pass --skip-bad to leave them out'}."
        )


def _report(bad: Sequence[BadLine], count: int) -> str:
    shown = "\n".join(f"  {line}" for line in bad)
    return shown if count <= len(bad) else f"{shown}\n  ... and {count - len(bad):,} more"
