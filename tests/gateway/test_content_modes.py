"""What is kept of a request in each content mode, down to the bytes of the home, and for how long."""

from datetime import UTC, datetime, timedelta

import apsw
import pytest

from insource.backends.scripted import scripted_app
from insource.store.ledger import FILE
from insource.store.proof.verify import Outside, verify
from insource.types import Sensitivity, Stage, Task, WhenKept
from tests.gateway.conftest import Specialist

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)
TABLES = ("decisions", "settlements", "audits")


class Sure(Specialist):
    """Accepts what says so, and answers all it is asked."""

    def __init__(self, version, answers):
        super().__init__(version, answers)
        self._score = lambda request, _: 0.9 if "accepted" in request.messages[-1].content else 0.2


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


def texts(mode):
    """One that is accepted, one that is escalated, one that no specialist and no upstream knows."""
    return [f"canary-{mode} {kind} where is my card?" for kind in ("accepted", "escalated", "unknown")]


def two_versions(house, task):
    """An active version, and one in shadow that answers the audited requests beside it."""
    house.promote(house.register(task))
    shadow = house.register(task, digest="e" * 64)
    house.registry.move(task, shadow.version, expected=Stage.CANDIDATE, to=Stage.SHADOW, who="t", why="t", now=NOON)


@pytest.fixture
def served(house, chat):
    """Serves every kind of request in every mode, all of them audited where they are `picked`; stops the gateway."""

    async def serve(picked):
        known = {text: "yes" for mode in ("full", "digest", "none") for text in texts(mode)[:2]}
        house.answers = known
        house.open_specialist = lambda version: Sure(version, known)
        tasks = [Task(mode, audit_rate=0.5, content=mode) for mode in ("full", "digest", "none")]
        for task in tasks:
            two_versions(house, task.name)
        house.start(upstream=scripted_app(known), tasks=tasks, coin=lambda _: 0.0 if picked else 0.9)
        statuses = {}
        async with house.client() as client:
            for mode in ("full", "digest", "none"):
                for text in texts(mode):
                    for stream in (False, True):
                        body = chat(text, model=f"task:{mode}", system=f"system of {text}", stream=stream)
                        async with client.post("/v1/chat/completions", json=body) as reply:
                            assert await reply.read()
                            statuses.setdefault(mode, []).append(reply.status)
        house.stop()
        assert len(set(map(tuple, statuses.values()))) == 1 and {200} < {*statuses["none"]}
        return house

    return serve


def raw_bytes(home):
    return b"".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())


def kept(home, task):
    """The digests and the contents that the ledger's file holds for a task: how many of each."""
    with apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        digests = 0
        for table in TABLES:
            ids = "SELECT request_id FROM decisions WHERE task = ?"
            asked = f"SELECT count(content_digest) FROM {table} WHERE request_id IN ({ids})"
            digests += connection.execute(asked, (task,)).get
        return digests, connection.execute("SELECT count(*) FROM contents WHERE task = ?", (task,)).get


@pytest.mark.parametrize("picked", [True, False])
async def test_each_mode_keeps_what_it_says_and_no_byte_more(served, picked):
    house = await served(picked)
    with house.reader() as ledger:
        rows = {mode: list(ledger.rows(mode)) for mode in ("full", "digest", "none")}
    assert [len(found) for found in rows.values()] == [6, 6, 6]  # what was decided is on record in every mode
    assert all(row.settlement is not None for found in rows.values() for row in found)
    assert {row.decision.outcome for row in rows["none"]} == {"accepted", "escalated"}
    assert any(row.audits for row in rows["none"]) is picked
    assert [row.content.text for row in rows["full"]][::2] == texts("full")
    assert all(row.content is None for row in rows["digest"] + rows["none"])
    assert not any(row.content_digest for row in rows["none"]) and all(row.content_digest for row in rows["digest"])
    digests, contents = kept(house.home, "digest")
    assert digests == contents > 6 and kept(house.home, "full") == (digests, contents)
    assert kept(house.home, "none") == (0, 0)  # the controls are the two lines before
    assert [row.decision.answer for row in rows["none"]] == [None] * 6  # not even as a number
    assert verify(house.home, Outside(), lambda *_: None).faults == []
    left = raw_bytes(house.home)
    assert b"canary-none" not in left and b"canary-digest" not in left


async def test_the_scan_sees_what_a_row_quotes(served):
    """The control: one word of a request in any row would be found."""
    house = await served(False)
    with house.registry.open(house.home) as registry:
        registry.ask_review("r", "none", "text", None, NOON)
        registry.answer_review("r", "canary-none", "ada", NOON)
    assert b"canary-none" in raw_bytes(house.home)


async def test_no_task_keeps_a_digest(house, scripted, chat):
    house.start(upstream=scripted, tasks=(Task("none", content="none"),))
    async with house.client() as client:
        async with client.post("/v1/chat/completions", json=chat("hello", system=None)) as reply:
            assert reply.status == 200
    house.stop()
    with house.reader() as ledger:
        (row,) = ledger.rows()
    assert row.decision.task is None and row.content_digest and row.content is None
    assert b"hello" not in raw_bytes(house.home)


async def test_contents_go_when_their_own_task_says(house, scripted, chat):
    """Of a week, of a year, and of what the store says, 30 days: nothing early, nothing overdue."""
    days = {"week": 7, "year": 365, "store": None}
    tasks = [Task(name, content="full", audit_rate=0.0, retention_days=kept) for name, kept in days.items()]
    clock = Clock()
    house.start(upstream=scripted, tasks=tasks, clock=clock)
    async with house.client() as client:
        for name in days:
            async with client.post("/v1/chat/completions", json=chat("hello", model=f"task:{name}")) as reply:
                assert reply.status == 200

    async def left(after):
        clock.now = NOON + after
        await house.ledger.purge(clock.now)
        with house.reader() as ledger:
            return {row.decision.task for row in ledger.rows() if row.content is not None}

    hair = timedelta(microseconds=1)
    assert await left(7 * DAY - hair) == {"week", "year", "store"}
    assert await left(7 * DAY) == await left(30 * DAY - hair) == {"year", "store"}
    assert await left(30 * DAY) == await left(365 * DAY - hair) == {"year"}
    assert await left(365 * DAY) == set()
    with house.reader() as ledger:
        assert len(list(ledger.rows())) == 3  # the rows stay


async def test_the_gateway_erases_reviews_as_their_task_says(house, chat):
    kept = {"sensitivity": Sensitivity.RESTRICTED, "when_kept": WhenKept.REVIEW, "audit_rate": 0.0}
    clock = Clock()
    house.start(tasks=(Task("week", retention_days=7, **kept), Task("store", **kept)), clock=clock)
    ids = {}
    async with house.client() as client:
        for name in ("week", "store"):
            async with client.post("/v1/chat/completions", json=chat("canary", model=f"task:{name}")) as reply:
                assert reply.status == 403
                ids[name] = reply.headers["x-insource-request-id"]
    assert not house.raw.received
    clock.now = NOON + 100 * DAY  # it waited, and is kept for as long as it waits
    await house.gateway._purge()
    for request_id in ids.values():
        house.registry.answer_review(request_id, "yes", "ada", clock.now)

    async def left(after):
        clock.now = NOON + 100 * DAY + after
        await house.gateway._purge()
        return {name for name, request_id in ids.items() if house.registry.review(request_id).text is not None}

    hair = timedelta(microseconds=1)
    assert await left(7 * DAY - hair) == {"week", "store"}
    assert await left(7 * DAY) == await left(30 * DAY - hair) == {"store"}
    assert await left(30 * DAY) == set()
