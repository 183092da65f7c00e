"""Tables as text, JSON and CSV."""

from __future__ import annotations

import json
from decimal import Decimal

from cutor.projections.format import CELL_COLUMNS, to_csv, to_json, to_text
from cutor.projections.queries.client import Column, Table
from cutor.projections.queries.questions import AsOf
from cutor.text import width

TABLE = Table(
    columns=[Column("id", "VARCHAR"), Column("n", "BIGINT"), Column("labels", "MAP(VARCHAR, VARCHAR)")],
    rows=[["a\x1b[31m", 1, {"k": "v"}], [None, 12345, None], ['é,"x"\n', -1, {}]],
    truncated=True,
)


def test_text_aligns_and_escapes_what_could_move_a_cursor() -> None:
    assert to_text(TABLE).splitlines() == [
        "id             n  labels",
        "─────────  ─────  ──────────",
        'a\\x1b[31m      1  {"k": "v"}',
        "           12345",
        'é,"x"\\n       -1  {}',
        "(3 rows, and more that are not shown)",
    ]


def test_text_cuts_long_cells_and_counts_one_row() -> None:
    lines = to_text(Table([Column("x", "VARCHAR")], [["y" * 100]], truncated=False)).splitlines()
    assert lines[2] == "y" * 59 + "…"
    assert lines[-1] == "(1 row)"


def test_text_of_an_empty_answer_has_its_header() -> None:
    assert to_text(Table([Column("x", "VARCHAR")], [], truncated=False)) == "x\n─\n(0 rows)"


def test_text_says_how_far_behind_it_is_where_that_is_noticeable() -> None:
    as_of = {"EVENTS": AsOf(sequence=900, time="2026-01-31 12:00:00"), "ENVIRONMENTS": AsOf(sequence=0, time=None)}
    behind = {"EVENTS": 1234, "ENVIRONMENTS": 99}
    table = Table([Column("x", "VARCHAR")], [], False, as_of, behind)
    assert to_text(table).splitlines()[-1] == "(EVENTS: 1,234 messages behind, as of 2026-01-31 12:00:00)"
    assert to_text(table._replace(behind={"EVENTS": 99, "ENVIRONMENTS": 0})).splitlines()[-1] == "(0 rows)"
    document = json.loads(to_json(table))
    assert document["behind"] == behind
    assert document["as_of"]["EVENTS"] == {"sequence": 900, "time": "2026-01-31 12:00:00", "waits_for": None}


def test_json_is_the_whole_table() -> None:
    document = json.loads(to_json(TABLE))
    assert document["columns"][1] == {"name": "n", "type": "BIGINT"}
    assert document["rows"] == TABLE.rows
    assert document["truncated"] is True


def test_csv_quotes_and_leaves_null_empty() -> None:
    assert to_csv(TABLE) == 'id,n,labels\na\x1b[31m,1,"{""k"": ""v""}"\n,12345,\n"é,""x""\n",-1,{}\n'


def test_text_aligns_wide_characters_by_the_columns_that_they_take() -> None:
    table = Table(
        [Column("x", "VARCHAR"), Column("n", "DECIMAL(4,1)")], [["漢字", Decimal("10.5")], ["abc", Decimal("1.0")]], False
    )
    assert to_text(table).splitlines()[2:4] == ["漢字  10.5", "abc    1.0"]
    assert to_text(Table([Column("x", "VARCHAR")], [["漢" * 100]], truncated=False)).splitlines()[2] == "漢" * 29 + "…"


def test_decimals_are_written_digit_by_digit() -> None:
    exact = Decimal("12345678901234567.89")
    table = Table([Column("d", "DECIMAL(20,2)"), Column("l", "DECIMAL(20,2)[]")], [[exact, [exact, None]]], truncated=False)
    assert to_csv(table) == 'd,l\n12345678901234567.89,"[12345678901234567.89, null]"\n'
    assert json.loads(to_json(table), parse_float=str)["rows"] == [["12345678901234567.89", ["12345678901234567.89", None]]]


def test_a_plan_is_shown_as_it_is() -> None:
    plan = "┌───┐\n│ x\x1b[2J │\n└───┘"
    table = Table(
        [Column("explain_key", "VARCHAR"), Column("explain_value", "VARCHAR")], [["physical_plan", plan]], truncated=False
    )
    assert to_text(table) == "┌───┐\n│ x\\x1b[2J │\n└───┘"


def test_on_a_terminal_that_is_too_narrow_each_row_is_shown_by_itself() -> None:
    columns = [Column("sequence", "BIGINT"), Column("subject", "VARCHAR"), Column("odd\x1b[31m", "VARCHAR")]
    table = Table(columns, [[1, "cutor.ev.default.s1.submitted", None], [12, "x" * 500, "a\nb"]], truncated=False)
    assert to_text(table, 500) == to_text(table)
    lines = to_text(table, 40).splitlines()
    assert all(width(line) <= 40 for line in lines)
    assert lines[0] == "── 1 " + "─" * 35
    assert lines[1] == "sequence     1"
    assert lines[2] == "subject      cutor.ev.default.s1.submit…"
    assert lines[3] == r"odd\x1b[31m"
    assert lines[7] == r"odd\x1b[31m  a\nb"
    assert lines[-1] == "(2 rows)"
    assert to_text(Table(columns, [], truncated=False), 20).splitlines() == ["sequence", "subject", r"odd\x1b[31m", "(0 rows)"]


def test_the_name_of_a_column_is_no_longer_than_a_cell() -> None:
    table = Table([Column("x" * 90_000, "BIGINT")], [[1]], truncated=False)
    assert max(map(width, to_text(table).splitlines())) <= CELL_COLUMNS
