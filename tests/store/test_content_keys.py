from datetime import UTC, datetime, timedelta

import apsw
import pytest

from insource.errors import ArtifactDamaged, StoreError
from insource.store import columns, content_keys
from insource.store.content_keys import FILE, ContentKeys, keys_to_read
from insource.store.contents import sealed_rows

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
MONTH = NOON + timedelta(days=30)
PLACE = b"row 7"


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def keys(home):
    with ContentKeys.open(home) as opened:
        yield opened


def bytes_on_disk(home):
    return b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())


def stored_keys(home):
    connection = apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return [row[0] for row in connection.execute("SELECT key FROM keys")]
    finally:
        connection.close()


def test_a_text_is_opened_as_it_was_sealed_and_only_in_its_place(keys):
    seal = keys.seal_of(subject="ada", time=NOON, expires=MONTH)
    sealed = keys.seal(seal, PLACE, b"where is my card")
    assert b"card" not in sealed and keys.opened(seal, PLACE, sealed) == b"where is my card"
    assert keys.seal(seal, PLACE, b"where is my card") != sealed  # equal texts are not seen to be equal
    for place, data in (
        (b"row 8", sealed),
        (PLACE, sealed[:-1] + bytes([sealed[-1] ^ 1])),
        (PLACE, b""),
        (PLACE, sealed[:20]),
    ):
        with pytest.raises(ArtifactDamaged):
            keys.opened(seal, place, data)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"subject": "ada", "expires": MONTH}, {"subject": "bob", "expires": MONTH}),
        ({"subject": "ada", "expires": MONTH}, {"subject": "ada", "expires": MONTH + timedelta(days=1)}),
        ({"subject": "ada", "expires": MONTH}, {"subject": None, "expires": MONTH}),
        ({"subject": "ada", "expires": MONTH}, {"subject": "ada", "expires": None}),
    ],
)
def test_a_text_is_sealed_under_all_its_keys(keys, one, other):
    first, second = (keys.seal_of(time=NOON, **each) for each in (one, other))
    sealed = keys.seal(first, PLACE, b"text")
    with pytest.raises(ArtifactDamaged):
        keys.opened(second, PLACE, sealed)


def test_a_seal_without_a_key_is_none(keys):
    with pytest.raises(ValueError, match="of a subject"):
        keys.seal_of(subject=None, time=NOON, expires=None)
    assert keys.opened((), PLACE, b"anything") is None
    assert keys.seal((), PLACE, b"text") is None


def test_an_erased_subject_is_read_by_nobody_any_more_and_others_are(home, keys):
    seals = {who: keys.seal_of(subject=who, time=NOON, expires=MONTH) for who in ("ada", "bob")}
    sealed = {who: keys.seal(seal, PLACE, who.encode()) for who, seal in seals.items()}
    secret = next(key for key in stored_keys(home))
    before = stored_keys(home)
    with ContentKeys.open(home) as other, ContentKeys.open(home, read_only=True) as reader:
        assert reader.opened(seals["ada"], PLACE, sealed["ada"]) == b"ada"
        assert other.erase("ada", NOON) == (seals["ada"][0],)
        for each in (keys, reader, other):
            each.look()
            assert each.opened(seals["ada"], PLACE, sealed["ada"]) is None
            assert each.opened(seals["bob"], PLACE, sealed["bob"]) == b"bob"
    gone = set(before) - set(stored_keys(home))
    assert len(gone) == 1 and secret in before
    assert not any(key in bytes_on_disk(home) for key in gone)
    assert all(key in bytes_on_disk(home) for key in stored_keys(home))  # the control: the scan finds what is there
    assert b"ada" not in bytes_on_disk(home).replace(sealed["ada"], b"")


def test_texts_from_before_an_erasure_are_not_kept_later_and_new_ones_are(keys):
    keys.seal_of(subject="ada", time=NOON, expires=MONTH)
    first = keys.erase("ada", NOON)
    assert keys.seal_of(subject="ada", time=NOON, expires=MONTH) is None
    assert keys.seal_of(subject="ada", time=NOON - timedelta(days=1), expires=MONTH) is None
    assert keys.seal_of(subject="ada", time=NOON + timedelta(minutes=10), expires=MONTH) is None
    later = keys.seal_of(subject="ada", time=NOON + timedelta(minutes=10, seconds=1), expires=MONTH)
    assert later is not None and later[0] not in first
    again = keys.erase("ada", NOON + timedelta(hours=1))
    assert set(again) == {*first, later[0]} == set(keys.ids_of("ada")) == set(keys.erased()) == keys.destroyed(again)
    assert keys.ids_of("bob") == ()


def test_a_subject_that_was_never_seen_can_be_erased(keys):
    (made,) = keys.erase("nobody", NOON)
    assert keys.destroyed([made]) == {made}
    assert keys.seal_of(subject="nobody", time=NOON, expires=None) is None


def test_two_processes_make_one_key_for_a_subject(home, keys):
    with ContentKeys.open(home) as other:
        assert other.ids_of("ada") == ()
        seals = [each.seal_of(subject="ada", time=NOON, expires=MONTH) for each in (keys, other)]
        assert seals[0] == seals[1]
        assert other.opened(seals[0], PLACE, keys.seal(seals[0], PLACE, b"text")) == b"text"


def test_a_day_s_key_goes_when_all_of_the_day_has_expired_not_before(keys):
    midnight = datetime(2026, 12, 22, tzinfo=UTC)
    seals = [keys.seal_of(subject=None, time=NOON, expires=midnight + timedelta(hours=hours)) for hours in (-1, 0, 25)]
    sealed = [keys.seal(seal, PLACE, b"text") for seal in seals]

    def readable():
        return [keys.opened(*pair) is not None for pair in zip(seals, [PLACE] * 3, sealed, strict=True)]

    assert keys.expire(midnight - timedelta(microseconds=1)) == 0 and readable() == [True, True, True]
    assert keys.expire(midnight) == 1 and readable() == [False, True, True]
    assert keys.expire(midnight + timedelta(days=40)) == 2 and readable() == [False, False, False]


def test_a_key_of_its_own_is_destroyed_alone(keys):
    first, second = keys.fresh(), keys.fresh()
    sealed = [keys.seal((each,), PLACE, b"text") for each in (first, second)]
    keys.destroy([first])
    assert keys.opened((first,), PLACE, sealed[0]) is None
    assert keys.opened((second,), PLACE, sealed[1]) == b"text"


def test_pseudonyms_are_equal_for_equal_texts_and_another_home_s_differ(keys, tmp_path):
    with ContentKeys.open(tmp_path / "other") as other:
        assert keys.pseudonym("card") == keys.pseudonym("card") != keys.pseudonym("cash")
        assert keys.pseudonym("card") != other.pseudonym("card")


def test_what_is_bound_to_keys_is_the_same_until_one_is_destroyed(home, keys):
    seals = [keys.seal_of(subject=who, time=NOON, expires=None) for who in ("ada", "bob")]
    told = keys.bound(seals, b"rows")
    assert keys.bound(seals[::-1], b"rows") == keys.bound([*seals, seals[0]], b"rows") == told
    assert len({told, keys.bound(seals, b"other rows"), keys.bound(seals[:1], b"rows")}) == 3
    with ContentKeys.open(home) as other:
        assert other.bound(seals, b"rows") == told
        other.erase("ada", NOON)
        assert told not in {other.bound(seals, b"rows"), other.bound(seals[1:], b"rows")}


def test_what_a_log_still_holds_is_told(home, keys, monkeypatch):
    keys.seal_of(subject="ada", time=NOON, expires=None)
    reader = apsw.Connection(str(home / FILE), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM keys").fetchall()
    keys._connection.set_busy_timeout(10)
    with pytest.raises(StoreError, match="keeps reading"):
        keys.erase("ada", NOON)
    reader.close()
    assert keys.erase("ada", NOON)


def test_many_seals_are_forgotten_and_read_again(keys, monkeypatch):
    monkeypatch.setattr(content_keys, "MOST_KNOWN", 2)
    seals = [keys.seal_of(subject=f"s{n}", time=NOON, expires=MONTH) for n in range(5)]
    sealed = [keys.seal(seal, PLACE, b"%d" % n) for n, seal in enumerate(seals)]
    assert [keys.opened(seal, PLACE, each) for seal, each in zip(seals, sealed, strict=True)] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]
    assert len(keys._ciphers) <= 2 and len(keys._subjects) <= 2


def test_without_a_file_there_are_no_keys_to_read(home):
    with keys_to_read(home) as none:
        assert none is None
    assert not home.exists()


def test_another_file_s_key_of_the_same_day_is_another_key(home, keys, tmp_path):
    """After the loss of the file, texts from before count as gone, not as altered."""
    seal = keys.seal_of(subject=None, time=NOON, expires=MONTH)
    sealed = keys.seal(seal, PLACE, b"text")
    with ContentKeys.open(tmp_path / "anew") as anew:
        assert anew.seal_of(subject=None, time=NOON, expires=MONTH) != seal
        assert anew.opened(seal, PLACE, sealed) is None


def test_a_text_whose_subject_is_erased_while_it_is_sealed_is_left_out_and_the_others_are_kept(home, keys):
    """Between the look at the keys and the sealing; the decision's row must not be refused for it."""
    rows = [(n, b"salt", b"text", None, None, columns.micros(NOON), "t", columns.micros(MONTH), who)
            for n, who in enumerate(("ada", "bob"))]  # fmt: skip
    seal_of = keys.seal_of

    def erased_meanwhile(*, subject, **given):
        seal = seal_of(subject=subject, **given)
        if subject == "ada":
            keys.erase("ada", NOON)
        return seal

    keys.seal_of = erased_meanwhile
    assert [row[0] for row in sealed_rows(keys, rows)] == [1]
