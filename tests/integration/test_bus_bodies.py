"""Large contents on a real server: whole, once, and verified."""

import asyncio
import hashlib
import os

import pytest

from cutor.bus.bodies import CHUNK_BYTES, Bodies, BodyRef, body_subject
from cutor.bus.connection import Bus
from cutor.bus.errors import BodyCorrupt, BodyMissing


@pytest.mark.parametrize("size_bytes", [0, 1, 64 << 10, CHUNK_BYTES, CHUNK_BYTES + 1, 20 << 20])
async def test_what_is_put_is_read_back(bus: Bus, size_bytes: int) -> None:
    data = os.urandom(size_bytes)
    bodies = Bodies(bus)
    ref = await bodies.put(data)
    assert (ref.sha256, ref.size_bytes) == (hashlib.sha256(data).hexdigest(), size_bytes)
    assert await bodies.get(ref) == data


async def test_a_content_is_stored_once_however_often_it_is_put(bus: Bus) -> None:
    data = os.urandom(CHUNK_BYTES + 10)
    bodies = Bodies(bus)
    refs = await asyncio.gather(*(bodies.put(data) for _ in range(8)))
    assert len(set(refs)) == 1
    stored = [s async for s in bus.read("BODIES", filter=f"cutor.body.{refs[0].sha256}.*")]
    assert [len(s.body) for s in sorted(stored, key=lambda s: s.subject)] == [CHUNK_BYTES, 10]
    assert await bodies.get(refs[0]) == data


async def test_a_missing_chunk_is_named(bus: Bus) -> None:
    data = os.urandom(2 * CHUNK_BYTES)
    digest = hashlib.sha256(data).hexdigest()
    await bus.append_once(body_subject(digest, 0), data[:CHUNK_BYTES])
    with pytest.raises(BodyMissing, match="chunk 1 of 2"):
        await Bodies(bus).get(BodyRef(digest, len(data), 2))


async def test_an_altered_chunk_is_found_by_reader_and_writer(bus: Bus) -> None:
    """Another program wrote something else under this content's name, before the content itself came."""
    data = os.urandom(1000)
    digest = hashlib.sha256(data).hexdigest()
    assert await bus.append_once(body_subject(digest, 0), b"x" * 1000)
    with pytest.raises(BodyCorrupt, match="not what was put there"):
        await Bodies(bus).get(BodyRef(digest, 1000, 1))
    with pytest.raises(BodyCorrupt, match="holds something else already"):
        await Bodies(bus).put(data)


async def test_a_wrong_length_is_found(bus: Bus) -> None:
    ref = await Bodies(bus).put(b"hello")
    with pytest.raises(BodyCorrupt):
        await Bodies(bus).get(BodyRef(ref.sha256, 6, 1))
