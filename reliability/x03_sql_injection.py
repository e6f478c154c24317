"""X3: texts that mean something to SQL, wherever a text can be put, and no statement in the source that is composed.

Each text is sent with a harmless twin. Both must come to the same, in replies and in rows; SQLite must have nothing to
complain of. It runs a gateway and commands in this process, so that every connection is watched.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from datetime import datetime, timedelta
from functools import cache, partial
from itertools import count
from pathlib import Path
from typing import Any

import apsw

import insource
from insource.cli.opening import Opener
from insource.config import load
from insource.gateway.parts import Parts, find_decision
from insource.store.ledger import FILE, Ledger
from insource.store.registry import Registry
from insource.types import Decision, Key
from reliability.composed_sql import Finding, read_package
from reliability.enclosed import enclosed
from reliability.harness import Promise, Tally
from reliability.injections import CHAT, PLACES, SECOND, World, chat
from reliability.load import NOON
from reliability.recording import Outside, reply
from reliability.served import make_home
from reliability.sql_payloads import harmless, payload

MOVING = frozenset(("heads", "acts_told", "watches", "sqlite_stat1"))
"""Tables whose rows come with the time, not with requests."""

PACKAGE = Path(insource.__file__).parent
MORE = """
[tasks.kept]
content = "full"
audit_rate = 0
[tasks.queued]
sensitivity = "restricted"
when_kept = "review"
audit_rate = 0
"""
SAID = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"card"},"finish_reason":"stop"}]}'
Plain = apsw.Connection


class Watched(Plain):
    """A connection that notes what SQLite will not have."""

    errors: list[str] = []

    def execute(self, statements: str, *arguments: Any, **options: Any) -> Any:
        """Execute them."""
        with self._noting(statements):
            return super().execute(statements, *arguments, **options)

    def executemany(self, statements: str, *arguments: Any, **options: Any) -> Any:
        """Execute them for each."""
        with self._noting(statements):
            return super().executemany(statements, *arguments, **options)

    @contextmanager
    def _noting(self, statements: str) -> Iterator[None]:
        try:
            yield
        except apsw.SQLError as error:
            self.errors.append(f"{error} in {statements[:120]!r}")
            raise


async def run(cases: range, folder: Path, broken: bool) -> Tally:
    """Put the text of each case and its twin into a place; `broken` looks requests up by a composed statement."""
    tally = Tally()
    tally.count("broken", broken)
    statements, composed = (0, ()) if broken else _source()  # the broken build composes outside of the package
    tally.count("statements", statements)
    for found in composed:
        tally.fail(-1, str(found), "composed")
    with watched() as errors:
        async with _world(folder / "home", broken) as (world, ledger):
            names = ["feedback's request"] if broken else list(PLACES)
            for name in ("text of a task", "text for review", "who and why of acts"):
                await _put(world, ledger, errors, name, "a harmless text")  # what is made at the first of its kind
            before, schema = _rows(world.home), _schema(world.home)
            for case in cases:
                await _try(tally, case, names[case % len(names)], world, ledger, errors)
            for command in SECOND:
                code, told, _ = await _watched(world, ledger, errors, partial(world.run, *command))
                tally.count("read afterwards")
                if told or code not in (0, 1):
                    tally.fail(-1, f"{' '.join(command)} ends with {code} afterwards: {told}", "anomalies")
        _compare(tally, before, schema, world.home)
        for what in world.unforeseen:
            tally.fail(-1, what, "unforeseen")
    return tally


async def _try(tally: Tally, case: int, place: str, world: World, ledger: Ledger, errors: list[str]) -> None:
    text = payload(case)
    got, said, rows = await _put(world, ledger, errors, place, text)
    twin, _, twins_rows = await _put(world, ledger, errors, place, harmless(text))
    tally.count("payloads")
    for error in said:
        tally.fail(case, f"{text[:60]!r} in {place}: {error}", "SQL errors")
    if got != twin:
        tally.fail(case, f"{text[:60]!r} in {place}: {got}, {harmless(text)[:60]!r}: {twin}", "anomalies")
    if rows != twins_rows:
        tally.fail(case, f"{text[:60]!r} in {place} wrote {rows}, its twin {twins_rows}", "anomalies")


async def _put(
    world: World, ledger: Ledger, errors: list[str], place: str, text: str
) -> tuple[Any, list[str], dict[str, int]]:
    return await _watched(world, ledger, errors, lambda: PLACES[place](world, text))


async def _watched(world: World, ledger: Ledger, errors: list[str], act: Any) -> tuple[Any, list[str], dict[str, int]]:
    """Do something; return what it came to, what SQLite complained of, and how many rows each table won."""
    before = _counts(world.home)
    errors.clear()
    try:
        got = await act()
    except (apsw.Error, UnicodeError) as error:
        got = repr(error)
    world.gateway.gateway.recorder.flush()
    await asyncio.wrap_future(ledger.act("x3", "looked", "rows"))  # it is written after all that came before
    after = _counts(world.home)
    return (
        got,
        list(errors),
        {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)},
    )


@contextmanager
def watched() -> Iterator[list[str]]:
    """Watch every connection that is made meanwhile."""
    Watched.errors = []
    apsw.Connection = Watched  # type: ignore[misc]
    try:
        yield Watched.errors
    finally:
        apsw.Connection = Plain  # type: ignore[misc]


@asynccontextmanager
async def _world(home: Path, broken: bool) -> AsyncIterator[tuple[World, Ledger]]:
    home.mkdir()
    with ExitStack() as opened:
        async with Outside(lambda received, number: reply(200, SAID)) as outside:
            file = make_home(home, outside.base_url, default_upstream='"stub"')
            file.write_text(file.read_text() + MORE)
            config = load(file)
            ledger = opened.enter_context(Ledger.open(home, clock=lambda: NOON))
            registry = opened.enter_context(Registry.open(home))
            _, key = registry.create_key(Key("", "x3", NOON, "x3", admin=True), "to administer")
            find = composing if broken else find_decision
            parts = Parts(
                config, ledger, registry, Opener(config), clock=_clock(), coin=lambda _: 1.0, find_decision=find
            )
            async with enclosed(parts) as gateway:
                world = World(gateway, registry, home, key, registry.get("triage").digest)
                await world.ask(CHAT, chat(), {"x-insource-task": "kept"})
                world.kept = world.asked
                while not (home / "proof" / "checkpoint").exists():  # until then nothing can be proved, whatever it is
                    await asyncio.sleep(0.05)
                yield world, ledger


def composing(home: Path, request_id: str) -> Decision | None:
    """Find a decision as a careless build would."""
    connection = apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found = connection.execute(f"SELECT request_id FROM decisions WHERE request_id = '{request_id}'").fetchone()
    finally:
        connection.close()
    return find_decision(home, found[0]) if found else None


def _clock() -> Callable[[], datetime]:
    """Return a clock on which no two moments are the same."""
    ticks = count()
    return lambda: NOON + timedelta(microseconds=next(ticks))


@cache
def _source() -> tuple[int, Sequence[Finding]]:
    checker = read_package(PACKAGE)
    found = checker.check()
    return checker.statements, found


def _databases(home: Path) -> Iterator[tuple[Path, apsw.Connection]]:
    for path in sorted(home.glob("*.db")):
        connection = Plain(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            yield path, connection
        finally:
            connection.close()


def _tables(connection: apsw.Connection) -> list[str]:
    found = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
    return [str(name) for (name,) in found if name not in MOVING]


def _counts(home: Path) -> dict[str, int]:
    found = {}
    for path, connection in _databases(home):
        tables = _tables(connection)
        every = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in tables)
        for name, number in connection.execute(every) if tables else ():
            found[f"{path.stem}.{name}"] = number
    return found


def _rows(home: Path) -> dict[str, set[str]]:
    """Return every row of every table."""
    return {
        f"{path.stem}.{name}": {repr(row) for row in connection.execute(f"SELECT * FROM {name}")}
        for path, connection in _databases(home)
        for name in _tables(connection)
    }


def _schema(home: Path) -> dict[str, Any]:
    return {path.name: (connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name, type").fetchall(),
                        connection.execute("PRAGMA user_version").get)
            for path, connection in _databases(home)}  # fmt: skip


def _compare(tally: Tally, before: dict[str, set[str]], schema: dict[str, Any], home: Path) -> None:
    """Every row that was there before must be there still, and the schema must be the same."""
    after = _rows(home)
    tally.count("rows kept", sum(map(len, before.values())))
    for name, rows in before.items():
        if lost := rows - after.get(name, set()):
            tally.fail(-1, f"{len(lost)} rows of {name} are not as they were: {min(lost)[:200]}", "anomalies")
    if _schema(home) != schema:
        tally.fail(-1, "the schema is another one", "anomalies")


def judge(tally: Tally) -> list[str]:
    """SQLite may have nothing to complain of, a text may come to nothing but its twin, and no statement is composed."""
    counts, found = tally.counts, []
    for what, told in (
        ("composed", "statements in the source are composed"), ("SQL errors", "statements were refused by SQLite"),
        ("anomalies", "texts came to something else than their harmless twins, or rows or schema were changed"),
        ("unforeseen", "requests or commands ended in an error that nobody foresaw"),
    ):  # fmt: skip
        if counts[what]:
            found.append(f"{counts[what]:,} {told}")
    tried = [counts[what] for what in ("payloads", "rows kept", "read afterwards")]
    if not all(tried) or not (counts["statements"] or counts["broken"]):
        found.append("nothing was tried")
    return found


def seen(tally: Tally) -> str:
    """One line."""
    counts = tally.counts
    return (
        f"{counts['composed']} composed statements; {counts['payloads']:,} payloads in {len(PLACES)} places of "
        "requests and commands, each with a harmless twin: "
        f"{counts['SQL errors']} errors of SQLite, {counts['anomalies']} anomalies"
    )


PROMISE = Promise(
    id="X3",
    says="No injection in SQL",
    asked="source test: 0 composed statements; 10,000 payloads in headers, paths, queries, bodies, keys, feedback, "
    "administration, commands, error paths: 0 syntax errors of the database, 0 anomalies",
    unit="payloads, each sent with its twin",
    full=10_000,
    sample=len(PLACES),
    slow=600,
    control=8,
    chunk=500,
    run=run,
    judge=judge,
    seen=seen,
    open="SQLite only: there is no PostgreSQL store yet. Errors of SQLite are counted where a statement is prepared "
    "and first run; one that comes while rows are read shows as another status than the twin's",
)
