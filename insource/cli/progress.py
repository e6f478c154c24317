"""Progress bars on standard error while a person watches, and nothing otherwise.

It knows titles and counts; not what is being done.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Report = Callable[[int, int | None], None]
SHOWN_AFTER_SECONDS = 0.5


class Bars:
    """The bars of one command; leaving the context takes them off the screen. Any thread may report.

    A bar that lasts under `shown_after` seconds never appears. `console` stands in for standard error in tests.
    """

    def __init__(self, console: Console | None = None, *, shown_after: float = SHOWN_AFTER_SECONDS) -> None:
        self._console = console
        self._shown_after = shown_after
        self._progress: Progress | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        console = self._console or _stderr()
        if console is not None:
            self._progress = _progress(console, self._shown_after)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            progress, self._progress = self._progress, None
        if progress is not None and progress.tasks:
            progress.stop()

    def say(self, title: str) -> Report:
        """Return a function to call with what is done and the total, None while that is unknown.

        The bar starts with its first call, so that what turns out to be done already leaves no trace.
        """
        bar: list[int] = []

        def report(done: int, total: int | None = None) -> None:
            with self._lock:
                progress = self._progress
                if progress is None:
                    return
                if not bar:
                    progress.start()
                    bar.append(progress.add_task(title, total=total))
                progress.update(bar[0], completed=done, total=total)  # type: ignore[arg-type]

        return report


def _stderr() -> Console | None:
    """Return a console on standard error, or None where nobody watches it."""
    import sys

    if not sys.stderr.isatty():
        return None
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    return None if console.is_dumb_terminal else console


def _progress(console: Console, shown_after: float) -> Progress:
    from rich.progress import (
        BarColumn,
        Progress,
        Task,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table

    class Late(Progress):
        """Shows a bar only once it has lasted."""

        def make_tasks_table(self, tasks: Iterable[Task]) -> Table:
            return super().make_tasks_table([task for task in tasks if _lasted(task) >= shown_after])

    def _lasted(task: Task) -> float:
        return (task.finished_time if task.finished_time is not None else task.elapsed) or 0.0

    return Late(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        redirect_stdout=False,
    )
