"""The how-to for analysts: the query service answers each of its questions, in the columns that the page shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from cutor.model.events import Stage, Submitted
from cutor.model.limits import DEFAULT_LIMITS
from cutor.model.subjects import EVENTS, Address
from cutor.projections.queries.executor import ask, connect
from cutor.projections.store import Store
from tests.many_lives import write_views
from tests.unit.histories import BUILT, REQUEST, SUBMITTED, finished, lease, leased, ran
from tests.unit.views import Written, written

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "ask.md"
QUESTION = re.compile(
    r"^## (?P<title>.+)$\n+(?P<what_for>[^\n#|`].+)\n+```sql\n(?P<sql>[^`]+)```\n+(?P<table>(?:^\|.*\|$\n)+)", re.MULTILINE
)
BEGIN_NS = 1_790_000_000 * 1_000_000_000
END_NS = BEGIN_NS + 8 * 86_400 * 1_000_000_000
NARROW = msgspec.structs.replace(DEFAULT_LIMITS.run.default, wall_time_ms=1000, cpu_time_ms=1000, memory_bytes=64 << 20)
LIMITED = Stage(outcome="OK", exit_code=0, cpu_time_ms=9, wall_time_ms=9, memory_peak_bytes=61 << 20)


class Question(NamedTuple):
    """A question of the page, and the table that it shows for an answer."""

    title: str
    sql: str
    columns: list[str]
    rows: list[str]


def questions() -> list[Question]:
    found = []
    for one in QUESTION.finditer(PAGE.read_text()):
        head, _, *rows = one["table"].splitlines()
        found.append(Question(one["title"], one["sql"], [name.strip() for name in head.strip("|").split("|")], rows))
    return found


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two thousand lives, and one of each rarer thing: re-judging, stray, dead letter, narrow limit, one that waits."""
    path = tmp_path_factory.mktemp("views") / "views.duckdb"
    write_views(path, 2000, begin_ns=BEGIN_NS)
    narrow = msgspec.structs.replace(LIMITED, limits=NARROW)
    narrowly = msgspec.structs.replace(ran(0), stages=(narrow, narrow))
    again = msgspec.structs.replace(
        SUBMITTED, caused_by="s1", request=msgspec.structs.replace(REQUEST, labels={"rejudge": "new-compiler"})
    )
    stray = msgspec.structs.replace(ran(0, "OK"), lease=lease("runner", token="lost"))
    happened = [
        *((Address("default", "s1"), event) for event in (*BUILT, leased("runner"), narrowly, finished(), stray)),
        *(
            (Address("default", "s2"), event)
            for event in (again, *BUILT[1:], leased("runner"), ran(0, "OK", "WA"), finished("WRONG_ANSWER"))
        ),
        (Address("teaching", "s3"), Submitted(request=REQUEST, digest="d3")),
    ]
    store = Store.open(path)
    try:
        [(last,)] = store._connection.execute("SELECT sequence FROM checkpoint WHERE stream = 'EVENTS'").fetchall()
        messages = [written(last + n, address, event) for n, (address, event) in enumerate(happened, 1)]
        messages.append(Written(last + len(messages) + 1, "cutor.ev.default.s1.ran", b"no event"))
        for n, message in enumerate(messages):
            message.time_ns = END_NS + n * 1_000_000_000
        store.apply(EVENTS, messages)
    finally:
        store.close()
    connection = connect(str(path), 1 << 30)
    yield connection
    connection.close()


def test_the_page_has_at_least_ten_questions_and_each_block_is_one() -> None:
    assert len(questions()) >= 10
    assert len(questions()) == PAGE.read_text().count("```sql")


@pytest.mark.parametrize("question", questions(), ids=lambda question: question.title)
def test_the_service_answers_in_the_columns_that_the_page_shows(views: Any, question: Question) -> None:
    answer = json.loads(ask(views, {"sql": question.sql, "parameters": {}, "rows": 10_000, "answer_bytes": 1 << 20}))
    assert [column["name"] for column in answer["columns"]] == question.columns
    assert answer["rows"]
    assert question.rows
