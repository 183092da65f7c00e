"""Requests that Docker answers late, oddly or never: what may have been made is removed, and what is said is one line."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiodocker.exceptions import DockerError

from cutor.containers import engine as engine_module
from cutor.containers import requested
from cutor.containers.child import Child
from cutor.containers.engine import ContainerSummary, Engine
from cutor.containers.errors import EngineFailure, EngineRefused, EngineUnreachable
from cutor.containers.host_config import ContainerSpec
from cutor.containers.labels import DATA_LABEL, INSTANCE_LABEL

SPEC = ContainerSpec("cutor-one-runner-abc", {"Image": "image", "Labels": {}})


class FakeDocker:
    """A Docker whose create request ends as told, and that has the container only from some removal on."""

    def __init__(self, created: BaseException | None, appears_at: int = 0, deaf: int = 0) -> None:
        self._created = created
        self._appears_at = appears_at
        self._deaf = deaf  # how many removals fail
        self.removals: list[str] = []
        self.containers = SimpleNamespace(create=self._create, container=self._container)

    async def _create(self, body: dict[str, Any], *, name: str) -> object:
        if self._created is None:
            await asyncio.Event().wait()
        assert self._created is not None
        raise self._created

    def _container(self, name: str) -> object:
        async def delete(**_: object) -> None:
            self.removals.append(name)
            if len(self.removals) <= self._deaf:
                raise DockerError(500, "device or resource busy")
            if len(self.removals) <= self._appears_at:
                raise DockerError(404, "no such container")

        return SimpleNamespace(delete=delete)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "DISCARD_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(engine_module, "GONE_PAUSES_S", (0.0, 0.0))


async def test_what_docker_made_after_the_deadline_is_removed_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "REQUEST_TIMEOUT_S", 0.02)
    docker = FakeDocker(None, appears_at=2)
    with pytest.raises(EngineFailure, match=f"did not answer within 0 s: create {SPEC.name}"):
        await Engine(docker, "unix:///x").start(SPEC)  # type: ignore[arg-type]
    assert docker.removals == [SPEC.name] * 3


async def test_a_connection_that_broke_in_the_middle_of_create_leaves_nothing() -> None:
    docker = FakeDocker(ConnectionResetError("reset"))
    with pytest.raises(EngineUnreachable):
        await Engine(docker, "unix:///x").start(SPEC)  # type: ignore[arg-type]
    assert docker.removals == [SPEC.name]


async def test_what_docker_refused_was_not_made_and_is_said_in_one_line() -> None:
    docker = FakeDocker(DockerError(400, "no such runtime:\n  spam\t eggs\n"))
    with pytest.raises(EngineRefused) as caught:
        await Engine(docker, "unix:///x").start(SPEC)  # type: ignore[arg-type]
    assert str(caught.value) == f"Docker could not create {SPEC.name}: no such runtime: spam eggs (status 400)"
    assert docker.removals == []


@pytest.mark.parametrize(
    ("created", "appears_at", "deaf", "is_noted"),
    [
        (None, 2, 0, False),
        (None, 99, 0, True),
        (None, 0, 99, True),
        (DockerError(400, "no such runtime"), 0, 0, False),
        (ConnectionResetError("reset"), 0, 0, False),
    ],
    ids=["removed", "not there yet", "not let go", "refused", "broke, removed"],
)
async def test_what_may_still_come_stays_noted(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    created: BaseException | None,
    appears_at: int,
    deaf: int,
    is_noted: bool,
) -> None:
    monkeypatch.setattr(engine_module, "REQUEST_TIMEOUT_S", 0.02)
    spec = ContainerSpec(SPEC.name, {"Image": "image", "Labels": {INSTANCE_LABEL: "one", DATA_LABEL: str(tmp_path)}})
    with pytest.raises(EngineFailure):
        await Engine(FakeDocker(created, appears_at, deaf), "unix:///x").start(spec)  # type: ignore[arg-type]
    assert [one.name for one in requested.left(tmp_path, "one")] == ([SPEC.name] if is_noted else [])


class FakeStream:
    """An attached connection, as far as a removal is concerned."""

    async def close(self) -> None:
        return None


async def test_a_container_that_docker_does_not_let_go_is_removed_until_it_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    docker = FakeDocker(None, deaf=5)
    child = Child(Engine(docker, "unix:///x"), SimpleNamespace(id="abc"), FakeStream(), "cutor-one")  # type: ignore[arg-type]
    with pytest.raises(EngineFailure):
        await child.remove()
    with caplog.at_level("WARNING"):
        await child.discard()
    assert docker.removals == ["abc"] * 6
    assert [record.getMessage() for record in caplog.records] == [
        "container cutor-one can't be removed, which is tried until it can:"
        " Docker could not remove a container: device or resource busy (status 500)"
    ]
    await child.discard()  # safe to call again: Docker is not asked
    assert docker.removals == ["abc"] * 6


class Listed(dict[str, Any]):
    """A container as the client of Docker lists it."""

    def __init__(self, container_id: str, **said: object) -> None:
        super().__init__(said)
        self.id = container_id


class WholeTransport:
    """A connection that can't be closed by half, as over TLS."""

    def is_closing(self) -> bool:
        return False

    def can_write_eof(self) -> bool:
        return False


@pytest.mark.parametrize("connection", [None, SimpleNamespace(transport=WholeTransport())])
async def test_an_init_that_can_not_be_told_to_end_is_not_waited_for(connection: SimpleNamespace | None) -> None:
    """Reading from it would fail here: there is nothing to read by."""
    stream = SimpleNamespace(_resp=SimpleNamespace(connection=connection))
    child = Child(Engine(FakeDocker(None), "unix:///x"), SimpleNamespace(id="abc"), stream, "cutor-one")  # type: ignore[arg-type]
    await child.end(60)


async def test_a_container_without_a_name_is_none() -> None:
    """Docker lists one that it has removed for ever, `removing`, when its end was worked in meanwhile (seen with 20.10)."""

    async def found(**_: object) -> list[Listed]:
        return [Listed("one", Names=["/cutor-one"], State="running", Labels=None), Listed("gone", Names=[], State="removing")]

    docker = SimpleNamespace(containers=SimpleNamespace(list=found))
    assert await Engine(docker, "unix:///x").list() == [ContainerSummary("one", "cutor-one", "running", {})]  # type: ignore[arg-type]
