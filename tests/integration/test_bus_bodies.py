"""Large contents on a real server: whole, once, and verified."""

import asyncio
import hashlib
import os

import msgspec
import pytest

from cutor.bus.bodies import CHUNK_BYTES, Bodies, BodyRef, body_subject, reference_of
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


async def squat(bus: Bus, data: bytes, chunk: int = 0) -> BodyRef:
    """Write something else under the name of a content, as another program can before the content itself comes."""
    ref = reference_of(data)
    assert await bus.append_once(body_subject(ref.sha256, chunk), b"x" * 1000)
    return ref


async def test_an_altered_chunk_is_found_by_its_reader(bus: Bus) -> None:
    with pytest.raises(BodyCorrupt, match="not what was put there"):
        await Bodies(bus).get(await squat(bus, os.urandom(1000)))


@pytest.mark.parametrize(("size_bytes", "chunk"), [(1000, 0), (5 * CHUNK_BYTES + 1, 0), (5 * CHUNK_BYTES + 1, 5)])
async def test_a_content_whose_name_is_taken_is_stored_under_another_one(bus: Bus, size_bytes: int, chunk: int) -> None:
    data, bodies = os.urandom(size_bytes), Bodies(bus)
    usual = await squat(bus, data, chunk)
    ref = await bodies.put(data)
    assert ref.salt is not None
    assert msgspec.structs.replace(ref, salt=None) == usual
    assert await bodies.get(ref) == data
    with pytest.raises((BodyCorrupt, BodyMissing)):
        await bodies.get(usual)


async def test_producers_of_such_a_content_at_one_time_do_not_meet(bus: Bus) -> None:
    data, bodies = os.urandom(3 * CHUNK_BYTES), Bodies(bus)
    await squat(bus, data, 2)
    refs = await asyncio.gather(*(bodies.put(data) for _ in range(4)))
    assert len({ref.salt for ref in refs} - {None}) == 4
    assert [await bodies.get(ref) for ref in refs] == [data] * 4


@pytest.mark.parametrize("salt", [None, "0123456789abcdef"])
async def test_what_is_missing_of_a_reference_is_completed(bus: Bus, salt: str | None) -> None:
    data, bodies = os.urandom(3 * CHUNK_BYTES), Bodies(bus)
    ref = msgspec.structs.replace(reference_of(data), salt=salt)
    await bus.append_once(body_subject(ref.sha256, 0, salt), data[:CHUNK_BYTES])
    with pytest.raises(BodyMissing):
        await bodies.get(ref)
    await bodies.complete(ref, data)
    assert await bodies.get(ref) == data


async def test_what_stands_in_the_place_of_a_lost_chunk_stays_and_is_told(bus: Bus) -> None:
    data = os.urandom(1000)
    with pytest.raises(BodyCorrupt, match="holds something else already"):
        await Bodies(bus).complete(await squat(bus, data), data)


async def test_a_wrong_length_is_found(bus: Bus) -> None:
    ref = await Bodies(bus).put(b"hello")
    with pytest.raises(BodyCorrupt):
        await Bodies(bus).get(BodyRef(ref.sha256, 6, 1))
