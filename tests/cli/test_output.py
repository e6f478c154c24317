"""Results as JSON and as tables, and figures as people read them."""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from insource.cli.output import console, emit, json_option, milliseconds, money, percent, printable, table, to_json
from insource.errors import UserError
from insource.types import Stage


@dataclass(frozen=True, slots=True)
class Noun:
    name: str


def show(console):
    console.print(table("Figures", ("answer", "rows"), [("card", 12), ("[bold]re\x1bfund", None)]))


@click.command()
@json_option
def figures(json_path):
    emit({"rows": 12, "cost": Decimal("0.10")}, json_path, show)


def test_everything_a_result_may_hold_becomes_json():
    data = {
        "money": Decimal("0.000130"),
        "time": datetime(2026, 11, 21, tzinfo=UTC),
        "path": Path("a/b"),
        "stage": Stage.ACTIVE,
        "view": MappingProxyType({"a": 1}),
        "noun": Noun("x"),
        "numpy": [np.int64(3), np.float32(0.5), np.float64(0.25)],
        "share": Fraction(1, 4),
        "none": None,
        "set": frozenset({"b", "a"}),
        "umlaut": "ü",
    }
    text = to_json(data)
    assert "ü" in text
    assert text.startswith('{\n  "money": "0.000130",')
    assert json.loads(text) == {
        "money": "0.000130",
        "time": "2026-11-21T00:00:00+00:00",
        "path": "a/b",
        "stage": "active",
        "view": {"a": 1},
        "noun": {"name": "x"},
        "numpy": [3, 0.5, 0.25],
        "share": 0.25,
        "none": None,
        "set": ["a", "b"],
        "umlaut": "ü",
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan"), Decimal("NaN")])
def test_a_figure_that_is_not_finite_is_refused_and_nothing_printed(value, capsys):
    with pytest.raises(ValueError, match=r"JSON compliant|not finite"):
        emit({"risk": [value]}, "-", show)
    assert capsys.readouterr().out == ""


def test_what_is_no_data_is_refused():
    with pytest.raises(TypeError, match="object"):
        to_json({"x": object()})


@given(st.dictionaries(st.text(st.characters()), st.text(st.characters()) | st.integers() | st.none(), max_size=5))
def test_any_text_comes_back_lone_surrogates_included(data):
    text = to_json(data)
    assert json.loads(text.encode()) == data


@given(st.text(st.characters()))
def test_a_poor_encoding_gets_the_same_json(text):
    assert json.loads(to_json({"answer": text}, "ascii").encode("ascii")) == {"answer": text}


def test_without_json_only_the_table_is_printed():
    result = CliRunner().invoke(figures)
    assert "Figures" in result.stdout
    assert "{" not in result.stdout


def test_a_dash_prints_json_alone():
    assert json.loads(CliRunner().invoke(figures, ["--json", "-"]).stdout) == {"rows": 12, "cost": "0.10"}


def test_a_path_gets_the_json_and_the_table_is_printed_too(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("older, and longer than what comes now" * 9)
    result = CliRunner().invoke(figures, ["--json", str(path)])
    assert "Figures" in result.stdout
    assert json.loads(path.read_text()) == {"rows": 12, "cost": "0.10"}
    assert [found.name for found in tmp_path.iterdir()] == ["out.json"]


def test_a_new_file_has_the_mode_that_the_user_s_mask_gives(tmp_path):
    before = os.umask(0o027)
    try:
        emit({}, str(tmp_path / "out.json"), show)
    finally:
        os.umask(before)
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("where", ["nosuch/out.json", "."])
def test_a_place_where_no_file_can_be_is_refused_before_the_work(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(figures, ["--json", where])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "is no file in a folder that exists" in result.stderr


def test_a_file_that_cannot_be_replaced_leaves_no_draft(tmp_path):
    (tmp_path / "out.json").mkdir()
    (tmp_path / "out.json" / "x").touch()
    with pytest.raises(UserError, match=r"out\.json cannot be written"):
        emit({}, str(tmp_path / "out.json"), lambda console: None)
    assert [found.name for found in tmp_path.iterdir()] == ["out.json"]


def test_a_table_takes_text_as_it_is():
    out = CliRunner().invoke(figures).stdout
    assert "[bold]re\ufffdfund" in out
    card = next(line for line in out.splitlines() if "card" in line)
    assert card.endswith("  12") or card.rstrip().endswith("12")
    lines = [line for line in out.splitlines() if "card" in line or "fund" in line]
    assert lines[0].index("12") + 1 == lines[1].rindex("-")  # the figures end in one column


@given(st.text(st.characters()))
def test_printable_text_cannot_steer_a_terminal(text):
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)
    assert printable(text) == text or not text.isprintable()


def test_kept_control_characters_stay():
    assert printable("a\nb\x1b", keep="\n") == "a\nb\ufffd"


@pytest.mark.parametrize(("share", "text"), [
    (None, "unknown"), (0, "0.0 %"), (1.0, "100.0 %"), (0.937, "93.7 %"), (0.0004, "<0.1 %"), (0.99999, ">99.9 %"),
    (0.0006, "0.1 %"),
])  # fmt: skip
def test_percent(share, text):
    assert percent(share) == text


def test_percent_with_other_digits():
    assert percent(0.12345, 0) == "12 %"
    assert percent(0.999999, 2) == ">99.99 %"
    assert percent(0.001, 0) == "<1 %"


@pytest.mark.parametrize(("amount", "text"), [
    (None, "unknown"), (Decimal(0), "0.00 USD"), (Decimal("1234.567"), "1,234.57 USD"), (Decimal("0.01"), "0.01 USD"),
    (Decimal("0.000419"), "0.00042 USD"), (Decimal("-0.002"), "-0.0020 USD"),
])  # fmt: skip
def test_money(amount, text):
    assert money(amount, "USD") == text


def test_money_without_a_currency():
    assert money(Decimal("2.5")) == "2.50"


@pytest.mark.parametrize(("value", "text"), [
    (None, "unknown"), (0.0832, "0.083 ms"), (0.5, "0.50 ms"), (4.71, "4.7 ms"), (12.3, "12 ms"), (1250, "1,250 ms"),
])  # fmt: skip
def test_milliseconds(value, text):
    assert milliseconds(value) == text


def test_a_table_without_column_names_has_no_header_and_a_title_is_never_broken(capsys):
    shown = console()
    shown.print(table("a title that is longer than what stands below it", ("", ""), [("a", "b")]))
    out = capsys.readouterr().out
    assert out.startswith("a title that is longer than what stands below it\n") and "─" not in out
    shown.print(table("t", ("name", ""), [("a", "b")]))
    assert "name" in (out := capsys.readouterr().out) and "─" in out
