"""A leaf is the same from values and from the row that was stored, in both implementations; it never changes."""

import json
import math

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from insource.governance.verifier import verify_ledger as second
from insource.store import migrations
from insource.store.insert import COLUMNS, insert_rows
from insource.store.proof.leaf import BLOBS, INTEGERS, REALS, TABLES, leaf

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
WHOLE = st.integers(-(2**63), 2**63 - 1)
REAL = st.floats(allow_nan=True) | st.integers(-(2**40), 2**40)
SOURCES = ("feedback", "label", "review")


def column(connection, table, name):
    """A strategy for the values of a column, by its declared type."""
    ((kind, needed),) = connection.execute(
        'SELECT type, "notnull" FROM pragma_table_info(?) WHERE name = ?', (table, name)
    )
    if name == "source":
        return st.sampled_from(SOURCES)
    values = {"TEXT": TEXT, "INTEGER": WHOLE | st.booleans(), "REAL": REAL, "BLOB": st.binary(max_size=33)}[kind]
    if needed:
        return values.filter(lambda value: not (isinstance(value, float) and math.isnan(value)))
    return values | st.none()


def empty():
    connection = apsw.Connection(":memory:")
    for step in migrations.LEDGER:
        step(connection)
    return connection


EMPTY = empty()
ROWS = {table: st.tuples(*(st.just(7) if name == "seq" else column(EMPTY, table, name)
                           for name in COLUMNS[table].split(", "))) for table in TABLES}  # fmt: skip


@given(st.data())
def test_values_and_the_stored_row_give_the_same_leaf(data):
    table = data.draw(st.sampled_from(TABLES))
    values = data.draw(ROWS[table])
    connection = EMPTY
    connection.execute("BEGIN")
    try:
        insert_rows(connection, table, [values])
        cursor = connection.execute(f"SELECT * FROM {table}")
        names = [each[0] for each in cursor.get_description()]
        (stored,) = cursor.fetchall()
        (read,) = connection.execute(f"SELECT {COLUMNS[table]} FROM {table}").fetchall()
    finally:
        connection.execute("ROLLBACK")
    found = leaf(table, values)
    assert found == leaf(table, read)
    row = {name: value for name, value in zip(names, stored, strict=True) if value is not None}
    assert found == second.leaf_bytes(table, row)
    assert json.loads(found)["kind"] == table and json.loads(found)["row"]["seq"] == 7


def test_every_column_of_every_table_is_in_the_leaf_and_of_a_known_kind():
    for table in TABLES:
        kinds = dict(EMPTY.execute("SELECT name, type FROM pragma_table_info(?)", (table,)).fetchall())
        assert kinds.keys() == set(COLUMNS[table].split(", "))
        for name, kind in kinds.items():
            wanted = next((kind for kind, names in (("REAL", REALS), ("INTEGER", INTEGERS), ("BLOB", BLOBS))
                           if name in names and not (table == "feedback" and name == "answer")), "TEXT")  # fmt: skip
            assert kind == wanted, (table, name)


def test_the_form_of_a_leaf_is_fixed():
    """These bytes are in trees that were signed: they may never change."""
    values = {"seq": 2, "request_id": "r-\u00e9\n", "time": 5, "outcome": "accepted", "reason": "above_threshold",
              "audited": True, "audit_rate": 1, "score": -0.0, "threshold": 1e-7,
              "content_digest": b"\1\xff"}  # fmt: skip
    row = [values.get(name) for name in COLUMNS["decisions"].split(", ")]
    assert leaf("decisions", row).decode() == (
        '{"kind":"decisions","leaf":1,"row":{"audit_rate":"1.0","audited":1,"content_digest":"01ff",'
        '"outcome":"accepted","reason":"above_threshold","request_id":"r-\u00e9\\n","score":"0.0","seq":2,'
        '"threshold":"1e-07","time":5}}'
    )


def test_a_column_added_later_leaves_old_leaves_as_they_are():
    row = [7, "r-1", *(None for _ in COLUMNS["decisions"].split(", ")[2:])]
    assert leaf("decisions", row) == b'{"kind":"decisions","leaf":1,"row":{"request_id":"r-1","seq":7}}'


def test_text_that_no_file_can_hold_is_refused():
    with pytest.raises(UnicodeEncodeError):
        leaf("acts", (1, 2, "\ud800", "b", "c", None))
