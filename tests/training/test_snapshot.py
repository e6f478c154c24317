"""The rows a run learns from: what is left out is counted, and the digest names what is in."""

import json
import os
import stat
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from insource.errors import ArtifactDamaged, DataError, OpenEndedAnswers
from insource.inputs import InputSettings
from insource.store.content_keys import ContentKeys
from insource.store.snapshots import read_snapshot, snapshots_with
from insource.traffic import read
from insource.training.snapshot import inputs_of, take_snapshot, without_erased
from insource.types import Example, Match, Message, Request, Task

SETTINGS = InputSettings()
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def lines(n, answer=lambda number: "yes" if number % 2 else "no"):
    return [{"text": f"is number {number} odd", "answer": answer(number)} for number in range(n)]


def test_rows_keep_order_and_repeats(examples):
    snapshot = take_snapshot(examples(lines=[*lines(12), *lines(4)]), SETTINGS)
    assert len(snapshot) == 16
    assert snapshot.texts[12:] == snapshot.texts[:4]
    assert snapshot.groups[12:].tolist() == [0, 1, 2, 3]
    assert [snapshot.answers.answers[number] for number in snapshot.classes[:2]] == ["no", "yes"]


def test_a_pair_of_a_file_and_the_same_in_a_prompt_are_one_text(write_traffic):
    """What teaches and what a client sends: whichever way round its prompt has them."""
    (line,) = read(
        write_traffic([{"text": "It was repaid.", "context": "The loan\nis open.", "answer": "no"}])
    ).examples
    for template in ("Is it so? {text} See: {context}", "Given: {context} Is it so? {text}"):
        prompt = template.format(text="It was repaid.", context="The loan\nis open.")
        inputs = inputs_of(Task("check", Match(user_templates=(template,))))
        assert inputs.text_of_user(prompt) == inputs.text_of(line.request) == "It was repaid.\nThe loan\nis open."


def test_what_is_left_out_is_counted(examples):
    given = examples(lines=[*lines(20), {"text": "no answer"}, {"text": " ", "answer": "yes"}])
    picture = Example(Request("p", (Message("user", ({"type": "image_url"},)),)), "yes")
    snapshot = take_snapshot([*given, picture], SETTINGS)
    assert (len(snapshot), snapshot.unlabelled, snapshot.textless, snapshot.outside) == (20, 1, 2, 0)


def test_gold_stands_in_where_there_is_gold_and_only_when_asked(examples):
    given = examples(lines=[{**line, "gold": "yes"} if number < 3 else line for number, line in enumerate(lines(20))])
    assert np.bincount(take_snapshot(given, SETTINGS).classes).tolist() == [10, 10]
    assert np.bincount(take_snapshot(given, SETTINGS, gold=True).classes).tolist() == [12, 8]


def test_the_digest_names_texts_answers_and_inputs(examples):
    def digest(given, settings=SETTINGS):
        return take_snapshot(given, settings).digest

    first = digest(examples(lines=lines(20)))
    assert first == digest(examples(lines=lines(20)))
    changed = [lines(21), lines(20)[::-1], lines(20, lambda number: "yes" if number % 3 else "no"),
               [{"text": "is number zero odd", "answer": "no"}, *lines(20)[1:]]]  # fmt: skip
    assert len({first, *(digest(examples(lines=each)) for each in changed)}) == 5
    assert first != digest(examples(lines=lines(20)), InputSettings(max_characters=50))


def test_the_digest_of_rows_without_groups_stays_what_it_was(examples):
    """Registered versions name it."""
    told = "1e7e2249c3444d1de4d824a4224cfa979ce93fbc8a96a85ab998546ecb18a1f2"
    assert take_snapshot(examples(lines=lines(20)), SETTINGS).digest == told


def grouped(n, size):
    return [{**line, "group": f"customer {number // size}"} for number, line in enumerate(lines(n))]


def pairs(home, snapshot):
    return [(row.text, row.answer) for row in read_snapshot(home, snapshot.digest)]


def groups(home, snapshot):
    return [row.group for row in read_snapshot(home, snapshot.digest)]


def test_groups_are_kept_as_numbers_and_the_digest_names_them(examples, home):
    plain, paired = (take_snapshot(examples(lines=each), SETTINGS) for each in (lines(20), grouped(20, 2)))
    other = take_snapshot(examples(lines=grouped(20, 4)), SETTINGS)
    assert len({plain.digest, paired.digest, other.digest}) == 3
    for each in (plain, paired, other):
        each.save(home)
        assert pairs(home, each) == pairs(home, plain)
    assert groups(home, paired) == paired.groups.tolist() == [n - n % 2 for n in range(20)]
    assert groups(home, other) == other.groups.tolist()
    assert groups(home, plain) == [None] * 20
    written = (home / "snapshots" / f"{paired.digest}.jsonl").read_text()
    assert '{"text":"is number 1 odd","answer":"yes","group":0}' in written and "customer" not in written
    assert "group" not in (home / "snapshots" / f"{plain.digest}.jsonl").read_text()


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ([], DataError, "None of 0 requests has a reference; an answer in each line was expected"),
        ([{"text": "hello"}] * 30, DataError, "None of 30 requests has a reference"),
        (lines(9), DataError, "9 of 9 requests have a text and a reference from the closed set; at least 10 were"),
        (lines(30, lambda _: "Yes."), DataError, r"All 30 requests have the answer 'yes'; at least two answers were"),
        (lines(60, lambda number: f"a long answer no. {number}"), OpenEndedAnswers,
         r"60 distinct answers in 60 requests; 100 % of the requests have an answer seen only once; a closed set was"),
        ([{"text": "", "answer": line["answer"]} for line in lines(30)], DataError, "0 of 30 requests have a text and"),
    ],
)  # fmt: skip
def test_what_makes_no_task_is_refused(examples, given, kind, said):
    with pytest.raises(kind, match=said) as caught:
        take_snapshot(examples(lines=given), SETTINGS)
    assert type(caught.value) is kind


def test_labels_that_occur_once_stay_and_are_told(examples):
    odd = lines(60, lambda number: f"rare {number}" if number < 3 else "yes" if number % 2 else "no")
    snapshot = take_snapshot(examples(lines=odd), SETTINGS)
    assert len(snapshot) == 60 and snapshot.answers.rare == ("rare 0", "rare 1", "rare 2")


def test_a_saved_snapshot_is_read_back_and_is_for_its_owner_alone(examples, home):
    snapshot = take_snapshot(examples(lines=lines(20)), SETTINGS)
    path = snapshot.save(home)
    assert pairs(home, snapshot)[:2] == [("is number 0 odd", "no"), ("is number 1 odd", "yes")]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_snapshot(home, "0" * 64) is None
    before = path.stat()
    snapshot.save(home)
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_two_processes_may_save_the_same_rows_at_once(examples, home):
    snapshot = take_snapshot(examples(lines=lines(2_000)), SETTINGS)
    failures, start = [], threading.Barrier(8)

    def save():
        start.wait()
        try:
            snapshot.save(home)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=save) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [path.name for path in (home / "snapshots").iterdir()] == [f"{snapshot.digest}.jsonl"]
    assert len(read_snapshot(home, snapshot.digest)) == 2_000


def test_a_snapshot_that_cannot_be_written_says_so(examples, home):
    from insource.errors import StoreError

    home.mkdir()
    (home / "snapshots").write_text("a file, not a folder")
    with pytest.raises(StoreError, match="snapshots.* cannot be read or written"):
        take_snapshot(examples(lines=lines(20)), SETTINGS).save(home)
    assert os.listdir(home) == ["snapshots"]


def owned(n):
    """Every fourth row is about ada, every other fourth about bob; the others are nobody's."""
    who = {0: "ada", 2: "bob"}
    return [line | ({"subject": who[at % 4]} if at % 4 in who else {}) for at, line in enumerate(lines(n))]


def of_file(tmp_path, given):
    file = tmp_path / "traffic.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in given))
    return list(read(file).examples)


def test_rows_with_a_subject_are_sealed_and_gone_with_its_key_and_the_others_stay(examples, home, tmp_path):
    snapshot = take_snapshot(of_file(tmp_path, owned(20)), SETTINGS)
    assert snapshot.digest == take_snapshot(examples(lines=lines(20)), SETTINGS).digest  # whose they are is no content
    written = snapshot.save(home).read_text()
    assert "is number 4 odd" not in written and "is number 1 odd" in written and "ada" not in written
    answers = [snapshot.answers.answers[number] for number in snapshot.classes]
    assert pairs(home, snapshot) == list(zip(snapshot.texts, answers, strict=True))
    assert groups(home, snapshot) == snapshot.groups.tolist()  # else the split would change with what is erased
    with ContentKeys.open(home) as keys:
        assert snapshots_with(home, keys.ids_of("ada")) == {snapshot.digest: 5}
        ids = keys.erase("ada", NOON)
    left = read_snapshot(home, snapshot.digest)
    assert [at for at, row in enumerate(left) if row is None] == [0, 4, 8, 12, 16]
    assert left[2].text == "is number 2 odd"
    assert snapshots_with(home, ids) == {snapshot.digest: 5} and snapshots_with(home, [b"x" * 16]) == {}


def test_the_digest_to_keep_is_no_guess_at_a_row_that_may_be_erased(examples, home, tmp_path):
    plain = take_snapshot(examples(lines=lines(20)), SETTINGS)
    assert plain.named(home) is plain and not (home / "content_keys.db").exists()
    snapshot = take_snapshot(of_file(tmp_path, owned(20)), SETTINGS)
    named = snapshot.named(home)
    assert named.digest != snapshot.digest and named.texts == snapshot.texts
    assert snapshot.named(home).digest == named.digest  # the same rows again, for a student and its teacher
    with ContentKeys.open(home) as keys:
        keys.erase("ada", NOON)
    assert snapshot.named(home).digest not in (named.digest, snapshot.digest)


def test_what_is_about_an_erased_subject_is_not_learned_again_from_a_file(home, tmp_path, caplog):
    given = of_file(tmp_path, owned(20))
    assert without_erased(home, given) == list(given)
    with ContentKeys.open(home) as keys:
        keys.erase("ada", NOON)
    kept = without_erased(home, given)
    assert len(kept) == 15 and all(example.request.subject != "ada" for example in kept)
    assert "5 rows are about subjects that were erased here; they are left out" in caplog.text
    written = take_snapshot(given, SETTINGS).save(home)  # one that was taken before
    assert [row is None for row in read_snapshot(home, written.stem)][:5] == [True, False, False, False, True]
    later = [line | {"time": (NOON + timedelta(hours=1)).isoformat()} for line in owned(20)]
    assert len(without_erased(home, of_file(tmp_path, later))) == 20  # what came since is another matter


def test_rows_of_traffic_keep_their_keys_and_an_altered_row_is_refused(examples, home):
    with ContentKeys.open(home) as keys:
        day = keys.seal_of(subject=None, time=NOON, expires=NOON)
        given = [replace(example, seal=day) for example in examples(lines=lines(20))]
        snapshot = take_snapshot(given, SETTINGS)
        path = snapshot.save(home)
        assert pairs(home, snapshot)[3] == ("is number 3 odd", "yes")
        first, *rest = path.read_text().splitlines(keepends=True)
        path.write_text("".join([rest[0], first, *rest[1:]]))  # sealed rows stay in their places
        with pytest.raises(ArtifactDamaged, match="not as it was written"):
            read_snapshot(home, snapshot.digest)
        keys.expire(NOON + timedelta(days=2))
    assert read_snapshot(home, snapshot.digest) == [None] * 20


@pytest.mark.parametrize("time", [{}, {"time": NOON.isoformat()}])
def test_nothing_is_kept_that_learned_from_a_subject_erased_meanwhile(home, tmp_path, time):
    snapshot = take_snapshot(of_file(tmp_path, [line | time for line in owned(20)]), SETTINGS)
    snapshot.save(home)
    snapshot.check_erased(home)
    with ContentKeys.open(home) as keys:
        keys.erase("carol", NOON)
        snapshot.check_erased(home)  # not in it
        keys.erase("ada", NOON)
    with pytest.raises(DataError, match="was erased while they were learned from"):
        snapshot.check_erased(home)


def test_rows_without_a_subject_are_learned_from_whoever_is_erased(examples, home):
    take_snapshot(examples(lines=lines(20)), SETTINGS).check_erased(home)
    assert not home.exists()
