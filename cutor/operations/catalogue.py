"""The environments of a stack, as its views know them: with sizes, builds, hits and last use.

Whoever decides by it (a pin, a removal) does so under the fence of the environment's own events
(`cutor.journal.environments`): the views say what there is to decide about.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from cutor.bus.connection import Bus
from cutor.errors import REFUSED, UNAVAILABLE, CutorError
from cutor.model.catalogue import KEY_PREFIX, Entry
from cutor.model.quoting import shown
from cutor.model.state import TERMINAL
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.model.units import counted
from cutor.projections.queries.client import Table, query
from cutor.projections.queries.questions import MOST_ROWS

Record = TypeVar("Record", bound=msgspec.Struct)

CATCH_UP_S: Final = 20.0
"""How long a projector may take to fold in what was in the streams when it was asked for."""
PAUSE_S: Final = 0.05
"""Between two looks whether the projector has come as far. It folds within tenths of a second. A choice."""
COLUMNS: Final = Entry.__struct_fields__
NAMED_AT_MOST: Final = 5
"""Environments that an error names whose keys begin alike."""
KEYS_AT_ONCE: Final = 2000
"""A question of 140 KB, an answer of 1 MB at the most."""
HISTORY_AT_MOST: Final = 100
"""Events that the history of an environment shows, the newest."""
UNENDED: Final = f"status NOT IN {tuple(sorted(TERMINAL))}"
"""By the status, whose number is in the row itself: by the time of the end, all of every submission would be put together."""
SQL: Final = """
WITH unended AS (
    SELECT environment_key AS key, tenant || '/' || id AS submission FROM submissions WHERE {unended}
), given AS (
    SELECT key, count(*) AS submissions FROM unended WHERE key IS NOT NULL GROUP BY key
), known AS (
    SELECT
        environments.*,
        greatest(coalesce(given.submissions, 0), (owner.submission IS NOT NULL)::BIGINT) AS waiting
    FROM environments
    LEFT JOIN given USING (key)
    LEFT JOIN unended AS owner ON owner.submission = environments.private_to
)
SELECT {columns} FROM known WHERE {where} ORDER BY greatest(built_at, last_used_at) DESC NULLS LAST, key
"""
"""The view, and the submissions that have an environment, or are the one that it is private to, and have not ended."""


GIVEN: Final = """
WITH given AS (
    SELECT
        environment_key AS key, tenant, id, labels,
        row_number() OVER (
            PARTITION BY environment_key
            ORDER BY labels['cutor'] IS NOT NULL, labels['cutor'] IS NOT NULL AND cardinality(labels) = 1, first_sequence DESC
        ) AS place
    FROM submissions WHERE environment_key IN ({keys})
)
SELECT key, tenant, id, to_json(labels)::VARCHAR AS labels FROM given WHERE place = 1
"""
"""The newest submission of each key that was handed in for its own sake; else of a command of ``env``, with labels first."""
GIVEN_AT_ONCE: Final = 500
"""Of such a question: labels are bounded for each submission, and an answer as a whole."""


class Happening(msgspec.Struct, frozen=True, kw_only=True):
    """An event of an environment: when, what, by which builder, why."""

    at: str
    kind: str
    worker: str | None
    reason: str | None


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """A submission that has an environment, and when it was handed in."""

    at: str
    tenant: str
    id: str
    status: str
    outcome: str | None


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The submission that an environment is known by: the newest that was given it, with its labels."""

    tenant: str
    id: str
    labels: dict[str, str]


class EnvironmentUnknown(CutorError):
    """No environment has such a key."""

    exit_code = REFUSED


class KeyAmbiguous(CutorError):
    """Several environments have keys that begin so."""

    exit_code = REFUSED


class ViewsBehind(CutorError):
    """The projector does not get to what the streams held when it was asked."""

    exit_code = UNAVAILABLE


class Catalogue:
    """What the projector of a stack knows of environments, over one bus."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def entries(self, *, removed: bool = False) -> list[Entry]:
        """Return the environments that stand, or with ``removed`` all that there ever were; the last one touched first.

        They hold all that was in the streams when this was called. Raises `ViewsBehind`, `QueryUnavailable`.
        """
        where = "true" if removed else "built_at IS NOT NULL AND NOT removed"
        return await self._asked(where, MOST_ROWS)

    async def of(self, keys: Iterable[str]) -> list[Entry]:
        """Return what is known of some keys, removed or not; those of which nothing is known are left out. Raises as `entries`.

        However many environments there ever were: an answer of the projector is bounded, so it is asked a few at a time.
        """
        await self._caught_up()
        wanted = sorted(keys)
        batches = [wanted[at : at + KEYS_AT_ONCE] for at in range(0, len(wanted), KEYS_AT_ONCE)]
        found: list[Entry] = []
        for batch in batches:
            named = ", ".join(f"'{key}'" for key in batch if KEY_PREFIX.fullmatch(key))
            found += await self._known(f"key IN ({named})", len(batch)) if named else []
        return found

    async def find(self, prefix: str) -> Entry:
        """Return the environment whose key begins so, removed or not.

        Raises `EnvironmentUnknown`, `KeyAmbiguous`, and as `entries`.
        """
        if not KEY_PREFIX.fullmatch(prefix):
            raise EnvironmentUnknown(f"{shown(prefix)} is no key of an environment: 8 to 64 of 0-9 and a-f; `cutor env list`")
        found = await self._asked(f"starts_with(key, '{prefix}')", NAMED_AT_MOST)
        if not found:
            raise EnvironmentUnknown(f"no environment has a key that begins with {prefix}: `cutor env list --all` shows all")
        if len(found) > 1:
            named = ", ".join(entry.key[: len(prefix) + 8] for entry in found)
            raise KeyAmbiguous(f"several keys begin with {prefix} ({named}): give more of it")
        return found[0]

    async def history(self, key: str) -> list[Happening]:
        """Return what happened to an environment, the newest `HISTORY_AT_MOST` events, in their order."""
        sql = f"SELECT time AS at, kind, worker, reason FROM environment_events WHERE {_of(key)} ORDER BY sequence DESC"  # noqa: S608
        return _records(await query(self._bus, sql, rows=HISTORY_AT_MOST), Happening)[::-1]

    async def uses(self, key: str, count: int) -> list[Use]:
        """Return the newest submissions that have an environment."""
        sql = (
            "SELECT submitted_at AS at, tenant, id, status, outcome FROM submissions "  # noqa: S608 - a key is hexadecimal
            f"WHERE environment_{_of(key)} ORDER BY first_sequence DESC"
        )
        return _records(await query(self._bus, sql, rows=count), Use)

    async def given(self, keys: Iterable[str]) -> dict[str, Given]:
        """Return of keys the newest submission that has each, with its labels; one that nothing was given is left out.

        One that a command of ``cutor env`` handed in stands only where there is no other.
        """
        wanted = sorted(key for key in keys if KEY_PREFIX.fullmatch(key))
        found: dict[str, Given] = {}
        for at in range(0, len(wanted), GIVEN_AT_ONCE):
            batch = wanted[at : at + GIVEN_AT_ONCE]
            sql = GIVEN.replace("{keys}", ", ".join(f"'{key}'" for key in batch))
            for key, tenant, submission_id, labels in (await query(self._bus, sql, rows=len(batch))).rows:
                found[key] = Given(tenant=tenant, id=submission_id, labels=_labels(labels))
        return found

    async def _asked(self, where: str, rows: int) -> list[Entry]:
        await self._caught_up()
        return await self._known(where, rows)

    async def _known(self, where: str, rows: int) -> list[Entry]:
        """Return what the view says; ``where`` is SQL of this module's own."""
        sql = SQL.replace("{unended}", UNENDED).replace("{columns}", ", ".join(COLUMNS)).replace("{where}", where)
        return _records(await query(self._bus, sql, rows=rows), Entry)

    async def _caught_up(self) -> None:
        """Wait until the views hold what the streams hold now."""
        infos = await asyncio.gather(*(self._bus.stream_info(stream) for stream in (EVENTS, ENVIRONMENTS)))
        wanted = {stream: int(info["state"]["last_seq"]) for stream, info in zip((EVENTS, ENVIRONMENTS), infos, strict=True)}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CATCH_UP_S
        while True:
            reached = dict((await query(self._bus, "SELECT stream, sequence FROM checkpoint")).rows)
            behind = {stream: last - reached.get(stream, 0) for stream, last in wanted.items()}
            if all(number <= 0 for number in behind.values()):
                return
            if loop.time() > deadline:
                stream, number = max(behind.items(), key=lambda item: item[1])
                raise ViewsBehind(
                    f"the projector is {counted(number, 'message')} of {stream} behind: try again, its log says more"
                )
            await asyncio.sleep(PAUSE_S)


def _of(key: str) -> str:
    """Return the condition on a key, which is checked to be one."""
    assert KEY_PREFIX.fullmatch(key), key
    return f"key = '{key}'"


def _labels(text: str | None) -> dict[str, str]:
    return {} if text is None else msgspec.json.decode(text, type=dict[str, str])


def _records(table: Table, kind: type[Record]) -> list[Record]:
    names = [column.name for column in table.columns]
    return [msgspec.convert(dict(zip(names, row, strict=True)), kind) for row in table.rows]
