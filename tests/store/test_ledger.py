import asyncio
import stat
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import apsw
import pytest

from insource.errors import StoreBusy, StoreError, StoreFull, StoreTooNew
from insource.store import columns, migrations
from insource.store.contents import content_digest
from insource.store.database import open_database
from insource.store.ledger import FILE, Ledger
from insource.store.ledger_reader import LedgerReader
from insource.store.proof.verify import Outside, verify
from insource.types import Outcome, Reason, Usage

SECRET = "where is my card, says the canary"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


def bytes_on_disk(home):
    return b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())


def sealed_text(home, seq):
    connection = apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("SELECT text FROM contents WHERE seq = ?", (seq,)).get
    finally:
        connection.close()


async def settled(*futures):
    await asyncio.gather(*map(asyncio.wrap_future, futures))


async def test_what_is_written_is_read_again(open_ledger, make, home):
    decision = make.decision(1, detail="a detail – with a dash")
    settlement = make.settlement(1, cost=Decimal("12345678901234567890.000000000000000001"), detail="settled")
    audit = make.audit(1, agrees=None, detail="no reference came")
    ledger = open_ledger()
    await ledger.append(decision)
    await settled(ledger.settle(settlement), ledger.audit(audit), ledger.act("ada", "pause", "triage", "drill"))
    with LedgerReader(home) as reader:
        row = reader.decision("r-1")
        acts = reader.acts("triage")
        assert reader.decision("r-2") is None
    assert (row.decision, row.settlement, row.audit, row.audits) == (decision, settlement, audit, (audit,))
    assert (row.content, row.content_digest, row.aborted) == (None, None, False)
    assert [(act.who, act.what, act.detail) for act in acts] == [("ada", "pause", "drill")]


async def test_the_least_that_a_decision_may_say_is_read_again(open_ledger, make, home):
    decision = make.decision(
        1, outcome=Outcome.ESCALATED, reason=Reason.NO_TASK, task=None, version=None, digest=None, score=None,
        threshold=None, audited=False, audit_rate=0.0,
    )  # fmt: skip
    settlement = make.settlement(1, usage=None, cost=None, cost_saved=None, joules=None)
    ledger = open_ledger()
    await ledger.append(decision)
    await settled(ledger.settle(settlement))
    with LedgerReader(home) as reader:
        row = reader.decision("r-1")
    assert (row.decision, row.settlement, row.audit) == (decision, settlement, None)


def test_the_command_line_may_append_blocking(open_ledger, make, home):
    open_ledger().append_now(make.decision(1), make.content(1), keep_text=True)
    with LedgerReader(home) as reader:
        assert reader.decision("r-1").content == make.content(1)


async def test_files_are_private(open_ledger, make, home):
    await open_ledger().append(make.decision(1))
    with LedgerReader(home):
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in home.iterdir()}
    assert files.pop("proof") == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (home / "proof").rglob("*") if file.is_file()} == {0o600}
    databases = [f"{name}{end}" for name in ("ledger.db", "content_keys.db") for end in ("", "-wal", "-shm")]
    assert files == dict.fromkeys((*databases, "ledger.lock"), 0o600)


async def test_content_is_kept_only_where_asked(open_ledger, make, home):
    content = make.content(1, text=SECRET)
    ledger = open_ledger()
    await ledger.append(make.decision(1), content)
    assert SECRET.encode() not in bytes_on_disk(home)
    with LedgerReader(home) as reader:
        row = reader.decision("r-1")
        assert row.content is None and len(row.content_digest) == 32
        assert reader.proves(content)
        assert not reader.proves(replace(content, text=SECRET + "?"))
        assert not reader.proves(replace(content, answer=None))
    await ledger.append(make.decision(2), make.content(2, text=SECRET), keep_text=True)
    with LedgerReader(home) as reader:
        assert reader.decision("r-2").content == make.content(2, text=SECRET)
    assert SECRET.encode() not in bytes_on_disk(home)  # sealed
    assert sealed_text(home, 3) in bytes_on_disk(home)  # the control: the scan does find what is there


async def test_equal_texts_have_different_digests(open_ledger, make, home):
    ledger = open_ledger()
    for n in (1, 2):
        await ledger.append(make.decision(n), make.content(n, text=SECRET))
    with LedgerReader(home) as reader:
        first, second = (row.content_digest for row in reader.rows())
    assert first != second


async def test_content_that_comes_later_is_joined(open_ledger, make, home):
    ledger = open_ledger()
    await ledger.append(make.decision(1), make.content(1, text="", answer=None), keep_text=True)
    await settled(
        ledger.settle(make.settlement(1), make.content(1, text="", answer="lost \ud800 card"), keep_text=True),
        ledger.audit(make.audit(1), make.content(1, text="", answer=None, reference="card\0"), keep_text=True),
    )
    with LedgerReader(home) as reader:
        content = reader.decision("r-1").content
    assert content == make.content(1, text="", answer="lost \ud800 card", reference="card\0")


async def test_expired_content_is_erased_from_the_disk_while_its_row_stays(open_ledger, make, home, noon, later):
    ledger = open_ledger(retention_days=30)
    old, young = make.content(1, text=SECRET), make.content(2, time=noon + timedelta(days=10))
    await ledger.append(make.decision(1), old, keep_text=True)
    await ledger.append(make.decision(2), young, keep_text=True)
    assert await ledger.purge(noon + timedelta(days=30, microseconds=-1)) == 0
    sealed = sealed_text(home, 2)
    assert sealed in bytes_on_disk(home)
    assert await ledger.purge(later) == 1
    assert sealed not in bytes_on_disk(home)
    with LedgerReader(home) as reader:
        row = reader.decision("r-1")
        assert row.decision == make.decision(1) and row.content is None and len(row.content_digest) == 32
        assert not reader.proves(old)
        assert reader.decision("r-2").content == young
        assert [(act.what, act.detail) for act in reader.acts("contents")] == [
            ("purge", "1 expired, or of subjects that were erased")
        ]


async def test_much_expired_content_is_erased_in_portions(open_ledger, make, home, later):
    ledger = open_ledger()
    await asyncio.gather(
        *[ledger.append(make.decision(n), make.content(n, text=SECRET * (n % 7)), keep_text=True) for n in range(2_001)]
    )
    sealed = [sealed_text(home, seq) for seq in (3, 2_000)]
    assert await ledger.purge(later) == 2_001
    assert await ledger.purge(later) == 0
    assert not any(each in bytes_on_disk(home) for each in sealed)


async def test_a_reader_in_the_way_delays_only_the_emptying_of_the_log(open_ledger, make, home, later):
    ledger = open_ledger()
    await ledger.append(make.decision(1), make.content(1, text=SECRET), keep_text=True)
    reader = apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM decisions").fetchall()
    sealed = sealed_text(home, 2)
    assert await ledger.purge(later) == 1
    assert sealed in bytes_on_disk(home)
    reader.execute("COMMIT")
    assert await ledger.purge(later) == 0
    assert sealed not in bytes_on_disk(home)
    reader.close()


async def test_a_mistaken_time_reaches_its_caller_and_nobody_else(open_ledger, make, later):
    ledger = open_ledger()
    with pytest.raises(TypeError):
        await ledger.purge(later.replace(tzinfo=None))
    with pytest.raises(TypeError):
        await ledger.append(make.decision(1, time=later.replace(tzinfo=None)))
    await ledger.append(make.decision(2))


WRITES = [
    "UPDATE {table} SET time = time + 1",
    "DELETE FROM {table}",
    "INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
]


@pytest.fixture
async def full_ledger(open_ledger, make, home):
    ledger = open_ledger()
    await ledger.append(make.decision(1), make.content(1), keep_text=True)
    await settled(ledger.settle(make.settlement(1)), ledger.audit(make.audit(1)), ledger.act("ada", "look", "triage"))
    ledger.close()
    connection = apsw.Connection(str(home / FILE))
    connection.execute("PRAGMA recursive_triggers = ON")
    yield connection
    connection.close()


@pytest.mark.parametrize("table", ["decisions", "settlements", "audits", "acts"])
@pytest.mark.parametrize("write", WRITES)
async def test_rows_are_append_only(full_ledger, table, write):
    with pytest.raises(apsw.ConstraintError, match=f"{table} are append-only"):
        full_ledger.execute(write.format(table=table))


@pytest.mark.parametrize("table", ["decisions", "settlements", "audits", "acts"])
@pytest.mark.parametrize("write", WRITES)
async def test_control_without_its_triggers_a_table_can_be_changed(full_ledger, table, write):
    full_ledger.execute(f"DROP TRIGGER {table}_are_not_changed; DROP TRIGGER {table}_are_not_deleted")
    full_ledger.execute(write.format(table=table))
    assert full_ledger.changes() >= 1


async def test_contents_may_be_erased_but_not_changed(full_ledger):
    with pytest.raises(apsw.ConstraintError, match="never changed"):
        full_ledger.execute("UPDATE contents SET text = x'00'")
    full_ledger.execute("DELETE FROM contents")
    assert full_ledger.changes() == 1


async def test_one_refused_row_fails_alone(open_ledger, make, home):
    ledger = open_ledger()
    await ledger.append(make.decision(7))
    results = await asyncio.gather(
        *[ledger.append(make.decision(n)) for n in range(20)],
        ledger.append(make.decision("huge", version=2**63)),
        return_exceptions=True,
    )
    refused = results.pop(7)
    assert isinstance(refused, StoreError) and "refused a row" in str(refused) and "new identifier" in str(refused)
    assert isinstance(results.pop(), OverflowError)
    assert set(results) == {None}
    ledger.close()
    with LedgerReader(home) as reader:
        assert sorted(row.decision.request_id for row in reader.rows()) == sorted(f"r-{n}" for n in range(20))


async def test_all_rows_share_one_sequence_without_gaps(open_ledger, make, home):
    for start in (0, 10):
        ledger = open_ledger()
        await asyncio.gather(*[ledger.append(make.decision(start + n)) for n in range(10)])
        await asyncio.gather(
            *[asyncio.wrap_future(ledger.settle(make.settlement(start + n))) for n in range(10)],
            *[ledger.append(make.decision(start + n)) for n in range(10)],
            return_exceptions=True,
        )
        ledger.close()
    connection = apsw.Connection(str(home / FILE))
    tables = ("decisions", "settlements", "acts")
    numbers = [row[0] for table in tables for row in connection.execute(f"SELECT seq FROM {table}")]
    connection.close()
    assert sorted(numbers) == list(range(1, 43))  # 20 decisions, 20 settlements, 2 starts


async def test_a_settlement_without_its_decision_is_refused_aloud(open_ledger, make, caplog):
    ledger = open_ledger()
    with pytest.raises(StoreError, match="refused a row"):
        await settled(ledger.settle(make.settlement("nobody")))
    assert ledger.lost == 1 and "not written" in caplog.text


async def test_a_full_disk_refuses_decisions_keeps_settlements_and_recovers(open_ledger, make, home, later):
    ledger = open_ledger(max_pages=60)
    bulk = "x" * 20_000
    stored = 0
    with pytest.raises(StoreFull, match=r"No room left to write .*ledger\.db.*earlier ones are.*Free some space"):
        for stored in range(100):
            await ledger.append(make.decision(stored), make.content(stored, text=bulk), keep_text=True)
    assert 5 < stored < 99
    kept = [ledger.settle(make.settlement(n), make.content(n, text=bulk), keep_text=True) for n in range(3)]
    with pytest.raises(StoreFull):
        await ledger.append(make.decision("refused"), make.content("refused", text=bulk), keep_text=True)
    assert ledger.waiting == 3 and not any(future.done() for future in kept)
    with LedgerReader(home) as reader:
        assert [row.decision.request_id for row in reader.rows()] == [f"r-{n}" for n in range(stored)]

    assert await ledger.purge(later) == stored  # room again
    await ledger.append(make.decision("after"), make.content("after", text=bulk), keep_text=True)
    await settled(*kept)
    ledger.close()
    with LedgerReader(home) as reader:
        rows = list(reader.rows())
    assert [row.decision.request_id for row in rows] == [*(f"r-{n}" for n in range(stored)), "r-after"]
    assert [row.settlement for row in rows[:4]] == [*(make.settlement(n) for n in range(3)), None]


async def test_closing_on_a_full_disk_says_what_was_lost(open_ledger, make, caplog):
    ledger = open_ledger(max_pages=60)
    await ledger.append(make.decision(1))
    kept = ledger.settle(make.settlement(1), make.content(1, text="x" * 300_000), keep_text=True)
    with pytest.raises(StoreError, match="1 rows .*could not be written"):
        ledger.close()
    assert isinstance(kept.exception(0), StoreFull) and "not written" in caplog.text


def test_a_ledger_that_cannot_be_opened_leaves_the_writers_place_free(open_ledger, home):
    open_ledger().close()
    connection = apsw.Connection(str(home / FILE))
    connection.execute("PRAGMA user_version = 99")
    for _ in range(2):
        with pytest.raises(StoreTooNew, match="has schema 99"):
            open_ledger()
    connection.execute(f"PRAGMA user_version = {len(migrations.LEDGER)}")
    connection.close()
    open_ledger()


def test_one_ledger_has_one_writer(open_ledger, home):
    first = open_ledger()
    with pytest.raises(StoreBusy, match="It takes one writer"):
        open_ledger()
    first.close()
    open_ledger()  # the control: once the lock is free, so is the ledger


async def test_many_readers_beside_the_writer(open_ledger, make, home):
    ledger = open_ledger()
    with LedgerReader(home) as one, LedgerReader(home) as two:
        for n in range(5):
            await ledger.append(make.decision(n))
            assert one.decision(f"r-{n}") == two.decision(f"r-{n}") != None  # noqa: E711


def test_a_reader_needs_a_ledger(home):
    with pytest.raises(StoreError, match=r"ledger\.db does not exist. It is made by the first `insource serve`"):
        LedgerReader(home)


async def test_close_writes_what_was_queued_and_takes_nothing_more(open_ledger, make, home):
    ledger = open_ledger()
    await ledger.append(make.decision(1))
    future = ledger.settle(make.settlement(1))
    ledger.close()
    assert future.result(0) is None
    with pytest.raises(StoreError, match="is closed"):
        await ledger.append(make.decision(2))


async def test_rows_come_in_order_by_task_since_and_after(open_ledger, make, home, noon):
    ledger = open_ledger()
    for n in range(6):
        await ledger.append(make.decision(n, task="a" if n % 2 else "b", time=noon + timedelta(hours=n)))
    with LedgerReader(home) as reader:
        names = lambda rows: [row.decision.request_id for row in rows]  # noqa: E731
        assert names(reader.rows()) == [f"r-{n}" for n in range(6)]
        assert names(reader.rows("a")) == ["r-1", "r-3", "r-5"]
        assert names(reader.rows("a", since=noon + timedelta(hours=3))) == ["r-3", "r-5"]
        assert names(reader.rows(after=reader.decision("r-3").seq)) == ["r-4", "r-5"]
        assert names(reader.rows("c")) == []


async def test_long_readings_come_in_pages_and_end_at_the_end(open_ledger, make, home):
    ledger = open_ledger()
    await asyncio.gather(*[ledger.append(make.decision(n)) for n in range(2_000)])
    with LedgerReader(home) as reader:
        assert len({row.decision.request_id for row in reader.rows()}) == 2_000


async def test_totals(open_ledger, make, home, noon):
    ledger = open_ledger()
    escalated = {"outcome": Outcome.ESCALATED, "reason": Reason.BELOW_THRESHOLD, "audited": False}
    for n in range(10):
        await ledger.append(make.decision(n, **({} if n < 6 else escalated)))
    await ledger.append(make.decision(10, task=None, version=None, **escalated | {"reason": Reason.NO_TASK}))
    for n in range(6):
        ledger.settle(make.settlement(n, seconds=0.001 * (n + 1)))
    for n in range(6, 10):
        ledger.settle(make.settlement(n, seconds=1.0, cost=Decimal("0.1"), cost_saved=None, joules=None))
    await settled(
        ledger.audit(make.audit(0)),
        ledger.audit(make.audit(1, agrees=False)), ledger.audit(make.audit(2, agrees=None)),
        ledger.audit(make.audit(6, accepted=False, agrees=False)), ledger.audit(make.audit(3, version=4, agrees=False)),
        ledger.settle(make.settlement(10, usage=None, cost=None, cost_saved=None, joules=None, seconds=2.0)),
    )  # fmt: skip
    with LedgerReader(home) as reader:
        everything, triage = reader.totals(), reader.totals("triage")
        nothing = reader.totals("unheard"), reader.totals(since=noon + timedelta(seconds=1))
    assert everything.requests == 11 and everything.settled == 11
    assert everything.outcomes == {"accepted": 6, "escalated": 5}
    assert everything.reasons == {"above_threshold": 6, "below_threshold": 4, "no_task": 1}
    assert (everything.cost, everything.cost_rows) == (Decimal("0.4"), 10)
    assert (everything.cost_saved, everything.cost_saved_rows) == (Decimal("0.000780"), 6)
    assert (everything.joules, everything.joules_rows) == (3.0, 6)
    assert (everything.prompt_tokens, everything.completion_tokens) == (100, 30)
    accepted, up = everything.latency["accepted"], everything.latency["escalated"]
    assert (accepted.requests, accepted.p50, accepted.p99) == (6, 0.003, 0.006)
    assert (up.requests, up.p50, up.p95) == (5, 1.0, 2.0)
    (version,) = triage.versions
    assert (version.task, version.version, version.accepted, version.coin) == ("triage", 3, 6, 6)
    assert (version.audited, version.compared, version.disagreed) == (3, 2, 1)
    assert triage.requests == 10 and triage.versions == everything.versions
    for totals in nothing:
        assert (totals.requests, totals.cost, totals.joules, totals.versions) == (0, None, None, ())
        assert totals.latency == {"accepted": None, "escalated": None, "kept": None}


async def test_money_is_added_up_exactly(open_ledger, make, home):
    ledger = open_ledger()
    figures = [Decimal("1E+20"), Decimal("0.1"), Decimal("0.2"), Decimal("1E-20")]
    for n, cost in enumerate(figures):
        await ledger.append(make.decision(n))
        await settled(ledger.settle(make.settlement(n, cost=cost, usage=Usage(1, 1))))
    with LedgerReader(home) as reader:
        assert reader.totals().cost == Decimal("100000000000000000000.30000000000000000001")


async def test_damage_is_reported_not_read_over(open_ledger, make, home):
    ledger = open_ledger()
    for n in range(50):
        await ledger.append(make.decision(n, detail="d" * 500))
    ledger.close()
    data = bytearray((home / FILE).read_bytes())
    data[4096:] = b"\xa5" * (len(data) - 4096)
    (home / FILE).write_bytes(data)
    with pytest.raises(StoreError, match="damaged or is not a database"):
        Ledger.open(home, clock=lambda: None)


def test_texts_of_an_older_insource_are_sealed_and_no_byte_of_them_stays(open_ledger, make, home, noon):
    """Dropping the table overwrites its pages; sealing row by row would leave pieces where rows were moved."""
    home.mkdir()
    texts = {f"r-{n}": f"{SECRET} {n} " * (1 + n % 40) for n in range(600)}
    connection = open_database(home / FILE, migrations=migrations.LEDGER[:6])
    connection.execute("BEGIN")
    for seq, (name, text) in enumerate(texts.items(), 1):
        salt = b"s" * 32
        content = make.content(seq, request_id=name, text=text, answer=None)
        decision = columns.decision_values(make.decision(seq, request_id=name), content_digest(salt, content))
        insert = f"INSERT INTO decisions (seq, {columns.DECISION}) VALUES ({', '.join('?' * (len(decision) + 1))})"
        connection.execute(insert, (seq, *decision))
        values = (seq, salt, text.encode(), columns.micros(noon), "triage", columns.micros(noon + timedelta(days=30)))
        connection.execute(
            "INSERT INTO contents (seq, salt, text, time, task, expires) VALUES (?, ?, ?, ?, ?, ?)", values
        )
    connection.execute("COMMIT")
    connection.close()
    assert SECRET.encode() in bytes_on_disk(home)  # the control
    open_ledger()
    assert SECRET.encode() not in bytes_on_disk(home)
    with LedgerReader(home) as reader:
        assert {row.decision.request_id: row.content.text for row in reader.rows()} == texts
    assert verify(home, Outside(), lambda done, of: None).faults == []


async def test_where_the_keys_of_texts_fail_decisions_are_refused_and_what_follows_them_is_written(
    open_ledger, make, home, caplog
):
    ledger = open_ledger()
    await ledger.append(make.decision(1), make.content(1), keep_text=True)
    sound = ledger._keys.look
    ledger._keys.look = lambda: (_ for _ in ()).throw(StoreError("a damaged file"))
    refused, settlement, plain = await asyncio.gather(
        ledger.append(make.decision(2), make.content(2), keep_text=True),
        settled(ledger.settle(make.settlement(1), make.content(1, answer="late"), keep_text=True)),
        ledger.append(make.decision(4)),
        return_exceptions=True,
    )
    assert "a damaged file" in str(refused) and (settlement, plain) == (None, None)
    assert "the text of a settlement or an audit is not kept: a damaged file" in caplog.text and ledger.lost == 0
    ledger._keys.look = sound
    await ledger.append(make.decision(3), make.content(3), keep_text=True)
    with LedgerReader(home) as reader:
        kept = {n: reader.decision(f"r-{n}") for n in (1, 2, 3, 4)}
    assert kept[2] is None and kept[4] is not None and kept[1].settlement is not None
    assert (kept[1].content, kept[3].content) == (make.content(1), make.content(3))


async def test_a_locked_file_of_keys_holds_up_only_rows_with_texts(open_ledger, make, home, monkeypatch):
    monkeypatch.setattr("insource.store.ledger.KEYS_BUSY_MILLISECONDS", 20)
    ledger = open_ledger()
    other = apsw.Connection(str(home / "content_keys.db"))
    other.execute("BEGIN IMMEDIATE")
    refused, plain = await asyncio.gather(
        ledger.append(make.decision(1), make.content(1, subject="ada"), keep_text=True),
        ledger.append(make.decision(2)),
        return_exceptions=True,
    )
    assert isinstance(refused, StoreBusy) and plain is None
    waiting = ledger.settle(make.settlement(2), make.content(2, subject="ada"), keep_text=True)
    await asyncio.sleep(0.1)
    assert not waiting.done()
    other.execute("ROLLBACK")
    other.close()
    await settled(waiting)
    with LedgerReader(home) as reader:
        assert reader.decision("r-1") is None and reader.decision("r-2").content == make.content(2)


def test_keys_that_are_gone_or_damaged_are_told_at_the_start(open_ledger, make, home, caplog):
    with open_ledger() as ledger:
        ledger.append_now(make.decision(1), make.content(1), keep_text=True)
    for file in home.glob("content_keys.db*"):
        file.unlink()
    with open_ledger():
        assert "1 texts or digests of the ledger cannot be opened any more" in caplog.text
    (home / "content_keys.db").write_bytes(b"no database at all, but long enough to be read as one" * 99)
    with pytest.raises(StoreError, match="move .*content_keys.db aside"):
        open_ledger()
