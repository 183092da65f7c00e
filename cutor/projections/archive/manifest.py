"""What an archive says of the segments of one stream, and how that is held together by hashes. Pure.

Every segment's link in the chain covers the link before it, so that none can be changed, left out or put elsewhere without all
later links. What is behind the last one, only whoever noted that link can know: `cutor archive status` prints it.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Final

import msgspec

from cutor.projections.archive.errors import ArchiveDamaged

VERSION: Final = 1
"""Of the manifest's form: an archive in another version is refused."""
SEQUENCE_DIGITS: Final = 20
"""As many as the largest sequence of a stream has: names of files stand in the order of what is in them."""
_UNKNOWN: Final = "unknown field"
"""What msgspec says of one."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_SEGMENT_NAME: Final = re.compile(rf"\d{{{SEQUENCE_DIGITS}}}-\d{{{SEQUENCE_DIGITS}}}\.parquet", re.ASCII)

Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class Segment(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One file: the messages ``first`` to ``last`` of a stream, none missing.

    ``missing`` are so many before it, as somebody acknowledged.
    Times are the stream's, in nanoseconds since 1970 UTC. ``fingerprint`` is that of the last message, as the projector's
    checkpoint has it; ``sha256`` that of the file; ``chain`` covers all of this and the segment before. ``rules`` is what
    former versions noted of a column that nothing reads any more: it stays, for their chains cover it.
    """

    first: Count
    last: Count
    body_bytes: Count
    file_bytes: Count
    first_time_ns: int
    last_time_ns: int
    fingerprint: str
    sha256: str
    rules: str = ""
    missing: Count = 0
    chain: str = ""

    @property
    def messages(self) -> int:
        """How many there are."""
        return self.last - self.first + 1

    @property
    def file_name(self) -> str:
        """The name of its file; it follows from the range, so that a manifest can name no other file."""
        return f"{self.first:0{SEQUENCE_DIGITS}}-{self.last:0{SEQUENCE_DIGITS}}.parquet"


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The segments of one stream in order, without a gap that nobody acknowledged.

    ``created`` is when the stream was made, as its server writes it; ``acknowledged`` how many messages are missing behind the
    last segment, as somebody said who looked: the next one begins behind them.
    """

    version: int
    stream: str
    created: str
    segments: tuple[Segment, ...] = ()
    acknowledged: Count = 0

    @property
    def first(self) -> int:
        """The first sequence that is sealed; one more than `last` where none is."""
        return self.segments[0].first if self.segments else 1

    @property
    def last(self) -> int:
        """The last sequence that is sealed, 0 where none is."""
        return self.segments[-1].last if self.segments else 0

    @property
    def next(self) -> int:
        """The sequence with which the next segment begins, where something is sealed."""
        return self.last + 1 + self.acknowledged

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """The sequences that were acknowledged as missing, first and last of each range."""
        found = [(one.first - one.missing, one.first - 1) for one in self.segments if one.missing]
        return [*found, (self.last + 1, self.last + self.acknowledged)] if self.acknowledged else found

    @property
    def last_time_ns(self) -> int:
        """The time of that message."""
        return self.segments[-1].last_time_ns if self.segments else 0

    @property
    def messages(self) -> int:
        """How many messages are sealed."""
        return sum(one.messages for one in self.segments)

    @property
    def chain(self) -> str | None:
        """The last link of the chain, None where nothing is sealed."""
        return self.segments[-1].chain if self.segments else None

    @property
    def body_bytes(self) -> int:
        """Bytes of all bodies."""
        return sum(one.body_bytes for one in self.segments)

    @property
    def file_bytes(self) -> int:
        """Bytes of all files."""
        return sum(one.file_bytes for one in self.segments)

    def with_segment(self, segment: Segment) -> Manifest:
        """Return the same with one more segment, which must begin behind the last one and what was acknowledged."""
        if self.segments and segment.first != self.next:
            raise ValueError(f"a segment from {segment.first} on does not follow {self.next - 1}")
        before = self.segments[-1].chain if self.segments else _begin(self)
        placed = msgspec.structs.replace(segment, missing=self.acknowledged)
        linked = msgspec.structs.replace(placed, chain=_link(before, placed))
        return msgspec.structs.replace(self, segments=(*self.segments, linked), acknowledged=0)

    def with_gap(self, last: int) -> Manifest:
        """Return the same with what comes up to a sequence acknowledged as missing, behind at least one segment."""
        if not self.segments or last < self.next:
            raise ValueError(f"a gap up to {last} does not lie behind {self.next - 1}")
        return msgspec.structs.replace(self, acknowledged=last - self.last)

    def of_stream(self, created: str) -> Manifest:
        """Return the same segments as those of a stream that was made then: a restored one; their chain is made anew."""
        moved = Manifest(version=self.version, stream=self.stream, created=created)
        for segment in self.segments:
            moved = moved.with_gap(segment.first - 1) if segment.missing else moved
            moved = moved.with_segment(segment)
        return msgspec.structs.replace(moved, acknowledged=self.acknowledged)


class _Version(msgspec.Struct):
    version: int


def encode(manifest: Manifest) -> bytes:
    """Return the text of the file."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def decode(raw: bytes, stream: str, place: str) -> Manifest:
    """Return the manifest in a file's text, its chain checked. Raises `ArchiveDamaged` that names ``place``.

    A field that is not known is not passed over: links cover it, and who writes the manifest anew would drop it.
    """
    try:
        version = msgspec.json.decode(raw, type=_Version).version
        if version != VERSION:
            raise ArchiveDamaged(
                f"{place}: an archive in version {version} of its form; this cutor knows {VERSION} alone: use the cutor that "
                "wrote it, or a newer one"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if _UNKNOWN in str(error):
            raise ArchiveDamaged(
                f"{place}: {error}: this cutor knows version {VERSION} of an archive's form without it: use the cutor that "
                "wrote it, or a newer one"
            ) from error
        raise ArchiveDamaged(f"{place}: not the manifest of an archive: {error}") from error
    if manifest.stream != stream:
        raise ArchiveDamaged(f"{place}: the manifest is of the stream {manifest.stream[:80]!r}, not of {stream}")
    _check_chain(manifest, place)
    return manifest


def _check_chain(manifest: Manifest, place: str) -> None:
    """Refuse a manifest in which anything was changed, or whose segments leave something out."""
    link, last = _begin(manifest), 0
    for segment in manifest.segments:
        if segment.first > segment.last or (segment.first != last + 1 + segment.missing if last else segment.missing):
            raise ArchiveDamaged(f"{place}: the segment {segment.first} to {segment.last} does not follow {last}")
        if not (_SHA256.fullmatch(segment.sha256) and _SHA256.fullmatch(segment.fingerprint)):
            raise ArchiveDamaged(f"{place}: the segment {segment.first} to {segment.last} has no SHA-256 that can be")
        link, last = _link(link, segment), segment.last
        if segment.chain != link:
            raise ArchiveDamaged(f"{place}: what it says of the segment {segment.first} to {segment.last} was changed")
    if manifest.acknowledged and not last:
        raise ArchiveDamaged(f"{place}: a gap before all segments cannot be")


def _begin(manifest: Manifest) -> str:
    return hashlib.sha256(f"{manifest.version} {manifest.stream} {manifest.created}".encode()).hexdigest()


def _link(before: str, segment: Segment) -> str:
    """Return the link of a segment behind another link."""
    said = msgspec.json.encode(msgspec.structs.replace(segment, chain=before))
    return hashlib.sha256(said).hexdigest()


def is_segment_name(name: str) -> bool:
    """Whether a file is named as segments are."""
    return _SEGMENT_NAME.fullmatch(name) is not None
