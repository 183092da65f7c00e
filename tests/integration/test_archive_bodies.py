"""Contents that BODIES let go of come from the archive without a seam; and nothing else comes in their place."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cutor import Client
from cutor.bus.bodies import CHUNK_BYTES, Bodies, BodyRef, body_subject, reference_of
from cutor.bus.connection import Bus
from cutor.bus.errors import BodyCorrupt, BodyMissing
from cutor.bus.topology import apply
from cutor.model.content import BodyRef as ModelRef
from cutor.model.events import Output, Ran
from cutor.model.subjects import BODIES, ENVIRONMENTS, EVENTS
from cutor.projections.archive.sealed import Sealed
from tests import commands
from tests.bare_stack import one_line
from tests.integration.letting_go import BRIEF, let_go, seal_everything
from tests.integration.projecting import happen, happen_to_many
from tests.nats_server import OwnServer
from tests.unit.histories import OK, RUNNING, finished, lease

LARGE = os.urandom(2 * CHUNK_BYTES + 10)
PRINTED = b"x" * 100_000


@pytest.fixture
async def brief(tmp_path: Path) -> AsyncIterator[tuple[OwnServer, Bus]]:
    server = OwnServer(tmp_path / "nats")
    await server.start()
    try:
        async with Bus.connect(server.url, name="test") as bus:
            await apply(bus, BRIEF)
            yield server, bus
    finally:
        await server.kill()


def cutor(server: OwnServer, archive: Path | None, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command with a configuration that names an archive, or none."""
    config = server.directory / "cutor.toml"
    config.write_text("" if archive is None else f'[archive]\ndirectory = "{archive}"\n')
    arguments = [*args, "--server", server.url, "--config", str(config)]
    return commands.decoded(commands.run(arguments, os.environ, timeout_s=240))


async def test_a_content_is_read_from_stream_and_archive_as_one(brief: tuple[OwnServer, Bus], tmp_path: Path) -> None:
    _, bus = brief
    bodies, archive = Bodies(bus, Sealed(tmp_path / "archive")), tmp_path / "archive"
    ref, small = await bodies.put(LARGE), await bodies.put(b"small")
    salted = BodyRef(**{**msgspec.structs.asdict(ref), "salt": "0123456789abcdef"})
    await bodies.complete(salted, LARGE)
    await seal_everything(bus, archive)
    await let_go(bus, BODIES)
    assert [await bodies.get(one) for one in (ref, small, salted)] == [LARGE, b"small", LARGE]
    await bus.append_once(body_subject(ref.sha256, 1), LARGE[CHUNK_BYTES : 2 * CHUNK_BYTES])
    assert await bodies.get(ref) == LARGE, "a chunk of it is in the stream again"
    await bus.append_once(body_subject(small.sha256, 0), b"other")
    assert await bodies.get(small) == b"small", "something else came under its name"
    await seal_everything(bus, archive)
    await let_go(bus, BODIES)
    assert await bodies.get(small) == b"small", "and was sealed, too"
    assert await Bodies(bus, Sealed(archive)).get(ref) == LARGE
    gone = reference_of(b"never stored")
    with pytest.raises(BodyMissing, match="and not in the archive"):
        await bodies.get(gone)
    with pytest.raises(BodyMissing, match="no archive is configured"):
        await Bodies(bus, Sealed(None)).get(small)
    with pytest.raises(BodyMissing, match="is not on this host: is it mounted"):
        await Bodies(bus, Sealed(tmp_path / "elsewhere")).get(ref)


@pytest.mark.parametrize("damage", ["a bit", "cut", "gone"])
async def test_a_damaged_file_is_an_error_and_no_content(brief: tuple[OwnServer, Bus], tmp_path: Path, damage: str) -> None:
    _, bus = brief
    ref = await Bodies(bus).put(LARGE)
    await seal_everything(bus, tmp_path / "archive")
    await let_go(bus, BODIES)
    [file] = (tmp_path / "archive" / BODIES).glob("*.parquet")
    whole = file.read_bytes()
    if damage == "a bit":
        file.write_bytes(whole[:1000] + bytes([whole[1000] ^ 1]) + whole[1001:])
    elif damage == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    else:
        file.unlink()
    with pytest.raises(BodyCorrupt, match=file.name):
        await Bodies(bus, Sealed(tmp_path / "archive")).get(ref)


async def test_commands_and_clients_show_what_has_expired(brief: tuple[OwnServer, Bus], tmp_path: Path) -> None:
    server, bus = brief
    archive = tmp_path / "archive"
    stored = await Bodies(bus).put(PRINTED)
    output = Output(body=ModelRef(sha256=stored.sha256, size_bytes=stored.size_bytes, chunks=1), bytes_total=len(PRINTED))
    stage = msgspec.structs.replace(OK, stdout=output)
    await happen(bus, "printed", *RUNNING, Ran(lease=lease("runner"), index=0, stages=(stage, OK)), finished("OK"))
    await seal_everything(bus, archive)
    await let_go(bus, BODIES)
    shown = await asyncio.to_thread(cutor, server, archive, "status", "printed", "--json")
    assert json.loads(shown.stdout)["run"][0]["stdout"]["data"] == PRINTED.decode()
    refused = await asyncio.to_thread(cutor, server, None, "status", "printed")
    assert "is not in the stream BODIES, and no archive is configured: set [archive] directory" in one_line(refused, 3)
    async with Client(server.url, archive=archive) as client:
        assert (await client.result("printed")).run[0].stdout.data == PRINTED.decode()
    for file in (archive / BODIES).glob("*.parquet"):
        file.write_bytes(b"PAR1")
    damaged = await asyncio.to_thread(cutor, server, archive, "status", "printed")
    assert str(archive) in one_line(damaged, 3)


async def test_a_replay_refuses_a_range_of_which_messages_are_gone(brief: tuple[OwnServer, Bus], tmp_path: Path) -> None:
    server, bus = brief
    archive, into = tmp_path / "archive", tmp_path / "views.duckdb"
    await happen_to_many(bus, 3, "s")
    last = int((await bus.stream_info(EVENTS))["state"]["last_seq"])
    await seal_everything(bus, archive)
    await let_go(bus, EVENTS)
    await happen_to_many(bus, 2, "t")

    async def replay(directory: Path | None, *args: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(cutor, server, directory, "replay", *args)

    (tmp_path / "empty").mkdir()
    for directory, why in (
        (None, "no archive is configured"),
        (tmp_path / "not mounted", f"{tmp_path / 'not mounted'} is not on this host: is it mounted?"),
        (tmp_path / "empty", f"and not in the archive {tmp_path / 'empty'}"),
    ):
        for args in ((), ("--from", str(last)), ("--from", "-1d"), ("--as-of", str(last + 1), "--into", str(into))):
            refused = await replay(directory, *args)
            assert (refused.stdout, into.exists()) == ("", False), args
            assert f"EVENTS begins at {last + 1}: what came before is gone from the stream" in one_line(refused, 2)
            assert why in refused.stderr
            assert "--partial" in refused.stderr
    part = await replay(None, "--partial")
    assert part.returncode == 0
    assert f"EVENTS begins at {last + 1}" in one_line(part, 0)
    assert json.loads(part.stdout.splitlines()[0])["sequence"] == last + 1
    later = await replay(None, "--from", str(last + 1))
    assert (later.stdout, later.stderr) == (part.stdout, ""), "nothing of it is gone"
    folded = await replay(None, "--partial", "--into", str(into), "--json")
    assert json.loads(folded.stdout)["streams"][0]["first_sequence"] == last + 1
    assert json.loads(folded.stdout)["begins"] == {EVENTS: last + 1}
    later = await replay(None, "--from", str(last + 1), "--into", str(into), "--force", "--json")
    assert json.loads(later.stdout)["begins"] == {}, "as it was asked for"
    whole = await replay(archive)
    assert json.loads(whole.stdout.splitlines()[0])["sequence"] == 1
    assert whole.stderr == ""
    assert (await replay(archive, "--stream", ENVIRONMENTS)).returncode == 0
