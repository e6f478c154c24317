"""A6 and A7: each thing that may be left, or go early, is told by itself, and what is in order is not told of."""

import asyncio
import hashlib
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from insource.store.columns import Act
from insource.store.content_keys import ContentKeys
from insource.store.contents import parts_digest
from insource.store.ledger import ERASE_ACT, Ledger
from insource.types import Content, Decision, Outcome, Reason
from reliability import a06_erasure as a06
from reliability import a07_retention as a07
from reliability.eleven_years import Years
from reliability.erasable import TEXTS, canary, name_of
from reliability.guesses import Guesser, plain_digest_is_known
from reliability.harness import Tally
from reliability.keeping_builds import keeping_rows
from reliability.sealed_blobs import Blob, keys_left

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOUND = {each: Tally(Counter(dict.fromkeys(each.TRIED, 1) | {"erased": 1, "requests": 1})) for each in (a06, a07)}


@pytest.mark.parametrize(("module", "what"), [(each, what) for each in (a06, a07) for what in each.WRONG])
def test_the_judge_tells_each_fault(module, what):
    assert module.judge(SOUND[module]) == []
    (told,) = module.judge(replace(SOUND[module], counts=SOUND[module].counts + Counter({what: 1})))
    assert told.startswith(f"{what}: 1")


@pytest.mark.parametrize(("module", "what"), [(each, what) for each in (a06, a07) for what in each.TRIED])
def test_the_judge_wants_everything_tried(module, what):
    counts = SOUND[module].counts - Counter({what: 1})
    assert module.judge(replace(SOUND[module], counts=counts)) == [f"not tried: {what}"]


@pytest.mark.parametrize(
    ("what", "most"), [("seconds", 1.0), ("seconds beside a gateway", 1.0), ("until the rows go", 3.0)]
)
def test_an_erasure_that_takes_too_long_is_told(what, most):
    assert a06.judge(replace(SOUND[a06], values={what: [most]})) == []
    assert len(a06.judge(replace(SOUND[a06], values={what: [0.1, most + 0.01]}))) == 1


@pytest.mark.parametrize("missing", ["opened once erased", "keys left", "rows left"])
def test_a_control_of_two_builds_that_keep_what_they_erase_needs_both(missing):
    found = Counter({"broken": 1, "opened once erased": 1, "keys left": 1, "rows left": 1})
    assert len(a06.judge(Tally(found))) == 3
    assert a06.judge(Tally(found - Counter({missing: 1}))) == []


@pytest.mark.parametrize(("build", "left"), [(nullcontext, 0), (keeping_rows, 1)])
async def test_rows_of_a_subject_that_a_ledger_does_not_delete_are_told(tmp_path, build, left):
    home = a06._Home(Tally(), range(1), tmp_path)
    with ContentKeys.open(home.subjects.home) as keys, Ledger.open(home.subjects.home, clock=lambda: NOON) as ledger:
        decision = Decision("r-1", NOON, Outcome.ESCALATED, Reason.NO_TASK)
        content = Content("r-1", NOON, None, TEXTS["notes"](0), subject=name_of(0))
        await ledger.append(decision, content, keep_text=True)
        (home.subjects.keys[0],) = keys.ids_of(name_of(0))
        home.see_rows_gone(0)
        assert home.tally.counts["rows left"] == 1
        keys.erase(name_of(0), NOON)
        with build():
            await asyncio.to_thread(ledger.act_now, Act(NOON, "dpo", ERASE_ACT, "subject", "a promise"))
        home.see_rows_gone(0)
    assert home.tally.counts["rows left"] == 1 + left


@pytest.fixture
def scanned(tmp_path):
    """A home whose first subject was erased, and two files; the first is an artifact of a version that learned."""
    home = a06._Home(Tally(), range(2), tmp_path)
    home.erased, home.learned = [0], {"learned"}
    for folder in ("learned", "other"):
        (home.subjects.home / "artifacts" / folder).mkdir(parents=True)
    home.subjects.backup.mkdir()
    return home


@pytest.mark.parametrize(
    ("where", "number", "left"),
    [("artifacts/learned/x", 0, 0), ("artifacts/other/x", 0, 1), ("ledger.db-wal", 0, 1), ("ledger.db", 1, 0)],
)
def test_a_word_of_an_erased_subject_is_seen_wherever_it_lies(scanned, where, number, left):
    (scanned.subjects.home / where).write_bytes(b"\0\1" + canary(number, "note").encode() + b"\xff")
    scanned._scan()
    assert scanned.tally.counts["plain texts left"] == left
    (scanned.subjects.backup / "registry.db").write_bytes(name_of(0).encode())
    scanned._scan()
    assert scanned.tally.counts["plain texts left"] == 2 * left + 1


def test_what_is_sealed_is_opened_by_code_of_its_own_while_its_keys_are_there(tmp_path):
    with ContentKeys.open(tmp_path) as keys:
        for subject, expires in (("ada", None), ("ada", NOON), (None, NOON)):
            seal = keys.seal_of(subject=subject, time=NOON, expires=expires)
            blob = Blob("ledger", seal, b"a place", keys.seal(seal, b"a place", b"where is my card"))
            assert blob.opened(keys_left(tmp_path)) == blob.forced(keys_left(tmp_path)) == b"where is my card"
            misnamed = replace(blob, seal=(b"x" * 16,))
            assert misnamed.opened(keys_left(tmp_path)) is None and misnamed.forced(keys_left(tmp_path)) is not None
        keys.erase("ada", NOON)
        keys.expire(NOON + timedelta(days=1))
        assert blob.opened(keys_left(tmp_path)) is None and blob.forced(keys_left(tmp_path)) is None


def guesser(**known):
    """One with nothing to guess at, but what is given."""
    made = Guesser.__new__(Guesser)
    nothing = {"digests": set(), "salts": [b""], "secret": b"s" * 32, "named": set(), "subjects": set(), "snapshot": ""}
    for name, value in (nothing | {"_prefix": hashlib.sha256()} | known).items():
        setattr(made, name, value)
    return made


def test_each_commitment_without_a_secret_that_is_gone_is_guessed(tmp_path):
    note, filed = TEXTS["notes"](7).encode(), TEXTS["filed"](7).encode()
    pseudonym = hashlib.blake2b(note, key=b"s" * 32, digest_size=16, person=b"insource-text").hexdigest()
    row = hashlib.sha256(b"1 %d " % len(filed) + filed).hexdigest()
    for known, what in (
        ({"digests": {parts_digest(b"", [note, None, None])}}, "content digests"),
        ({"named": {hashlib.sha256(note).hexdigest()[:32].encode()}}, "names held out"),
        ({"named": {pseudonym.encode()}}, "names held out"),
        ({"snapshot": row}, "snapshot digests"),
        ({"subjects": {hashlib.blake2b(name_of(7).encode(), digest_size=32, person=b"insource-subject").digest()}},
         "subjects' names"),
    ):  # fmt: skip
        assert [each for number in range(20) for each in guesser(**known).guess(number)] == [(what, 7)]
    salted = guesser(digests={parts_digest(b"salt", [note, None, None])})
    assert [*salted.guess(7)] == [] and plain_digest_is_known(tmp_path)


@pytest.mark.parametrize(("build", "told", "silent"), [(a07.Early, "early", "overdue"), (a07.Late, "overdue", "early")])
def test_what_goes_a_day_early_and_what_goes_a_microsecond_late_is_told(tmp_path, build, told, silent):
    tally = Tally()
    asyncio.run(Years(tally, range(9), tmp_path / "home", build.open).live())
    assert tally.counts[told] >= 5 and tally.counts[silent] == 0


def test_subjects_of_a_home_are_apart_from_those_who_live(tmp_path):
    homes = [a06._Home(Tally(), range(first, first + a06.BATCH), tmp_path) for first in (0, a06.BATCH)]
    numbers = [number for home in homes for number in (*home.subjects.cases, *home.subjects.living)]
    assert len(set(numbers)) == len(numbers)
