"""What Docker has said of images and volumes is kept until it says that something happened to them, and no longer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiodocker import Docker
from aiodocker.volumes import DockerVolume

from cutor.containers.engine import Engine
from cutor.containers.facts import Facts
from cutor.containers.host_config import Identity, pause_spec
from tests.child_image import IMAGE
from tests.integration.stage_support import connected

PATIENCE_S = 180.0


class Counting(Engine):
    """An engine that counts the questions that it is asked."""

    asked = 0

    async def volume_labels(self, name: str) -> dict[str, str] | None:
        """See `Engine`."""
        self.asked += 1
        return await super().volume_labels(name)


@pytest.fixture(autouse=True)
async def _docker() -> AsyncIterator[None]:
    async with connected():
        yield


@pytest.fixture
async def engine() -> AsyncIterator[Counting]:
    """Docker itself."""
    async with counting() as engine:
        yield engine


@asynccontextmanager
async def counting(kind: type[Counting] = Counting, address: str | None = None) -> AsyncIterator[Counting]:
    """Connect to Docker."""
    async with kind.connect(address) as engine:
        assert isinstance(engine, kind)
        yield engine


@pytest.fixture
async def volume() -> AsyncIterator[str]:
    """The name of a volume that is removed in the end."""
    name = f"cutor-test-facts-{secrets.token_hex(4)}"
    yield name
    async with Docker() as docker:
        await DockerVolume(docker, name).delete(force=True)


async def made(name: str, label: str) -> None:
    async with Docker() as docker:
        await docker.volumes.create({"Name": name, "Labels": {"cutor.packages": label}})


async def removed(name: str) -> None:
    async with Docker() as docker:
        await DockerVolume(docker, name).delete()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():
            await asyncio.sleep(0.01)


async def test_an_answer_is_kept_and_forgotten_as_soon_as_something_happens(engine: Counting, volume: str) -> None:
    async with Facts.of(engine) as facts:
        await until(lambda: facts.listening)
        async with asyncio.timeout(PATIENCE_S):  # other tests make and remove volumes meanwhile, which makes it ask again
            while True:
                asked = engine.asked
                assert [await facts.volume_labels(volume) for _ in range(3)] == [None] * 3
                if engine.asked <= asked + 1:
                    break
        for label in ("one", "two"):
            await made(volume, label)
            async with asyncio.timeout(PATIENCE_S):
                while await facts.volume_labels(volume) != {"cutor.packages": label}:
                    await asyncio.sleep(0)
            await removed(volume)
            async with asyncio.timeout(PATIENCE_S):
                while await facts.volume_labels(volume) is not None:
                    await asyncio.sleep(0)


async def test_what_happens_to_other_volumes_makes_nobody_ask_again(engine: Counting, volume: str) -> None:
    """As marks of environments do, for each submission."""
    async with Facts.of(engine) as facts:
        await until(lambda: facts.listening)
        await made(volume, "one")
        async with asyncio.timeout(PATIENCE_S):  # images may be made meanwhile, which makes it ask again
            while True:
                while await facts.volume_labels(volume) is None:
                    await asyncio.sleep(0)
                asked, changes = engine.asked, facts.changes
                for number in range(3):
                    await made(f"{volume}-{number}", "other")
                    await removed(f"{volume}-{number}")
                await until(lambda changes=changes: facts.changes >= changes + 6)
                assert await facts.volume_labels(volume) == {"cutor.packages": "one"}
                if engine.asked == asked:
                    break


async def test_nothing_is_kept_while_nobody_listens(engine: Counting, volume: str) -> None:
    facts = Facts(engine)
    for _ in range(3):
        await facts.volume_labels(volume)
    assert engine.asked == 3


async def test_what_was_asked_before_a_change_is_not_kept(engine: Counting, volume: str) -> None:
    release, waiting = asyncio.Event(), asyncio.Event()

    class Slow(Counting):
        async def volume_labels(self, name: str) -> dict[str, str] | None:
            answer = await super().volume_labels(name)
            waiting.set()
            await release.wait()
            return answer

    async with counting(Slow) as slow, Facts.of(slow) as facts:
        await until(lambda: facts.listening)
        question = asyncio.create_task(facts.volume_labels(volume))
        await waiting.wait()
        changes = facts.changes
        await made(volume, "new")
        await until(lambda: facts.changes > changes)
        release.set()
        assert await question is None
        assert await facts.volume_labels(volume) == {"cutor.packages": "new"}


async def test_a_connection_that_ends_makes_it_ask_again_and_listening_begins_anew(tmp_path: Path, volume: str) -> None:
    """Through a socket of the test's own, whose connections it ends."""
    writers: list[asyncio.StreamWriter] = []

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_docker = await asyncio.open_unix_connection("/var/run/docker.sock")
        writers.extend((writer, to_docker[1]))
        await asyncio.gather(copy(reader, to_docker[1]), copy(to_docker[0], writer), return_exceptions=True)

    path = tmp_path / "docker.sock"
    server = await asyncio.start_unix_server(serve, path)
    async with server, counting(address=f"unix://{path}") as engine, Facts.of(engine) as facts:
        await until(lambda: facts.listening)
        changes = facts.changes
        while writers:
            writers.pop().transport.abort()
        await until(lambda: facts.changes > changes)
        await made(volume, "new")
        assert await facts.volume_labels(volume) == {"cutor.packages": "new"}
        await until(lambda: facts.listening)


async def test_an_engine_has_more_containers_attached_than_a_connection_pool_holds(engine: Counting) -> None:
    identity = Identity(f"0{secrets.token_hex(5)}0", secrets.token_hex(6))
    child = await engine.start(pause_spec(identity, image=IMAGE))
    try:
        async with AsyncExitStack() as attached, asyncio.timeout(PATIENCE_S):
            for _ in range(120):
                stream = child._container.attach(stdin=True, stdout=True, stderr=True)
                await stream.__aenter__()
                attached.push_async_callback(stream.close)
            assert await engine.ping()
    finally:
        await child.discard()


async def test_docker_says_that_it_is_there_without_its_version(engine: Engine) -> None:
    assert await engine.ping()
    assert engine.answered_within(PATIENCE_S)
    assert await Facts(engine).image_id(IMAGE) == await engine.image_id(IMAGE)
