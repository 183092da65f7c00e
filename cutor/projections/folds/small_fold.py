"""The fold of small batches: rows made in Python, for inserts that are planned once.

States are appended to ``folds.moving`` and not updated in place: an update of a row that has to be found first costs a
millisecond a submission. What has gathered there is worked into ``folds.settled`` by `settle`, and before the fold in SQL runs.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Final

import duckdb
import msgspec

from cutor.model.messages import Unreadable, malformed, read_message
from cutor.model.state import Stamp
from cutor.model.subjects import Address
from cutor.projections import schema
from cutor.projections.folds.inserts import JSON_TEXT, LIST, MAP, Insert, Kind, Row, numbers, texts
from cutor.projections.folds.planning import Planning
from cutor.projections.folds.small_batch import STAGE_NUMBERS, STAGE_TEXTS, Correction, Plain, SmallBatch, gather
from cutor.projections.folds.standing import Standing

SMALL: Final = 2000
"""Most messages of a batch that is folded here; more of them cost less in SQL."""
KEPT: Final = 10_000
"""Most submissions whose standing is kept in memory; of others it is read from the file."""
READ_AT_MOST_BYTES: Final = 16 << 20
"""Most bytes of bodies that are read again for the submissions of a batch. What wants more, SQL folds, which needs none."""
MOVING: Final = 2000
"""Rows in ``folds.moving`` before they are worked in, however few ``folds.settled`` has; see `MOVING_PART`."""
MOVING_PART: Final = 20
"""Most rows in ``folds.moving`` before they are worked in: so many, or the twentieth part of those in ``folds.settled``. All of
these are read each time, and commits wait."""

_SUBJECT: Final = re.compile(schema.SUBJECT_PATTERN)
"""Whose strays a message is among, even where its kind is none."""
_SHAPES: Final[dict[str, dict[str, Kind]]] = {
    "events": {"numbers": numbers(5), "texts": texts(8), "body": JSON_TEXT},
    "requests": {"numbers": numbers(3), "texts": texts(2), "labels": MAP, "test_case_names": LIST},
    "builds": {"numbers": numbers(3), "texts": texts(2)},
    "ends": {"numbers": numbers(2), "texts": texts(3)},
    "stages": {"numbers": numbers(STAGE_NUMBERS), "texts": texts(STAGE_TEXTS)},
    "moving": {"heads": numbers(2), "texts": texts(5), "numbers": numbers(14)},
}
"""The relations that ``sql/small`` reads, each by its statement's name."""
_OUTDATE: Final = (
    "UPDATE stages SET is_current = FALSE WHERE is_current AND sequence >= $1 AND tenant = $2 AND id = $3 "
    "AND if(stage = 'dependencies', sequence IS DISTINCT FROM $4, sequence < $5)"
)
_RETELL: Final = (
    "DELETE FROM stages WHERE sequence = $1 AND tenant = $2 AND id = $3 AND stage = $4 AND coalesce(test_case < $5, TRUE)"
)
_STORED: Final = (
    "SELECT tenant, id, submitted, strays, last_sequence FROM {source} WHERE id IN ({places}) ORDER BY last_sequence"
)
_HISTORIES: Final = (
    "SELECT tenant, id, sequence, time_ns, subject, fault, body, raw FROM events "
    "WHERE counts AND sequence >= $1 AND id IN ({places}) ORDER BY sequence"
)
_HISTORIES_BYTES: Final = (
    "SELECT coalesce(sum(coalesce(strlen(body), octet_length(raw))), 0) FROM events "
    "WHERE counts AND sequence >= $1 AND id IN ({places})"
)
"""All with the places of parameters, one for each submission."""


class TooMuchToRead(Exception):
    """What has happened to the submissions of a batch is too large to be read again: the fold in SQL is to have it."""


class SmallFold:
    """Folds small batches into an open file, inside of a transaction that its owner begins and ends."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, planning: Planning) -> None:
        self._connection = connection
        self._planning = planning
        self._inserts: dict[str, Insert] = {}
        self._standings: OrderedDict[Address, Standing] = OrderedDict()
        self._moving: int | None = None
        self._moved: set[Address] = set()
        self._settled = 0

    def prepare(self) -> None:
        """Have the inserts planned. To be called before the transaction of the first batch: views made anew have none."""
        if not self._inserts:
            self._inserts = {
                name: Insert(self._connection, f"small_{name}", sql, _SHAPES[name])
                for name, sql in schema.small_inserts().items()
            }

    def apply(self, batch: Sequence[Plain]) -> bool:
        """Fold messages in, and return whether all of them count. `prepare` was called.

        After an error nothing of them is to be committed, and `reset` is to be called. Raises `TooMuchToRead`, and what DuckDB
        raises.
        """
        self._planning.be_brief()
        self._read_standings({plain.address for plain in batch})
        rows = gather(batch, self._standings)
        for correction in rows.corrections:
            self._correct(correction)
        insert = self._inserts
        insert["events"](rows.events)
        insert["requests"](rows.requests)
        insert["builds"](rows.builds)
        insert["ends"](rows.ends)
        insert["stages"]([row.laid_out() for row in rows.stages])
        insert["moving"](self._states(batch, rows))
        while len(self._standings) > KEPT:
            self._standings.popitem(last=False)
        return rows.strays == 0

    @property
    def is_full(self) -> bool:
        """Whether the states of small batches are to be worked in."""
        return self._in_moving() >= max(MOVING, self._settled // MOVING_PART)

    def settle(self) -> None:
        """Work the states of small batches into the table of all, inside of a transaction."""
        if self._in_moving():
            self._planning.be_thorough()
            for sql in schema.settle_statements():
                self._connection.execute(sql)
            self._moving = 0
            self._moved.clear()
            [(self._settled,)] = self._connection.execute("SELECT count(*) FROM folds.settled").fetchall()

    def forget(self, subjects: Iterable[str]) -> None:
        """Drop what memory has of the submissions of subjects: others have folded them on."""
        for subject in subjects:
            found = _SUBJECT.fullmatch(subject)
            if found is not None:
                self._standings.pop(Address(found[1], found[2]), None)

    def reset(self) -> None:
        """Drop all that memory has: the transaction that it came of was not committed."""
        self._standings.clear()
        self._moving = None

    def _in_moving(self) -> int:
        """Return how many rows ``folds.moving`` has; read once, with whose they are, and after `reset`."""
        if self._moving is None:
            found = self._connection.execute("SELECT tenant, id FROM folds.moving").fetchall()
            self._moving, self._moved = len(found), {Address(tenant, name) for tenant, name in found}
        return self._moving

    def _states(self, batch: Iterable[Plain], rows: SmallBatch) -> list[Row]:
        addresses = dict.fromkeys(plain.address for plain in batch)
        self._moving = self._in_moving() + len(addresses)
        self._moved.update(addresses)
        return [rows.standings[address].row() for address in addresses]

    def _correct(self, of: Correction) -> None:
        if of.told is None:
            self._connection.execute(_OUTDATE, [of.submitted, *of.address, of.dependencies, of.began])
        else:
            self._connection.execute(_RETELL, [of.ended, *of.address, of.told, of.runs])

    def _read_standings(self, addresses: set[Address]) -> None:
        """Have the standings of submissions in memory: kept, read from the file, or new."""
        for address in addresses & self._standings.keys():
            self._standings.move_to_end(address)
        missing = sorted(addresses - self._standings.keys())
        if not missing:
            return
        found = self._stored(missing)
        for address in missing:
            self._standings[address] = Standing(address=address)
        if found:
            self._read_histories(found)

    def _stored(self, addresses: Sequence[Address]) -> dict[Address, tuple[int | None, int, int]]:
        """Return what the file has of submissions: the sequence of ``submitted``, strays, and the newest sequence."""
        found: dict[Address, tuple[int | None, int, int]] = {}
        moved = [address for address in addresses if address in self._moved] if self._in_moving() else []
        for source, wanted in (("folds.settled", addresses), ("folds.moved", moved)):
            if wanted:
                places = ", ".join(f"${place}" for place in range(1, len(wanted) + 1))
                sql = _STORED.format(source=source, places=places)
                rows = self._connection.execute(sql, [address.id for address in wanted]).fetchall()
                found |= {Address(tenant, name): numbers for tenant, name, *numbers in rows}  # type: ignore[misc]
        return {address: found[address] for address in addresses if address in found}

    def _read_histories(self, stored: dict[Address, tuple[int | None, int, int]]) -> None:
        """Fold again what counted of submissions that the file has and memory has not."""
        begun = [submitted for submitted, _, _ in stored.values() if submitted is not None]
        places = ", ".join(f"${place}" for place in range(2, len(stored) + 2))
        wanted = [min(begun, default=0), *(address.id for address in stored)]
        [(size_bytes,)] = self._connection.execute(_HISTORIES_BYTES.format(places=places), wanted).fetchall()
        if size_bytes > READ_AT_MOST_BYTES:
            raise TooMuchToRead
        events = self._connection.execute(_HISTORIES.format(places=places), wanted)
        for tenant, name, sequence, time_ns, subject, fault, body, raw in events.fetchall():
            standing = self._standings.get(Address(tenant, name))
            if standing is None or standing.address not in stored:
                continue
            message = malformed(fault) if fault is not None else read_message(subject, raw if body is None else body.encode())
            if not isinstance(message, Unreadable):
                standing.take(message, Stamp(sequence, time_ns))
        for address, (_, strays, last_sequence) in stored.items():
            _restore(self._standings[address], strays, last_sequence)


def _restore(standing: Standing, strays: int, last_sequence: int) -> None:
    standing.strays, standing.last_sequence = strays, last_sequence
    if standing.state is not None:
        standing.state = msgspec.structs.replace(standing.state, strays=strays)
