import ast
import errno
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

import insource
from insource.errors import StoreBusy, StoreError, StoreFull
from insource.store.translate import translated

PATH = Path("/somewhere/ledger.db")
APSW_ERRORS = [kind for kind in vars(apsw).values() if isinstance(kind, type) and issubclass(kind, apsw.Error)]
KNOWN = {apsw.FullError: StoreFull, apsw.BusyError: StoreBusy, apsw.LockedError: StoreBusy}


def test_the_list_of_apsw_errors_is_not_empty():
    assert len(APSW_ERRORS) > 40


@pytest.mark.parametrize("kind", APSW_ERRORS, ids=lambda kind: kind.__name__)
def test_every_apsw_error_is_translated(kind):
    with pytest.raises(StoreError) as caught, translated(PATH):
        raise kind("the words of SQLite")
    assert type(caught.value) is KNOWN.get(kind, StoreError)
    assert isinstance(caught.value.__cause__, kind)
    for part in (str(PATH), kind.__name__, "the words of SQLite"):
        assert part in str(caught.value)


def test_control_without_the_guard_the_apsw_error_escapes():
    with pytest.raises(apsw.FullError):
        raise apsw.FullError("database or disk is full")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_an_io_error_for_want_of_room_is_a_full_disk(number):
    with pytest.raises(StoreFull), translated(PATH, SimpleNamespace(system_errno=number)):
        raise apsw.IOError("disk I/O error")


def test_another_io_error_is_not_a_full_disk():
    with pytest.raises(StoreError) as caught, translated(PATH, SimpleNamespace(system_errno=errno.EIO)):
        raise apsw.IOError("disk I/O error")
    assert not isinstance(caught.value, StoreFull)


def test_programmers_errors_pass_through():
    with pytest.raises(ZeroDivisionError), translated(PATH):
        _ = 1 / 0


def statements_in_the_open(source: str) -> list[int]:
    """Lines that run SQL outside `translated` and `transaction`, in functions that are not given a connection."""
    tree = ast.parse(source)
    guarded, found = set(), []
    for node in ast.walk(tree):
        is_guard = isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Call)
            and ast.unparse(item.context_expr.func) in ("translated", "transaction", "self._writing")
            for item in node.items
        )
        takes_connection = isinstance(node, ast.FunctionDef) and any(a.arg == "connection" for a in node.args.args)
        if is_guard or takes_connection or getattr(node, "name", "") in ("_set_stage", "_read"):
            guarded |= {id(inside) for inside in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == "execute" and id(node) not in guarded:
            found.append(node.lineno)
    return found


def test_no_statement_runs_outside_the_translation():
    for file in (Path(insource.__path__[0]) / "store").glob("*.py"):
        assert statements_in_the_open(file.read_text()) == [], file.name


def test_control_a_statement_in_the_open_is_found():
    assert statements_in_the_open("def read(self):\n    return self._connection.execute('SELECT 1')") == [2]
