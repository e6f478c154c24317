import asyncio
import threading

import pytest

from insource.errors import Overloaded, StoreError, StoreFull
from insource.store.group_commit import GroupCommit


class Device:
    """A commit that can be stopped at the gate, and told to fail."""

    def __init__(self):
        self.batches = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.error = None

    def commit(self, jobs):
        self.entered.set()
        assert self.gate.wait(30)
        self.batches.append([job.payload for job in jobs])
        for job in jobs:
            job.error, job.value = self.error, job.payload
            if job.payload == "crash":
                raise MemoryError("no memory left")

    @property
    def committed(self):
        return [payload for batch in self.batches for payload in batch]


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def commits(device):
    commits = GroupCommit(device.commit, bound=50, largest_batch=16)
    yield commits
    device.gate.set()
    commits.close()


def hold_the_first(device, commits):
    """Stop the writer inside its first commit, so that what follows queues up."""
    device.gate.clear()
    future = commits.submit("first", patient=True)
    assert device.entered.wait(30)
    return future


async def test_a_lone_job_is_committed_at_once(device, commits):
    assert await commits.commit("one") == "one"
    assert device.batches == [["one"]]


async def test_what_queues_up_is_committed_together_and_in_order(device, commits):
    hold_the_first(device, commits)
    futures = [commits.submit(n, patient=True) for n in range(20)]
    device.gate.set()
    assert [await asyncio.wrap_future(future) for future in futures] == list(range(20))
    assert device.batches == [["first"], list(range(16)), [16, 17, 18, 19]]


async def test_concurrent_callers_each_get_their_own_value(commits):
    assert await asyncio.gather(*[commits.commit(n) for n in range(40)]) == list(range(40))


async def test_too_many_waiting_callers_are_refused_but_admitted_work_is_not(device, commits):
    hold_the_first(device, commits)
    waiting = [asyncio.create_task(commits.commit(n)) for n in range(50)]
    while commits.waiting < 50:
        await asyncio.sleep(0)
    with pytest.raises(Overloaded, match="50 rows wait.*at most 50"):
        await commits.commit("one too many")
    settled = commits.submit("settlement", patient=True)
    device.gate.set()
    assert await asyncio.gather(*waiting) == list(range(50))
    assert await asyncio.wrap_future(settled) == "settlement"
    assert "one too many" not in device.committed


async def test_a_crash_reaches_every_waiter_and_every_later_caller(device, commits, caplog):
    first = hold_the_first(device, commits)
    calls = [asyncio.create_task(commits.commit(payload)) for payload in ("a", "crash", *range(30))]
    while commits.waiting < 32:
        await asyncio.sleep(0)
    queued = commits.submit("settlement", patient=True)
    device.gate.set()
    async with asyncio.timeout(30):
        results = await asyncio.gather(*calls, asyncio.wrap_future(queued), return_exceptions=True)
    assert await asyncio.wrap_future(first) == "first"
    assert {type(result) for result in results} == {StoreError}
    assert "writer ended (MemoryError: no memory left)" in str(results[0])
    assert len({id(result) for result in results}) == len(results)
    with pytest.raises(StoreError, match="writer ended"):
        await commits.commit("later")
    with pytest.raises(StoreError, match="writer ended"):
        commits.submit("later", patient=True)
    assert commits.lost == 1 and "a row was not written" in caplog.text


async def test_while_the_disk_is_full_callers_fail_and_patient_work_is_kept_in_order(device, commits):
    device.error = StoreFull("no room")
    patient = [commits.submit(n, patient=True) for n in range(3)]
    with pytest.raises(StoreFull, match="no room"):
        await commits.commit("refused")
    assert commits.waiting == 3 and not any(future.done() for future in patient)
    device.error = None
    assert await commits.commit("accepted") == "accepted"
    assert [await asyncio.wrap_future(future) for future in patient] == [0, 1, 2]
    assert device.batches[-1] == [0, 1, 2, "accepted"]
    assert commits.lost == 0


async def test_an_error_that_does_not_pass_is_not_tried_again(device, commits, caplog):
    device.error = StoreError("refused")
    with pytest.raises(StoreError, match="refused"):
        await asyncio.wrap_future(commits.submit("row", patient=True))
    assert device.batches == [["row"]] and commits.lost == 1
    assert "a row was not written to the ledger: refused" in caplog.text


async def test_its_messages_say_what_is_written(device, caplog):
    commits = GroupCommit(device.commit, name="book", bound=0)
    with pytest.raises(Overloaded, match="0 rows wait to be written to the book"):
        await commits.commit("row")
    device.error = StoreError("refused")
    with pytest.raises(StoreError):
        await asyncio.wrap_future(commits.submit("row", patient=True))
    commits.close()
    with pytest.raises(StoreError, match="The book is closed"):
        commits.submit("row", patient=True)
    assert "not written to the book" in caplog.text and "ledger" not in caplog.text


async def test_kept_work_is_tried_again_without_any_caller(device):
    device.error = StoreFull("no room")
    commits = GroupCommit(device.commit, retry_seconds=0.001)
    future = commits.submit("settlement", patient=True)
    while len(device.batches) < 3:
        await asyncio.sleep(0)
    device.error = None
    assert await asyncio.wrap_future(future) == "settlement"
    commits.close()


def test_close_commits_what_is_queued(device, commits):
    hold_the_first(device, commits)
    futures = [commits.submit(n, patient=True) for n in range(40)]
    device.gate.set()
    commits.close()
    assert [future.result(0) for future in futures] == list(range(40))
    assert device.committed == ["first", *range(40)]


def test_close_tries_kept_work_once_more_and_then_says_that_it_is_lost(device, commits, caplog):
    device.error = StoreFull("no room")
    future = commits.submit("settlement", patient=True)
    commits.close()
    assert isinstance(future.exception(0), StoreFull) and commits.lost == 1
    assert "a row was not written to the ledger: no room" in caplog.text


async def test_after_close_nothing_is_taken(commits):
    commits.close()
    with pytest.raises(StoreError, match="is closed"):
        await commits.commit("late")


@pytest.mark.parametrize("attempt", range(10))
def test_nobody_hangs_who_submits_while_it_closes(device, commits, attempt):
    futures = [[] for _ in range(4)]
    going = threading.Semaphore(0)
    unexpected = []

    def submit_until_closed(mine):
        try:
            while True:
                mine.append(commits.submit(attempt, patient=True))
                going.release()
                mine[-1].result(30)
        except StoreError as error:
            unexpected.extend([] if "is closed" in str(error) else [error])

    threads = [threading.Thread(target=submit_until_closed, args=(mine,)) for mine in futures]
    for thread in threads:
        thread.start()
    for _ in range(40 + attempt):
        assert going.acquire(timeout=30)
    commits.close()
    for thread in threads:
        thread.join(60)
    done = [future for mine in futures for future in mine]
    assert all(future.done() for future in done) and not unexpected
    assert sum(future.exception(0) is None for future in done) == len(device.committed)


async def test_a_caller_who_gives_up_harms_nobody(device, commits):
    hold_the_first(device, commits)
    impatient, waiting = asyncio.create_task(commits.commit("gone")), asyncio.create_task(commits.commit("here"))
    while commits.waiting < 2:
        await asyncio.sleep(0)
    impatient.cancel()
    device.gate.set()
    assert await waiting == "here"
    assert impatient.cancelled()


def test_what_was_submitted_cannot_be_cancelled(device, commits):
    future = hold_the_first(device, commits)
    assert not future.cancel()
    device.gate.set()
    assert future.result(30) == "first"


def test_a_closed_event_loop_harms_nobody(device, commits):
    hold_the_first(device, commits)

    async def leave_early():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await commits.commit("gone")

    asyncio.run(leave_early())
    device.gate.set()
    assert commits.submit("here", patient=True).result(30) == "here"
