"""What there is to watch in a home: its tasks, and its ledger as soon as there is one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from insource.config import Config
    from insource.store.registry import Registry
    from insource.store.signals import Signal
    from insource.types import Audit, Task


def tasks_of(config: Config, registry: Registry) -> Mapping[str, Task]:
    """Return the configured tasks, and those with a version that nobody configured; tiers in the house are none."""
    from insource.types import Task

    more = (name for name in registry.tasks() if "/" not in name and name not in config.tasks)
    return {**config.tasks, **{name: Task(name) for name in more}}


class LaterLedger:
    """The ledger of a home, opened as soon as there is one."""

    def __init__(self, config: Config) -> None:
        self._home = config.home
        self._opened = ExitStack()
        self._reader: Any = None

    def audits(
        self, task: str | None = None, *, after: int = 0, limit: int | None = None
    ) -> Iterator[tuple[int, Audit]]:
        """Yield as `LedgerReader.audits`; nothing before there is a ledger."""
        reader = self._open()
        if reader is not None:
            yield from reader.audits(task, after=after, limit=limit)

    def decision(self, request_id: str) -> Any:
        """Return as `LedgerReader.decision`."""
        reader = self._open()
        return None if reader is None else reader.decision(request_id)

    def last_row(self) -> int:
        """Return as `LedgerReader.last_row`; 0 before there is a ledger."""
        reader = self._open()
        return 0 if reader is None else int(reader.last_row())

    def signals(self, task: str, *, after: int = 0, until: int) -> Iterator[Signal]:
        """Yield as `LedgerReader.signals`."""
        reader = self._open()
        if reader is not None:
            yield from reader.signals(task, after=after, until=until)

    def __enter__(self) -> LaterLedger:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def _open(self) -> Any:
        from insource.store.ledger import FILE
        from insource.store.ledger_reader import LedgerReader

        if self._reader is None and (self._home / FILE).exists():
            self._reader = self._opened.enter_context(LedgerReader(self._home))
        return self._reader
