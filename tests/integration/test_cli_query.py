"""``cutor query`` and what ``doctor`` says of a projector, on a stack with nothing but one."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from cutor import Client, QueryError, QueryUnavailable
from tests.bare_stack import User, one_line, request
from tests.processes import kill, naming, outermost


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack with a projector and three queued submissions, whose views hold them."""
    user = User(tmp_path_factory.mktemp("projected"))
    started = user.up(roles=["projector"])
    assert started.returncode == 0, started.stderr
    try:
        for number in range(3):
            labels = {"quote": "a,\"b'\n", "number": str(number)}
            assert user.cutor("submit", "-", "--id", f"s{number}", stdin=request(labels=labels)).returncode == 0
        wait_for(user, 3)
        yield user
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


def count(user: User) -> int | None:
    """Return how many submissions the views hold, or None where nobody answers."""
    done = user.cutor("query", "select count(*) from submissions", "--json")
    return json.loads(done.stdout)["rows"][0][0] if done.returncode == 0 else None


def wait_for(user: User, submissions: int) -> None:
    deadline = time.monotonic() + 180
    while count(user) != submissions:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_table_for_people(projected: User) -> None:
    done = projected.cutor("query", "select id, status from submissions order by id")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line.split() for line in (lines[0], *lines[2:5])] == [["id", "status"], *([f"s{n}", "SUBMITTED"] for n in range(3))]
    assert lines[5] == "(3 rows)"


async def test_the_python_client_asks_with_parameters_and_a_bound_on_rows(projected: User) -> None:
    sql = "select id, labels['number']::int as number from submissions where labels['quote'] = $quote order by id"
    async with Client(projected.stack.server) as client:
        answer = await client.query(sql, {"quote": "a,\"b'\n"})
        assert [column.name for column in answer.columns] == ["id", "number"]
        assert (answer.rows, answer.truncated) == ([["s0", 0], ["s1", 1], ["s2", 2]], False)
        answer = await client.query(sql, {"quote": "a,\"b'\n"}, rows=2)
        assert (len(answer.rows), answer.truncated) == (2, True)
        with pytest.raises(QueryError, match="nowhere"):
            await client.query("from nowhere")


async def test_the_python_client_says_that_nobody_answers(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        with pytest.raises(QueryUnavailable, match="no projector answers"):
            await client.query("select 1")


def test_one_json_document(projected: User) -> None:
    for option in (["--json"], ["--format", "json"]):
        done = projected.cutor("query", "select id from submissions order by id", *option)
        document = json.loads(done.stdout)
        assert document["rows"] == [["s0"], ["s1"], ["s2"]]
        assert document["truncated"] is False


def test_csv_that_a_reader_reads_back(projected: User) -> None:
    done = projected.cutor("query", "select id, 'a,\"b\n' as odd from submissions order by id", "--format", "csv")
    assert list(csv.reader(done.stdout.splitlines(keepends=True))) == [["id", "odd"], *([f"s{n}", 'a,"b\n'] for n in range(3))]


def test_parquet_that_duckdb_reads_back(projected: User, tmp_path: Path) -> None:
    file = tmp_path / "answer.parquet"
    done = projected.cutor(
        "query", "select id, 7 as n from submissions order by id", "--format", "parquet", "--output", str(file)
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with duckdb.connect() as connection:
        assert connection.execute(f"select * from '{file}'").fetchall() == [("s0", 7), ("s1", 7), ("s2", 7)]


def test_an_output_takes_the_place_of_a_file_in_one_step(projected: User, tmp_path: Path) -> None:
    """Whoever has the old one open goes on reading that; of a question that fails nothing comes into its place."""
    file = tmp_path / "answer"
    file.write_text("old")
    file.chmod(0o640)
    with file.open() as opened:
        assert projected.cutor("query", "selec", "--output", str(file)).returncode == 2
        assert file.read_text() == "old"
        assert projected.cutor("query", "select 7 as n", "--format", "csv", "--output", str(file)).returncode == 0
        assert opened.read() == "old"
    assert (file.read_text(), file.stat().st_mode & 0o777) == ("n\n7\n", 0o640)
    assert [one.name for one in tmp_path.iterdir()] == ["answer"]


def test_an_output_that_cannot_be_written_is_one_line(projected: User) -> None:
    done = projected.cutor("query", "select 1", "--output", "/no/such/directory/file")
    assert "/no/such/directory is no directory" in one_line(done, 2)
    done = projected.cutor("query", "select 1", "--output", "/proc/self/no-such")
    assert "--output /proc/self/no-such: cannot be written: " in one_line(done, 2)


EXACT = "12345678901234567.89"


def test_decimals_stay_exact(projected: User, tmp_path: Path) -> None:
    sql = f"select {EXACT}::decimal(20,2) as d, [{EXACT}::decimal(20,2)] as l, 0.1::double as f"
    assert projected.cutor("query", sql, "--format", "csv").stdout == f"d,l,f\n{EXACT},[{EXACT}],0.1\n"
    document = json.loads(projected.cutor("query", sql, "--json").stdout, parse_float=Decimal)
    assert document["rows"] == [[Decimal(EXACT), [Decimal(EXACT)], Decimal("0.1")]]
    file = tmp_path / "answer.parquet"
    assert projected.cutor("query", sql, "--format", "parquet", "--output", str(file)).returncode == 0
    with duckdb.connect() as connection:
        assert connection.execute(f"select * from '{file}'").fetchall() == [(Decimal(EXACT), [Decimal(EXACT)], 0.1)]


@pytest.mark.parametrize("end", ["; -- done", ";;", " -- done", "; /* done */ ;\n", ";\n\n"])
def test_what_stands_behind_a_statement_does_no_harm(projected: User, end: str) -> None:
    assert projected.cutor("query", f"select 'é;' as x{end}", "--format", "csv").stdout == "x\né;\n"


def test_a_plan_is_a_picture(projected: User) -> None:
    shown = projected.cutor("query", "explain select count(*) from events").stdout
    assert shown.splitlines()[0].startswith("╭─")
    assert "\\n" not in shown


def test_a_question_from_standard_input(projected: User) -> None:
    done = projected.cutor("query", "-", "--json", stdin=b"select 40 + 2 as answer")
    assert json.loads(done.stdout)["rows"] == [[42]]


def test_more_rows_than_asked_for_are_said_to_be_missing(projected: User) -> None:
    done = projected.cutor("query", "select * from range(10)", "--rows", "2", "--format", "csv")
    assert len(done.stdout.splitlines()) == 3
    assert "the answer has more than 2 rows" in done.stderr


BAD_QUESTIONS = [
    "selec 1",
    "select * from no_such_table",
    "drop table submissions",
    "insert into events select 1",
    "",
    "select 1; select 2",
]


@pytest.mark.parametrize("sql", BAD_QUESTIONS)
def test_a_bad_question_is_one_line(projected: User, sql: str) -> None:
    one_line(projected.cutor("query", sql), 2)
    assert count(projected) == 3


def test_a_question_that_takes_too_long_is_exit_code_4(projected: User) -> None:
    endless = "select count(*) from range(1000000000) a, range(1000000) b"
    one_line(projected.cutor("query", endless, "--timeout", "0.5"), 4)
    assert count(projected) == 3


def test_without_a_projector_it_says_so(bare: User) -> None:
    assert "no projector answers" in one_line(bare.cutor("query", "select 1"), 3)


def test_doctor_asks_the_projector(projected: User, bare: User) -> None:
    answering = {one["what"]: one for one in json.loads(projected.cutor("doctor", "--json").stdout)}
    assert answering["projector"]["verdict"] == "ok"
    silent = bare.cutor("doctor", "--json")
    assert silent.returncode == 3
    assert {one["what"]: one["verdict"] for one in json.loads(silent.stdout)}["projector"] == "fail"


def test_a_killed_projector_whose_file_is_gone_comes_back_with_the_same_views(projected: User) -> None:
    before = projected.cutor("query", "select * exclude (time) from events order by sequence", "--json").stdout
    data = projected.stack.data
    (pid,) = outermost([pid for pid, line in naming(data).items() if f"projector --data {data}" in line])
    kill(pid)
    for file in data.glob("projections.duckdb*"):
        file.unlink()
    assert projected.cutor("status", "s0").returncode == 0
    wait_for(projected, 3)
    assert projected.cutor("query", "select * exclude (time) from events order by sequence", "--json").stdout == before
