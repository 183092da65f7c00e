"""Questions to a projector that is at work: what may be asked is answered, and nothing else gets anywhere."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import msgspec
import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.projections.errors import QueryError, QueryTimeout, QueryUnavailable
from cutor.projections.parquet import to_parquet
from cutor.projections.queries.client import query
from cutor.projections.queries.questions import Question
from cutor.projections.queries.service import AT_ONCE
from tests.integration.projecting import FINISHED, PATIENCE_S, happen, happen_to_many, projector, until
from tests.nats_server import OwnServer
from tests.processes import descendants, name_of
from tests.raw_nats import connected_raw, pub, send_raw


@pytest.fixture
async def served(own_server: OwnServer, own_bus: Bus, tmp_path: Path) -> AsyncIterator[Bus]:
    """A bus on a server where a projector holds the life of one submission."""
    last = await happen(own_bus, "one", *FINISHED)
    async with projector(own_server.url, tmp_path / "views.duckdb"):
        await until(own_bus, "SELECT sequence FROM checkpoint WHERE stream = 'EVENTS'", last)
        yield own_bus


REFUSED = {
    "COPY (SELECT 1) TO '/tmp/cutor-stolen.csv'": "not COPY",
    "EXPORT DATABASE '/tmp/cutor-stolen'": "not EXPORT",
    "SELECT * FROM read_csv('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM read_text('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM read_blob('/proc/self/environ')": "disabled by configuration",
    "SELECT * FROM '/etc/passwd'": "does not exist",
    "SELECT * FROM glob('/etc/*')": "disabled by configuration",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/cutor-stolen.csv'": "disabled by configuration",
    "ATTACH '/etc/passwd' AS stolen": "not ATTACH",
    "INSTALL httpfs": "not LOAD",
    "LOAD httpfs": "not LOAD",
    "PRAGMA threads=64": "not SET",
    "SET memory_limit = '100GB'": "not SET",
    "RESET lock_configuration": "not SET",
    "INSERT INTO events SELECT * FROM events": "not INSERT",
    "EXPLAIN ANALYZE DELETE FROM events": "read-only",
    "DELETE FROM stages": "not DELETE",
    "UPDATE stages SET outcome = 'OK'": "not UPDATE",
    "DROP VIEW submissions": "not DROP",
    "CREATE TEMP TABLE t AS SELECT 1": "not CREATE",
    "CALL enable_logging()": "not CALL",
    "SELECT 1; DROP VIEW submissions": "one statement at a time: found 2",
    "SELECT 1) AS a; DROP VIEW submissions; SELECT (1": "syntax error",
    "SELECT * FROM query('DELETE FROM events')": "single SELECT",
    "SELECT * FROM sniff_csv('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM parquet_metadata('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM read_json('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM read_parquet('https://example.org/x')": "disabled by configuration",
    "SELECT * FROM read_duckdb('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM 'https://example.org/x.csv'": "disabled by configuration",
    "SELECT * FROM 'views.duckdb'": "disabled by configuration",
    "SELECT * FROM sqlite_scan('/x', 'y')": "not in the catalog",
    "SELECT * FROM read_ndjson_objects('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM parquet_schema('/etc/passwd')": "disabled by configuration",
    "SELECT * FROM read_csv(['/etc/passwd', '/etc/group'])": "disabled by configuration",
    "WITH w AS (FROM '/etc/passwd') FROM w": "does not exist",
    "DESCRIBE SELECT * FROM read_csv('/etc/passwd')": "disabled by configuration",
    "SUMMARIZE '/etc/passwd'": "does not exist",
    "FROM histogram('/etc/passwd', content)": "does not exist",
    "SELECT * FROM connection": "does not exist",
    "FROM pandas_scan(140000000000000)": "No function matches",
    "FROM arrow_scan(1, 2, 3)": "No function matches",
    "FROM force_checkpoint()": "Cannot FORCE CHECKPOINT",
    "SET VARIABLE x = 1": "not SET",
    "USE memory": "not SET",
    "BEGIN": "not TRANSACTION",
    "VACUUM": "not VACUUM",
    "EXECUTE p": "not EXECUTE",
    "COPY (SELECT 1) TO PROGRAM 'id'": "syntax error",
    "PRAGMA profiling_output='/tmp/cutor-stolen.json'": "not SET",
    "CREATE OR REPLACE TEMP VIEW submissions AS SELECT 1": "not CREATE",
    "SELECT 1) AS answer(c0) LIMIT 1; --": "syntax error",
    f"SELECT {'(SELECT ' * 5000}1{')' * 5000}": "depth limit",
    f"SELECT {'case when true then ' * 3000}1{' end' * 3000}": "depth limit",
    f"SELECT null::{'struct(a ' * 6000}int{')' * 6000}": "depth limit",
    f"FROM events{' CROSS JOIN events' * 3000}": "depth limit",
    "SELECT * FROM json_each(repeat('[', 20000) || repeat(']', 20000))": "nested too deeply",
    "SELECT * FROM query_table('/etc/passwd')": "does not exist",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''/etc/passwd'')'))": (
        "disabled by configuration"
    ),
    "SELECT getenv('HOME')": "does not exist",
    "SELECT * FROM enable_logging()": "the configuration has been locked",
    "EXPLAIN ANALYZE SET threads = 64": "the configuration has been locked",
    "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1": "read-only",
    "EXPLAIN INSTALL httpfs": "syntax error",
    "FORCE CHECKPOINT": "not CALL",
    "CREATE SECRET s (TYPE s3)": "not CREATE",
    "CREATE MACRO m() AS 1": "not CREATE",
    "IMPORT DATABASE '/tmp'": "not PRAGMA",
    "UPDATE EXTENSIONS": "cannot be answered",
    "PREPARE p AS SELECT 1": "not PREPARE",
    "COMMENT ON TABLE events IS 'x'": "not ALTER",
    "COPY events FROM '/etc/passwd'": "not COPY",
    "DETACH views": "not DETACH",
    "WITH x AS (INSERT INTO events SELECT * FROM events RETURNING *) FROM x": "must be at the top level",
    "PIVOT events ON kind USING count(*)": "not MULTI",
    "SELECT json(repeat('[', 100000) || repeat(']', 100000))": "nested too deeply",
    f"SELECT {'(' * 30_000}1{')' * 30_000}": "depth limit",
    f"SELECT {'[' * 30_000}1{']' * 30_000}": "depth limit",
    f"SELECT * FROM {'(SELECT * FROM ' * 3000}events{')' * 3000}": "depth limit",
    "": "there is no statement to answer",
    "SELECT nothing FROM events": "nothing",
    "SELECT '\ud800'": "not UTF-8",
    f"SELECT '{'x' * 200_000}'": "more than 100000 characters",
}


async def test_what_may_not_be_asked_is_refused_in_one_line(served: Bus) -> None:
    for sql, reason in REFUSED.items():
        with pytest.raises(QueryError) as caught:
            await query(served, sql)
        assert reason in str(caught.value), sql
        assert "\n" not in str(caught.value)
    assert not list(Path("/tmp").glob("cutor-stolen*"))  # noqa: ASYNC240 - nothing else runs here


async def test_where_the_copy_lies_is_nowhere_to_be_read(served: Bus, tmp_path: Path) -> None:
    """It is open for the question, alone in the world: neither its bytes nor its directory are among the answers."""
    [[path]] = (await query(served, "SELECT path FROM duckdb_databases() WHERE database_name = 'views'")).rows
    assert path == "/views.duckdb.snapshot"
    for function in ("read_blob", "read_text", "read_duckdb", "glob"):
        with pytest.raises(QueryError, match="disabled by configuration"):
            await query(served, f"SELECT * FROM {function}('{path}')")
        with pytest.raises(QueryError, match="disabled by configuration"):
            await query(served, f"SELECT * FROM {function}('{path}.wal')")
    for function in ("duckdb_secrets()", "which_secret('s3://x', 's3')"):
        assert (await query(served, f"SELECT count(*) FROM {function}")).rows == [[0]]
    for told in (
        "FROM duckdb_settings()",
        "FROM duckdb_databases()",
        "FROM pragma_database_size()",
        "SELECT current_setting('allowed_paths'), current_setting('temp_directory'), current_setting('secret_directory')",
        "SELECT * FROM pg_catalog.pg_database",
        "SHOW DATABASES",
    ):
        rows = (await query(served, told)).rows
        assert str(tmp_path) not in str(rows), told
        assert str(Path.home()) not in str(rows), told


LONG_S = 110.0
"""Longer than anything else takes; what a question may take is little more."""
NEVER_ENDING = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
HEAVY = (
    "SELECT count(*) FROM (SELECT DISTINCT hash(range) FROM range(2000000000))",
    "SELECT repeat('x', 4000000000)",
    "SELECT lpad('', 2000000000, 'x')",
    "SELECT list(range) FROM range(1000000000)",
    "SELECT repeat('x', 10000) FROM range(10000)",
    "SELECT array_agg(x) FROM (SELECT repeat('y', 1000000) AS x FROM range(1000))",
    "WITH RECURSIVE t AS (SELECT repeat('x', 1000000) AS s UNION ALL SELECT s || s FROM t) SELECT max(length(s)) FROM t",
    NEVER_ENDING,
    "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11",
    "EXPLAIN ANALYZE SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
    "SELECT count(*) FROM (SELECT range FROM range(3000000000) ORDER BY hash(range))",
    "SELECT regexp_matches(repeat('a', 1000000000), '(a*)*b')",
    "SELECT levenshtein(repeat('a', 300000), repeat('b', 300000))",
    "SELECT sleep_ms(100000)",
    "SELECT format('{:2000000000}', 1)",
    "SELECT list_resize([1], 4000000000)",
    "SELECT bitstring('1', 2000000000)",
    "SELECT quantile(range, 0.5) FROM range(1000000000)",
    "SELECT count(*) FROM (SELECT unnest(range(100000)) FROM range(1000000))",
    "SELECT from_json('{}', repeat('[', 40000) || '\"INT\"' || repeat(']', 40000))",
)
"""What wants more memory or time than there is. The last one runs out of stack: the kernel ends its process, and no other."""


async def ask_each(bus: Bus, questions: tuple[str, ...]) -> None:
    """Ask one after the other; each is refused or stopped, in one line."""
    for sql in questions:
        with pytest.raises((QueryError, QueryTimeout)) as end:
            await query(bus, sql, timeout_s=1.0, rows=1_000_000)
        assert "\n" not in str(end.value), sql


async def test_what_takes_too_much_is_ended_while_the_writer_goes_on(served: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """A second each, two at a time; who asks is none of those that only waited."""
    asking = [asyncio.create_task(ask_each(served, HEAVY[lane::AT_ONCE])) for lane in range(AT_ONCE)]
    await happen_to_many(served, 20, "meanwhile")
    await asyncio.gather(*asking)
    await until(served, "SELECT count(*) FROM submissions WHERE outcome IS NOT NULL", 21)
    assert "the query service ended" not in caplog.text


async def test_who_does_not_take_an_answer_hinders_nobody(
    served: Bus, own_server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty ask for answers of many MB: half of them are gone before those come, the others never read what does."""
    large = msgspec.json.encode(Question(sql="SELECT repeat('x', 10000) AS x FROM range(3000)"))
    slow = [await connected_raw(own_server.url) for _ in range(10)]
    for number, (_, writer) in enumerate(slow):
        writer.write(b"SUB inbox.%d 1\r\n" % number + pub(b"cutor.query", large, reply=b"inbox.%d" % number))
    for _ in range(10):
        await send_raw(own_server.url, pub(b"cutor.query", large, reply=b"inbox.gone"))
    try:
        assert (await query(served, "SELECT count(*) > 5 FROM events", timeout_s=60.0)).rows == [[True]]
        assert len((await query(served, "SELECT repeat('x', 10000) AS x FROM range(2000)", timeout_s=60.0)).rows) == 2000
    finally:
        for _, writer in slow:
            writer.close()
    assert "the query service ended" not in caplog.text


async def test_who_only_waited_is_not_told_of_a_slow_query(served: Bus) -> None:
    with pytest.raises(QueryTimeout, match="took longer than 1 s"):
        await query(served, NEVER_ENDING, timeout_s=1.0)
    await questions_at_work(0)
    running = [asyncio.create_task(query(served, NEVER_ENDING, timeout_s=LONG_S)) for _ in range(AT_ONCE)]
    await questions_at_work(AT_ONCE)
    with pytest.raises(QueryTimeout, match=r"waited 0\.5 s for its turn"):
        await query(served, "SELECT 1", timeout_s=0.5)
    assert not any(one.done() for one in running)
    for one in running:
        one.cancel()


async def test_two_that_sleep_do_not_keep_others_from_their_answers(served: Bus) -> None:
    """Some seconds for who waits; the one that came last is stopped, its process ends, and the other goes on."""
    sleeping = "SELECT sleep_ms(600000)"
    first = asyncio.create_task(query(served, sleeping, timeout_s=LONG_S))
    await questions_at_work(1)
    second = asyncio.create_task(query(served, sleeping, timeout_s=LONG_S))
    await questions_at_work(2)
    assert (await query(served, "SELECT 42", timeout_s=LONG_S)).rows == [[42]]
    with pytest.raises(QueryUnavailable, match="2 long ones ran, and others waited: ask again later"):
        await second
    await questions_at_work(1)
    assert not first.done()
    first.cancel()


async def questions_at_work(count: int) -> None:
    """Wait until so many processes of this test's projector run a question."""
    async with asyncio.timeout(PATIENCE_S):
        while sum(name_of(pid) == "query" for pid in descendants(os.getpid())) != count:
            await asyncio.sleep(0.01)


async def test_values_beside_a_statement_stay_values(served: Bus) -> None:
    hostile = "one' OR 'a' = 'a'; DROP VIEW submissions; --\0 $tenant \u202e"
    sql = "SELECT $said, $count + 1, $nothing IS NULL, $yes AND $half < 1, (SELECT count(*) FROM submissions WHERE id = $said)"
    values = {"said": hostile, "count": 41, "nothing": None, "yes": True, "half": 0.5}
    assert (await query(served, sql, parameters=values)).rows == [[hostile, 42, True, True, 0]]
    sql = "SELECT id FROM submissions WHERE id = $id;  -- a comment"
    assert (await query(served, sql, parameters={"id": "one"})).rows == [["one"]]
    assert (await query(served, "EXPLAIN SELECT $id", parameters={"id": "one"})).columns[0].name == "explain_key"
    for sql, parameters, reason in (
        ("SELECT $missing", {}, "missing"),
        ("SELECT 1", {"left over": 1}, "Expected 0, got 1"),
        ("SELECT 1", {f"p{number}": number for number in range(101)}, "more than 100 parameters"),
        ("SELECT $text", {"text": "\ud800"}, "not UTF-8"),
    ):
        with pytest.raises(QueryError, match=reason) as caught:
            await query(served, sql, parameters=parameters)
        assert "\n" not in str(caught.value)


async def test_an_answer_sees_what_was_committed_before(served: Bus) -> None:
    for number in range(5):
        last = await happen(served, f"s{number}", *FINISHED)
        await until(served, "SELECT sequence FROM checkpoint WHERE stream = 'EVENTS'", last)
        assert (await query(served, f"SELECT status FROM submissions WHERE id = 's{number}'")).rows == [["FINISHED"]]


async def test_large_answers_come_whole_or_say_that_they_do_not(served: Bus) -> None:
    table = await query(served, "SELECT range, repeat('x', 100) FROM range(50000) ORDER BY range DESC", rows=50_000)
    assert [row[0] for row in table.rows] == list(range(49_999, -1, -1))
    assert not table.truncated
    table = await query(served, "SELECT range FROM range(11) ORDER BY range", rows=10)
    assert (len(table.rows), table.truncated) == (10, True)


async def test_values_keep_their_types_into_parquet(served: Bus, tmp_path: Path) -> None:
    sql = (
        'SELECT 1::BIGINT AS a, 2.5::DOUBLE AS a, \'x\' AS "quo""ted", TRUE AS b, NULL::INTEGER AS n, '
        "TIMESTAMP '2026-01-31 12:00:00.123456' AS t, 1.10::DECIMAL(10,2) AS d, ['p', NULL] AS l, {'k': [1]} AS s, "
        "'nan'::DOUBLE AS nan, 170141183460469231731687303715884105727::HUGEINT AS h, '\\xAA\\x00'::BLOB AS blob"
    )
    target = tmp_path / "it's.parquet"
    to_parquet(await query(served, sql), target)
    with duckdb.connect() as connection:
        cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(target)])
        types = {name: str(kind) for name, kind, *_ in cursor.description}
        [row] = cursor.fetchall()
        moment = connection.execute("SELECT TIMESTAMP '2026-01-31 12:00:00.123456'").fetchall()[0][0]
    assert types["t"] == "TIMESTAMP"
    assert types["a"] == "BIGINT"
    assert list(types)[:3] == ["a", "a_2", 'quo"ted']
    assert row[:6] == (1, 2.5, "x", True, None, moment)
    assert (float(row[6]), row[7], row[8], row[11]) == (1.1, ["p", None], '{"k": [1]}', b"\xaa\x00")


async def test_nobody_there_is_said_at_once(nats_server: EmbeddedServer, bus: Bus) -> None:
    with pytest.raises(QueryUnavailable, match=r"no projector answers queries at nats://127\.0\.0\.1") as caught:
        await query(bus, "SELECT 1")
    assert "\n" not in str(caught.value)


async def test_an_answer_says_of_when_it_is(served: Bus) -> None:
    answer = await query(served, "SELECT max(sequence) FROM events")
    assert answer.as_of is not None
    assert [[answer.as_of["EVENTS"].sequence]] == answer.rows
    assert answer.behind == {"EVENTS": 0, "ENVIRONMENTS": 0}


async def test_who_is_content_with_an_older_answer_gets_one(served: Bus) -> None:
    before = (await query(served, "SELECT count(*) FROM events")).rows
    last = await happen(served, "later", *FINISHED)
    await until(served, "SELECT sequence FROM checkpoint WHERE stream = 'EVENTS'", last)
    await happen(served, "latest", *FINISHED)
    while (old := await query(served, "SELECT count(*) FROM events", max_age_s=600.0)).behind != {
        "EVENTS": len(FINISHED),
        "ENVIRONMENTS": 0,
    }:
        assert old.rows == [[before[0][0] + len(FINISHED)]]
    await until(served, "SELECT count(*) FROM events", before[0][0] + 2 * len(FINISHED))
