"""People's answers from the registry into the ledger: each once, whatever is cut off in between."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import apsw
import pytest

from insource.errors import StoreError, StoreFull
from insource.store.columns import Feedback, Source
from insource.store.delivery import deliver, deliver_acts, keep_delivering
from insource.store.ledger_reader import LedgerReader
from insource.store.outbox import Delivered
from insource.store.registry import FILE, Registry
from insource.types import Key

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def registry(home):
    with Registry.open(home) as registry:
        yield registry


@pytest.fixture
async def ledger(open_ledger, make):
    """A ledger that knows three requests."""
    ledger = open_ledger()
    for n in range(3):
        await ledger.append(make.decision(n))
    return ledger


def said(n, **changes):
    values = {"request_id": f"r-{n}", "time": NOON, "task": "triage", "answer": "card", "who": "ada",
              "source": Source.LABEL}  # fmt: skip
    return Feedback(**(values | changes))


def stored(home):
    with LedgerReader(home) as reader:
        return [each for n in range(3) for each in reader.feedback(f"r-{n}")]


def test_what_was_posted_waits_and_is_delivered_once(registry, ledger, home):
    for n in (0, 1):
        registry.post_feedback(said(n))
    assert registry.outgoing_feedback() == (said(0), said(1))
    assert deliver(registry, home, ledger.feedback_now) == 2
    assert deliver(registry, home, ledger.feedback_now) == 0 and registry.outgoing_feedback() == ()
    assert stored(home) == [said(0), said(1)]
    with pytest.raises(StoreError, match="refused a row"):
        registry.post_feedback(said(0))


def test_a_review_that_is_answered_is_on_its_way_in_the_same_transaction(registry, ledger, home):
    registry.ask_review("r-1", "triage", "where is my card?", "card", NOON)
    registry.ask_review("r-2", "triage", "where is my card?", "card", NOON)
    registry.answer_review("r-1", "refund", "grace", NOON + timedelta(hours=1))
    registry.dismiss_review("r-2", "grace", NOON)
    assert deliver(registry, home, ledger.feedback_now) == 1
    told = said(1, answer="refund", who="grace", time=NOON + timedelta(hours=1), source=Source.REVIEW)
    assert stored(home) == [told]


def test_an_answer_that_cannot_be_posted_leaves_its_review_waiting(registry, home):
    registry.ask_review("r-1", "triage", "where is my card?", "card", NOON)
    connection = apsw.Connection(str(home / FILE))
    connection.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END")
    connection.close()
    with pytest.raises(StoreError):
        registry.answer_review("r-1", "refund", "grace", NOON)
    assert registry.review("r-1").state == "waiting" and registry.acts() == ()


def test_a_request_that_the_ledger_does_not_know_is_left_out(registry, ledger, home, caplog):
    registry.post_feedback(said(9))
    registry.post_feedback(said(0))
    assert deliver(registry, home, ledger.feedback_now) == 1
    assert stored(home) == [said(0)] and registry.outgoing_feedback() == ()
    assert "request r-9, which the ledger does not know" in caplog.text and ledger.lost == 0


def test_a_delivery_cut_off_after_the_ledger_is_taken_up_without_a_second_row(registry, ledger, home):
    registry.post_feedback(said(0))
    ledger.feedback_now(said(0))  # and killed before the registry was told
    assert deliver(registry, home, ledger.feedback_now) == 1
    assert stored(home) == [said(0)] and registry.outgoing_feedback() == ()


def test_control_without_a_look_at_the_ledger_the_second_row_is_refused(ledger):
    ledger.feedback_now(said(0))
    with pytest.raises(StoreError, match="refused a row"):
        ledger.feedback_now(said(0))


def test_what_a_full_disk_refuses_waits_on(registry, ledger, home):
    for n in (0, 1):
        registry.post_feedback(said(n))

    def full(feedback):
        raise StoreFull("no room")

    with pytest.raises(StoreFull):
        deliver(registry, home, full)
    assert registry.outgoing_feedback() == (said(0), said(1))
    assert deliver(registry, home, ledger.feedback_now) == 2


def test_acts_are_closed_at_once_and_a_write_that_fails_between_them_loses_and_doubles_none(registry, ledger, home):
    for n in range(3):
        registry.create_key(Key("", f"app {n}", NOON, "ada"), "a pilot")
    acts, before, wrote = registry.acts(), registry.changed(), []

    def write(act):
        if len(wrote) == 1:
            raise StoreFull("no room")
        ledger.act_now(act)
        wrote.append(act)

    with pytest.raises(StoreFull):
        deliver_acts(registry, home, write)
    assert registry.changed() == before and len(registry.outgoing_acts()) == len(acts) == 3
    assert deliver_acts(registry, home, ledger.act_now) == len(acts) - 1
    assert registry.changed() == before + 1 and registry.outgoing_acts() == ()
    with LedgerReader(home) as reader:
        assert tuple(act for act in reader.acts() if act in acts) == acts


async def test_the_ledgers_process_takes_over_what_comes(registry, ledger, home, caplog):
    refusing = True

    def write(feedback):
        if refusing:
            raise StoreFull("no room")
        ledger.feedback_now(feedback)

    job = asyncio.ensure_future(keep_delivering(home, write, ledger.act_now, seconds=0.001))
    registry.post_feedback(said(0))
    while "wait to be written" not in caplog.text:
        await asyncio.sleep(0.001)
    refusing = False
    while registry.outgoing_feedback():
        await asyncio.sleep(0.001)
    registry.post_feedback(said(1))
    while registry.outgoing_feedback():
        await asyncio.sleep(0.001)
    job.cancel()
    with suppress(asyncio.CancelledError):
        await job
    assert stored(home) == [said(0), said(1)]


def test_an_answer_on_its_way_is_neither_changed_nor_deleted(registry, home):
    registry.post_feedback(said(0))
    connection = apsw.Connection(str(home / FILE))
    for change in ("UPDATE outbox SET answer = 'x'", "DELETE FROM outbox"):
        with pytest.raises(apsw.ConstraintError, match="on its way"):
            connection.execute(change)
    connection.execute("DROP TRIGGER outbox_is_not_deleted")  # the control
    connection.execute("DELETE FROM outbox")
    connection.close()
    registry.close_feedback(said(0), Delivered.DELIVERED)
    assert registry.outgoing_feedback() == ()
