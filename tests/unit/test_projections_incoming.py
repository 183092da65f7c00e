"""What the fold takes of a batch is the same whether messages were read together or one by one, whatever stands among them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.model.codec import decode_many, encode
from cutor.model.environments import EnvironmentRemoved, EnvironmentUnpinned
from cutor.model.events import Cancelled, Cleaned, Interrupted, Signal, Stage, kind_of
from cutor.model.messages import malformed
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.folds import readings
from cutor.projections.folds.batches import batch_of, unfoldable
from cutor.projections.folds.incoming import BUILDS, ENDS, INCOMING, REQUESTS, STAGES
from cutor.projections.folds.readings import AT_ONCE, read
from tests.bench.lives import lives
from tests.unit.histories import RUNNING, leased, ran

SUBJECT = "cutor.ev.default.s1."
LEASED = encode(leased("builder"))
RAN = encode(ran(0, "OK"))
HALF = len(RAN) // 2

UNUSUAL = {
    "no JSON": ("ran", b"{"),
    "no UTF-8": ("ran", b"\xff"),
    "empty": ("ran", b""),
    "not of its subject": ("ran", LEASED),
    "spaces": ("ran", RAN.replace(b":", b": ", 1)),
    "a line end within": ("ran", RAN.replace(b",", b",\n", 1)),
    "a line end behind": ("ran", RAN + b"\n"),
    "two at once": ("ran", RAN + b"\n" + RAN),
    "an unknown field": ("ran", RAN[:-1] + b',"more":"\xc3"}'),
    "a field twice": ("ran", RAN[:-1] + b',"index":7}'),
    "its kind twice": ("ran", RAN[:-1] + b',"kind":"leased"}'),
    "an unknown kind": ("ran", RAN.replace(b'"ran"', b'"run"')),
    "a version of tomorrow": ("ran", RAN.replace(b'"version":1', b'"version":2')),
    "a version of never": ("ran", RAN.replace(b'"version":1', b'"version":0')),
    "a submission with a fault": ("submitted", encode(malformed("broken"))),
    "a submission that cannot be read": ("submitted", b"nothing"),
    "deep": ("ran", b"[" * 100_000),
}

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def message(sequence: int, kind: str, body: bytes, subject: str = SUBJECT) -> Stored:
    return Stored(EVENTS, sequence, subject + kind, sequence * 1000, f"m{sequence}" if sequence % 2 else None, {}, body)


def relations(database: duckdb.DuckDBPyConnection, columns: Columns, stream: str = EVENTS) -> dict[str, Rows]:
    """Return what DuckDB sees of a batch."""
    found = {}
    for name, relation in batch_of(stream, columns).relations().items():
        database.register(name, relation)
        cursor = database.execute(f"FROM {name}")
        names = [column[0] for column in cursor.description]
        found[name] = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    return found


def one_by_one(database: duckdb.DuckDBPyConnection, columns: Columns, monkeypatch: pytest.MonkeyPatch) -> dict[str, Rows]:
    """Return the same where no two messages are read together."""
    with monkeypatch.context() as patch:
        patch.setattr(readings, "_read_usual", lambda part: None)
        return relations(database, columns)


@pytest.mark.parametrize("unusual", UNUSUAL.values(), ids=UNUSUAL)
@pytest.mark.parametrize("place", [0, AT_ONCE - 1, AT_ONCE])
def test_one_that_is_unusual_is_read_as_ever_and_keeps_no_others_from_it(
    database: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch, unusual: tuple[str, bytes], place: int
) -> None:
    usual = [(kind_of(event), encode(event)) for event in RUNNING]
    bodies = list(itertools.islice(itertools.cycle(usual), AT_ONCE + 20))
    bodies[place] = unusual
    columns = Columns.of(message(sequence, kind, body) for sequence, (kind, body) in enumerate(bodies, 1))
    found = relations(database, columns)
    assert found == one_by_one(database, columns, monkeypatch)
    body, raw = found[INCOMING][place]["body"], found[INCOMING][place]["raw"]
    assert (body.encode() if raw is None else raw) == unusual[1]
    assert (body is None) == (raw is not None)


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b'{"kind":"cancelled"', "cancelled: "),
        (b'{"kind":"cancelled","reason":"\xff"}', "not UTF-8"),
        (b'{"kind":"cancelled","reason":"\xed\xa0\x80"}', "not UTF-8"),
        (b'{"kind":"rejected"}', "rejected: "),
    ],
)
def test_a_body_that_is_no_event_says_why_and_nothing_else(
    database: duckdb.DuckDBPyConnection, body: bytes, fault: str
) -> None:
    found = relations(database, Columns.of([message(1, "cancelled", body)]))
    [row] = found[INCOMING]
    assert row["fault"].startswith(fault) or row["fault"].startswith("not an event")
    assert (row["kind"], row["tenant"], row["id"]) == ("cancelled", "default", "s1")
    assert [row[name] for name in ("step", "version", "role", "worker", "lease_token", "lease_number")] == [None] * 6
    assert found[ENDS] == []


def test_what_unknown_fields_hold_is_looked_at_before_it_is_called_json(database: duckdb.DuckDBPyConnection) -> None:
    bodies = [b'{"kind":"cancelled","more":1e999}', b'{"kind":"cancelled","more":[1]}']
    found = relations(database, Columns.of(message(n, "cancelled", body) for n, body in enumerate(bodies, 1)))
    assert [row["fault"] for row in found[INCOMING]] == [None] * 2
    assert [row["body"] for row in found[INCOMING]] == [None, bodies[1].decode()]
    assert [row["sequence"] for row in found[ENDS]] == [1, 2]


@pytest.mark.parametrize("subject", ["cutor.ev.default.s1.x.", "cutor.ev.DEFAULT.s1.", "cutor.ev.default.s 1.", "cutor.env."])
def test_a_subject_that_is_none_of_an_events(database: duckdb.DuckDBPyConnection, subject: str) -> None:
    stored = [message(1, "ran", RAN), message(2, "ran", RAN, subject), message(3, "ran", RAN)]
    rows = relations(database, Columns.of(stored))[INCOMING]
    assert [row["fault"] for row in rows] == [None, "not the subject of an event", None]
    assert [row["step"] is None for row in rows] == [False, True, False]


def test_bodies_that_are_events_only_together_are_none(database: duckdb.DuckDBPyConnection) -> None:
    stored = [message(1, "ran", RAN[:HALF]), message(2, "ran", RAN[HALF:]), message(3, "ran", RAN + b"\n" + RAN)]
    found = relations(database, Columns.of(stored))
    assert None not in [row["fault"] for row in found[INCOMING]]
    assert found[STAGES] == []
    assert decode_many([RAN, RAN[:HALF], RAN[HALF:]]) is None
    assert decode_many([RAN + b"\n" + RAN, b""]) is None


def test_whole_lives_are_read_together(database: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = Columns.of(lives(3000))
    monkeypatch.setattr(readings, "_read_any", None)  # calling it fails
    assert [one for part in read(columns) for one in part.kinds] == [subject.rsplit(".", 1)[1] for subject in columns.subjects]
    found = relations(database, columns)
    assert [row["body"].encode() for row in found[INCOMING]] == columns.bodies
    assert [row["message_id"] for row in found[INCOMING]] == columns.message_ids
    assert {row["fault"] for row in found[INCOMING]} == {None}
    counted = {name: sum(kind in kinds for kind in event_kinds(columns)) for name, kinds in ROWS_OF.items()}
    assert {name: len(found[name]) for name in ROWS_OF} == counted


def event_kinds(columns: Columns) -> list[str | None]:
    """The kind of the event that each message is; None where it is none, or is a first message that cannot be read."""
    found = (one for part in read(columns) for one in zip(part.kinds, part.versions, strict=True))
    return [None if version is None else kind for kind, version in found]


ROWS_OF = {
    REQUESTS: {"submitted"},
    BUILDS: {"cache-built"},
    ENDS: {"finished"},
    STAGES: {"cache-built", "compiled", "ran"},
}


def test_every_field_has_its_column_and_numbers_of_more_than_64_bits_are_null(database: duckdb.DuckDBPyConnection) -> None:
    stage = Stage(
        outcome="SG", name="ä", signal=Signal(number=11, name="SIGSEGV"), cpu_time_ms=1 << 70, wall_time_ms=300, message="\0"
    )
    told = Cleaned(worker="w", by="worker", interrupted=Interrupted(stage="run", stages=(stage, stage), index=1 << 64))
    swept = msgspec.structs.replace(told, by="sweep")
    stored = [message(n, "cleaned", encode(event)) for n, event in enumerate([told, swept], 1)]
    found = relations(database, Columns.of([*stored, message(3, "cancelled", encode(Cancelled(reason="why")))]))
    first, second, third = found[INCOMING]
    names = ("interrupted_stage", "interrupted_index", "interrupted_stages", "interrupted_passed")
    assert [first[name] for name in names] == ["run", None, 2, 0]
    assert [second[name] for name in names] == [third[name] for name in names] == [None] * 4
    assert [(row["sequence"], row["place"]) for row in found[STAGES]] == [(1, 0), (1, 1)]
    assert found[STAGES][1] | {"limits": None} == {
        "sequence": 1, "place": 1, "outcome": "SG", "name": "ä", "exit_code": None, "signal": 11, "signal_name": "SIGSEGV",
        "cpu_time_ms": None, "wall_time_ms": 300, "memory_peak_bytes": None, "stdout_bytes": 0, "stdout_truncated": False,
        "stderr_bytes": 0, "stderr_truncated": False, "limits": None, "message": "\0",
    }  # fmt: skip
    assert found[ENDS] == [{"sequence": 3, "outcome": "CANCELLED", "message": "why", "parked_stage": None}]


def test_what_the_fold_refuses_becomes_a_message_that_could_not_be_read(database: duckdb.DuckDBPyConnection) -> None:
    columns = Columns.of([message(1, "ran", RAN), message(2, "submitted", encode(malformed("broken")))])
    batch = unfoldable(EVENTS, columns, "too odd")
    database.register("refused", batch.relations()[INCOMING])
    rows = database.execute("SELECT fault, step IS NULL, kind, body, raw FROM refused").fetchall()
    assert rows == [
        ("cannot be folded: too odd", True, "ran", None, RAN),
        ("cannot be folded: too odd", False, "submitted", None, columns.bodies[1]),
    ]
    assert batch.faults == 2


def test_environments_come_in_columns_too(database: duckdb.DuckDBPyConnection) -> None:
    bodies = [
        encode(EnvironmentRemoved(key="k", reason="gone")),
        encode(EnvironmentUnpinned(key="k", pin_sequence=1 << 70)),
        encode(EnvironmentRemoved(key="other", reason="gone")),
        b"\xff",
    ]
    columns = Columns.of(Stored(ENVIRONMENTS, n, "cutor.env.k", n, None, {}, body) for n, body in enumerate(bodies, 1))
    rows = relations(database, columns, ENVIRONMENTS)["incoming_environments"]
    assert [row["kind"] for row in rows] == ["env-removed", "env-unpinned", None, None]
    assert [row["pin_sequence"] for row in rows] == [None, 0, None, None]
    assert [row["reason"] for row in rows] == ["gone", None, None, None]
    assert [row["raw"] for row in rows] == [None, None, None, b"\xff"]
    assert batch_of(ENVIRONMENTS, columns).faults == 2
