"""What `cutor setup --purge` takes of a real engine: what set-up has labelled, and nothing that has its name alone."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator

import pytest
from aiodocker import Docker

from cutor.setup import purge
from cutor.setup.console import SetupError
from cutor.setup.docker_api import SETUP_LABEL, create_volume
from tests.child_image import IMAGE
from tests.containers import container_ids

TOKEN = f"cutor-test-purge-{secrets.token_hex(4)}"
MADE, OLD, HAND = (f"{TOKEN}-{what}" for what in ("made", "old", "hand"))


def docker(*words: str, stdin: bytes = b"") -> str:
    return subprocess.run(["docker", *words], input=stdin, capture_output=True, check=True).stdout.decode().strip()


@pytest.fixture
def images() -> Iterator[None]:
    """A repository with an image of set-up's under a name of its own, and one that somebody has imported."""
    empty_tar = bytes(10_240)
    docker("import", "-", f"{TOKEN}:hand", stdin=empty_tar)
    docker("tag", IMAGE, f"{TOKEN}:made")
    yield
    for name in docker("images", TOKEN, "--format", "{{.Repository}}:{{.Tag}}").split():
        docker("rmi", name)


@pytest.fixture
def volumes() -> Iterator[None]:
    yield
    for name in docker("volume", "ls", "-q", "--filter", f"name={TOKEN}").split():
        docker("volume", "rm", name)


async def test_labels_decide_and_names_do_not(images: None, volumes: None, capsys: pytest.CaptureFixture[str]) -> None:
    async with Docker() as engine:
        await create_volume(engine, MADE, {SETUP_LABEL: ""})
        await create_volume(engine, OLD, {"cutor.packages": "digest"})
        await create_volume(engine, HAND)
        plan = await purge.planned(engine, [TOKEN, f"{TOKEN}-none"], [MADE, OLD, HAND, f"{TOKEN}-none"])
        assert (plan.volumes, plan.images) == ([MADE, OLD], [f"{TOKEN}:made"])
        assert [what for what, _ in plan.kept] == [f"volume {HAND}", f"image {TOKEN}:hand"]
        purge.tell(plan)
        await purge.remove(engine, plan)
    said = capsys.readouterr().out
    assert f"to be removed: volume {MADE}\n" in said
    assert f"volume {HAND} stays: it has no label of set-up's" in said
    assert f"`docker volume rm {HAND}` removes it" in said
    assert docker("volume", "ls", "-q", "--filter", f"name={TOKEN}") == HAND
    assert docker("images", TOKEN, "--format", "{{.Tag}}") == "hand"


async def test_containers_of_any_stack_on_the_engine_keep_it_from_removing() -> None:
    made = docker(
        *("create", "--interactive", "--label", f"cutor={TOKEN}", "--label", "cutor.data=/home/other/data"),
        *("--network", "none", "--entrypoint", "/opt/cutor/bin/busybox", IMAGE, "sleep", "600"),
    )
    docker("start", made)
    try:
        async with Docker() as engine:
            with pytest.raises(SetupError, match=r"containers of .*/home/other/data.* run on this engine.*nothing is removed"):
                await purge.refuse_beside_containers(engine)
    finally:
        docker("rm", "--force", made)
    assert container_ids(f"label=cutor={TOKEN}") == []
