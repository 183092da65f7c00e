"""Which archive is the stack's: a disk that is not mounted is no archive that has yet to begin.

An archive has a mark, a random one, and the stream STACK knows which mark is in which directory. Where a directory has another
one, or none any more, nothing is written there and nothing let go of: what is sealed in a directory beneath a mount point is
out of sight as soon as the disk is back.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

from cutor.bus.connection import Bus
from cutor.bus.errors import NotPermitted, StreamMissing
from cutor.errors import REFUSED
from cutor.model.subjects import STACK
from cutor.projections.archive.errors import ArchiveError
from cutor.projections.archive.place import Archive
from cutor.projections.archive.sealing import STREAMS, state_of

SUBJECT: Final = "cutor.stack.archive"
BEGIN: Final = "`cutor archive seal --begin` begins one there"
ONE_PLACE: Final = "the archiver of any other one under this path then does nothing more"
_MARK: Final = re.compile(rb"[0-9a-f]{32}")


class ArchiveElsewhere(ArchiveError):
    """The directory has not the archive that it had; the message says which, and what to do."""

    exit_code = REFUSED


async def check_mark(bus: Bus, archive: Archive, *, begin: bool = False) -> str | None:
    """See to it that the archive is the one that the stack has sealed into under this name, for who holds it.

    A new one gets a mark, and ``begin`` takes whatever is there for it. Returns a line to warn with where the stack cannot be
    told of it. Raises `ArchiveElsewhere`, and the archive's errors.
    """
    subject = _subject(archive)
    known, here = await _known(bus, subject), archive.mark()
    if not begin:
        await _check(bus, archive, known, here)
    here = here or archive.make_mark()
    return None if here == known else await _tell(bus, subject, here)


async def check_place(bus: Bus, archive: Archive) -> str | None:
    """Look whether the stack has another archive under this name; nothing is written, neither there nor to the stack.

    Returns a line to warn with where the stack does not say. Raises `ArchiveElsewhere`, and the archive's errors.
    """
    try:
        known = await _known(bus, _subject(archive))
    except NotPermitted as error:
        return f"{error}: whether this is the archive that the stack has there is not known"
    await _check(bus, archive, known, archive.mark())
    return None


def _subject(archive: Archive) -> str:
    return f"{SUBJECT}.{hashlib.sha256(str(archive.directory.absolute()).encode()).hexdigest()[:16]}"


async def _check(bus: Bus, archive: Archive, known: str | None, here: str | None) -> None:
    if known is not None and here != known:
        raise ArchiveElsewhere(
            f"{archive.directory}: this is not the archive that this stack has there: is its disk mounted? Nothing is "
            "sealed or let go of. Is that one on another host, take another path here; is it lost for good, "
            f"{BEGIN}: {ONE_PLACE}"
        )
    if here is None:
        await _check_beginnings(bus, archive)


async def _known(bus: Bus, subject: str) -> str | None:
    """Return the mark that the stack knows; what is none, nobody can have told."""
    try:
        stored = await bus.last(STACK, subject, consistent=True)
    except StreamMissing:
        return None
    return stored.body.decode() if stored is not None and _MARK.fullmatch(stored.body) else None


async def _check_beginnings(bus: Bus, archive: Archive) -> None:
    """Raise `ArchiveElsewhere` where a stream has let go of its beginning, and nothing of it is there: it went somewhere."""
    for stream in STREAMS:
        manifest = archive.manifest(stream)
        try:
            first = (await state_of(bus, stream)).first
        except StreamMissing:
            continue
        if first > 1 and not (manifest and manifest.segments):
            raise ArchiveElsewhere(
                f"{archive.directory}: {stream} begins at {first}, and nothing of it is sealed there: is the disk of its "
                f"archive mounted? Nothing is sealed or let go of. Is there none, {BEGIN}, with what the streams have"
            )


async def _tell(bus: Bus, subject: str, mark: str) -> str | None:
    """Tell the stack which mark is there; return why that could not be."""
    try:
        await bus.publish(subject, mark.encode())
    except StreamMissing:
        pass
    except NotPermitted as error:
        return f"{error}: a disk that is not mounted will not be noticed (deploy/nats/cluster/accounts.conf has the new line)"
    return None
