"""Garbage of every kind, as frames for a raw connection: how many letters it makes is known."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cutor.model.codec import encode
from cutor.model.events import Cancelled, Cleaned, Event, kind_of
from cutor.model.subjects import Address, event_subject
from tests.raw_nats import hpub, pub
from tests.unit.histories import SUBMITTED, cache_built, finished, leased, ran

MIB: Final = 1 << 20


class Garbage(NamedTuple):
    """A frame, and the stream that it goes to: one letter about each."""

    stream: str
    frame: bytes


def unreadable(rng: random.Random) -> Iterator[bytes]:
    """Yield bodies that are no events."""
    yield b""
    yield rng.randbytes(1000)
    yield b"\xff" * MIB
    yield b"[" * 100_000
    yield b'{"kind":' * 50_000
    yield b'{"kind":"finished","added":' + b"[" * 60_000 + b"]" * 60_000 + b"}"
    yield b'{"kind":"exploded"}'
    yield b'{"kind":"finished","version":9}'
    yield b'{"kind":"finished","version":1e400}'
    yield b'{"kind":"finished","lease":{},"outcome":"OK"}'
    yield b'{"kind":"cancelled","reason":"\xff"}'
    yield b'\xef\xbb\xbf{"kind":"cancelled"}'
    yield "\N{SNOWMAN}\x00\x1b[31m".encode()


SUBJECTS: Final = (
    b"cutor.ev.x",
    b"cutor.ev.default.id.kind.more",
    b"cutor.ev.default.*.submitted",
    b"cutor.ev.default.id.>",
    b"cutor.ev.*.>",
    b"cutor.ev.default.>.parked",
    b"cutor.ev.No-Tenant.id.cancelled",
    b"cutor.ev.default.a\x01\x1b[2J.cancelled",
    b"cutor.ev.default.\xff\xfe.cancelled",
    b"cutor.ev.default." + b"a" * 3000 + b".cancelled",
)
STRAYS: Final[Sequence[Event]] = (
    finished(),
    leased("builder"),
    leased("runner", 7),
    cache_built(),
    ran(0, "OK"),
    Cleaned(worker="w", by="sweep"),
    Cancelled(reason="nobody's"),
)


def garbage(rng: random.Random, ended: Address) -> list[Garbage]:
    """Return some of every kind. ``ended`` is a submission that has ended and is clean: every event is a stray there."""
    frames = [pub(event_subject(ended, "ran").encode(), body) for body in unreadable(rng)]
    frames += [pub(event_subject(ended, "submitted").encode(), body) for body in unreadable(rng)]
    frames += [pub(b"cutor.ev.default.nobody.finished", body) for body in unreadable(rng)]
    frames += [pub(subject, encode(Cancelled())) for subject in SUBJECTS]
    frames += [pub(event_subject(ended, kind_of(event)).encode(), encode(event)) for event in (*STRAYS, SUBMITTED)]
    frames += [pub(f"cutor.ev.default.early.{kind_of(event)}".encode(), encode(event)) for event in STRAYS]
    frames += [pub(event_subject(ended, "finished").encode(), encode(Cancelled()))]
    subject = event_subject(ended, "cancelled").encode()
    frames += [hpub(subject, headers, encode(Cancelled())) for headers in (b"N", b"NATS/1.0", b"NATS/1.0 503\r\n\r\n")]
    frames += [hpub(subject, b"NATS/1.0\r\nNats-Msg-Id: %b\r\nX: \xff\r\n\r\n" % rng.randbytes(8).hex().encode(), b"x")]
    found = [Garbage("EVENTS", frame) for frame in frames]
    environments = [pub(b"cutor.env.k", body) for body in unreadable(rng)]
    environments += [
        pub(subject, b'{"kind":"env-removed","key":"k","reason":""}') for subject in (b"cutor.env.a.b", b"cutor.env.other")
    ]
    found += [Garbage("ENVIRONMENTS", frame) for frame in environments]
    rng.shuffle(found)
    return found
