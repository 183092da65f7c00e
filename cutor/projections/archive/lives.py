"""The events of submissions from the archive, for whoever asks for some of many by their ids."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Final, Self

import duckdb

from cutor.bus.message import Stored
from cutor.model.subjects import EVENTS, Address
from cutor.projections.archive.errors import ArchiveDamaged
from cutor.projections.archive.joined import Joined, Piece
from cutor.projections.archive.segment_file import connect, messages_at

NAME: Final = "split_part(subject, '.', 3) || '.' || split_part(subject, '.', 4)"
"""What names the submission in an event's subject."""


class Lives:
    """What the archive has of some submissions; see `among`."""

    def __init__(self, joined: Joined, found: dict[Address, list[tuple[int, int]]], pieces: Sequence[Piece]) -> None:
        self._joined = joined
        self._found = found
        self._pieces = pieces
        self._checked: set[int] = set()
        self.sealed = joined.sealed
        """The last sequence that is sealed."""

    @classmethod
    async def among(cls, joined: Joined, addresses: Sequence[Address]) -> Self:
        """Look through all files for the events of these submissions: in one pass, at their subjects alone.

        Raises `ArchiveDamaged`.
        """
        pieces = joined.pieces(joined.first, joined.sealed)
        return cls(joined, await asyncio.to_thread(_locate, pieces, addresses), pieces)

    async def messages(self, addresses: Sequence[Address]) -> dict[Address, list[Stored]]:
        """Return the messages of some of them, each life in its order; none for who has none. Raises `ArchiveDamaged`."""
        places = sorted((*place, address) for address in addresses for place in self._found.get(address, ()))
        lives: dict[Address, list[Stored]] = {}
        for number, those in groupby(places, key=itemgetter(0)):
            of = {sequence: address for _, sequence, address in those}
            piece = self._pieces[number]
            if number not in self._checked:
                await self._joined.check(piece)
                self._checked.add(number)
            for message in await asyncio.to_thread(messages_at, EVENTS, piece.path, list(of)):
                lives.setdefault(of[message.sequence], []).append(message)
        return lives


def _locate(pieces: Sequence[Piece], addresses: Sequence[Address]) -> dict[Address, list[tuple[int, int]]]:
    """Return in which of the pieces, and at which sequences, there are messages of these submissions."""
    found: dict[Address, list[tuple[int, int]]] = {}
    by_name = {f"{address.tenant}.{address.id}": address for address in addresses}
    with connect() as connection:
        connection.execute("CREATE TABLE wanted AS SELECT unnest($1::VARCHAR[]) AS name", [list(by_name)])
        for number, piece in enumerate(pieces):
            sql = f"SELECT sequence, {NAME} FROM read_parquet($1) WHERE {NAME} IN (SELECT name FROM wanted)"  # noqa: S608 - above
            try:
                rows = connection.execute(sql, [str(piece.path)]).fetchall()
            except duckdb.Error as error:
                raise ArchiveDamaged(f"{piece.path}: it cannot be read: {str(error).partition(chr(10))[0]}") from error
            for sequence, name in rows:
                found.setdefault(by_name[name], []).append((number, sequence))
    return found
