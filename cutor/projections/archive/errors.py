"""What can go wrong with an archive, as one line for people."""

from __future__ import annotations

from cutor.errors import REFUSED, CutorError


class ArchiveError(CutorError):
    """Root of all errors of the archive."""


class ArchiveUnnamed(ArchiveError):
    """No archive is configured, and none is named."""

    exit_code = REFUSED


class ArchiveBusy(ArchiveError):
    """Somebody else seals into this archive."""


class ArchiveUnusable(ArchiveError):
    """The directory cannot be made, read or written; the message names it."""


class ArchiveFull(ArchiveError):
    """The file system has too little room for the next segment; nothing was written."""


class CodeChanged(ArchiveError):
    """The files of cutor's code are others than those that this process began with."""


class ArchiveDamaged(ArchiveError):
    """A manifest or a segment is not what was sealed."""


class ArchiveForeign(ArchiveError):
    """The archive is of another stream than the one that the server holds."""

    exit_code = REFUSED


class MessagesMissing(ArchiveError):
    """Messages are neither in the archive nor in the stream."""


class GapRefused(ArchiveError):
    """What is to be acknowledged as missing is not what the stream lacks next."""

    exit_code = REFUSED
