"""The harnesses of one history (A4) and of the durable rate (R4): whatever they look for is told by itself."""

from collections import Counter
from dataclasses import replace

import pytest

from insource.store.ledger_client import LedgerClient
from insource.store.proof.note import Checkpoint
from insource.store.proof.tree import Frontier, leaf_hash
from insource.types import Decision, Outcome, Reason
from reliability import a04_one_history as a04
from reliability import r04_durable_rate as r04
from reliability.harness import Tally
from reliability.histories import Life, Noted, extends
from reliability.ledger_process import ledger_process
from reliability.load import NOON
from reliability.restarts import STEPS, Nursery, Order

ONE, OTHER = ([leaf_hash(b"%d" % number) for number in range(start, start + 300)] for start in (0, 1))


def noted(leaves, size):
    return Noted(0, Checkpoint("log", size, Frontier().extended(leaves[:size]).root()), leaves)


@pytest.mark.parametrize(
    ("one", "other", "extended"),
    [
        (noted(ONE, 7), noted(ONE, 300), True),
        (noted(ONE, 300), noted(ONE, 300), True),
        (noted(ONE, 7), noted(OTHER, 300), False),
        (noted(ONE, 300), noted(OTHER, 300), False),
        (noted(ONE, 7), replace(noted(OTHER, 300), leaves=ONE), False),
        (noted(ONE, 301), noted(ONE, 300), False),
    ],
)
def test_a_checkpoint_extends_another_only_over_the_same_rows(one, other, extended):
    assert extends(one, other) is extended


SOUND = Tally(Counter({"checkpoints": 9, "restores that must be refused": 2, "reconciled": 2}))


@pytest.mark.parametrize("what", a04.WRONG)
def test_the_judge_of_one_history_tells_each_fault(what):
    assert a04.judge(SOUND) == []
    assert a04.judge(replace(SOUND, counts=SOUND.counts + Counter({what: 1}))) == [f"{what}: 1 (9 checkpoints)"]


@pytest.mark.parametrize("what", ["checkpoints", "reconciled"])
def test_the_judge_of_one_history_wants_everything_tried(what):
    counts = SOUND.counts - Counter({what: SOUND.counts[what]})
    assert a04.judge(replace(SOUND, counts=counts)) == ["not everything was tried"]


def test_a_process_dies_at_the_point_that_is_asked_for(tmp_path):
    died = set()
    with Nursery(tmp_path / "log") as nursery:
        for number, name in enumerate(sorted(STEPS)):
            if name == "old log aside":
                continue
            life = Life(tmp_path / str(number), tmp_path / str(number) / "witness")
            life.folder.mkdir()
            order = Order(str(life.home), str(life.witness), str(life.folder / "told"), (2, 2), rotates=1)
            assert nursery.run(replace(order, point=f"after {name}")) == -9
            life.look(0)
            died.add(life.died)
        assert nursery.run(replace(order, closes=True)) == 0
        life.look(1)
    assert life.died is None and life.signed and Checkpoint.read(life.largest()).size > 0
    assert died == {f"after {name}" for name in STEPS if name != "old log aside"}


def test_control_a_note_that_only_a_file_tells_of_is_seen(tmp_path):
    life = Life(tmp_path, tmp_path / "witness")
    with Nursery(tmp_path / "log") as nursery:
        nursery.run(Order(str(life.home), str(life.witness), str(tmp_path / "told"), (2,), closes=True))
    (tmp_path / "told").unlink()
    life.look(0)
    assert life.seen and life.signed == 0


FAST = Tally(
    Counter({"acknowledged": 9, "recorded": 9, "proved": 1, "rows": 19, "commits": 3, "syncs": 4}),
    {"ms": [25.0], "acknowledged a second": [2_000.0], "added ms": [15.0]},
)


@pytest.mark.parametrize(
    ("counts", "values", "told"),
    [
        ({}, {}, ""),
        ({"commits without a sync": 1}, {}, "4 syncs under 3 commits"),
        ({"commits": -3}, {}, "4 syncs under 0 commits"),
        ({"lost": 1}, {}, "lost: 1"),
        ({"not signed": 1}, {}, "not signed: 1"),
        ({"faults": 1}, {}, "faults: 1"),
        ({"not proved": 1}, {}, "not proved: 1"),
        ({"refused by a gateway": 1}, {}, "refused by a gateway: 1"),
        ({"recorded": -1}, {}, "8 recorded, 9 acknowledged"),
        ({"proved": -1}, {}, "9 recorded, 9 acknowledged"),
        ({}, {"ms": [25.1]}, "acknowledged after 25.1 ms"),
        ({}, {"acknowledged a second": [2_100.0, 1_999.0]}, "1,999 acknowledged a second"),
        ({}, {"added ms": [15.1]}, "a gateway adds 15.1 ms"),
    ],
)
def test_the_judge_of_the_durable_rate_tells_each_fault(counts, values, told):
    summed = Counter(FAST.counts)
    summed.update(counts)
    found = r04.judge(Tally(summed, FAST.values | values))
    assert len(found) == bool(told) and told in "".join(found)


def test_a_slow_machine_is_no_control_of_the_durable_rate():
    slow = {"ms": [99.0], "acknowledged a second": [10.0]}
    assert len(r04.judge(Tally(Counter(FAST.counts), slow))) == 2
    assert r04.judge(Tally(FAST.counts + Counter({"broken": 1}), slow)) == []
    unsynced = FAST.counts + Counter({"broken": 1, "commits without a sync": 2})
    assert r04.judge(Tally(unsynced, slow)) == ["4 syncs under 3 commits"]


@pytest.mark.parametrize(
    ("seconds", "asked", "told"), [(29, 0, []), (30, 0, ["no gateway was asked"]), (30, 3_000, [])]
)
def test_a_run_of_half_a_minute_asks_a_gateway(seconds, asked, told):
    sent = seconds * r04.RATE
    counts = FAST.counts | Counter({"acknowledged": sent, "recorded": sent, "asked of a gateway": asked})
    values = {name: each for name, each in FAST.values.items() if asked or name != "added ms"}
    assert r04.judge(Tally(counts, values)) == told


@pytest.mark.parametrize("broken", [False, True])
async def test_a_file_layer_counts_the_syncs_where_nothing_can_trace(tmp_path, broken):
    home = tmp_path / "home"
    home.mkdir()
    with ledger_process(home, 1, broken=broken, tracer=()) as process:
        client = await LedgerClient.connect(process.clients[0], clock=lambda: NOON)
        for number in range(20):
            await client.append(Decision(f"r-{number}", NOON, Outcome.ESCALATED, Reason.BELOW_THRESHOLD, task="triage"))
        await client.close()
    assert process.by == "a file layer"
    assert (process.syncs[r04.WAL] < 20) is broken
