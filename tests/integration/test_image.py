"""The child image and the volumes as `make setup` leaves them, looked at from inside containers."""

import json
import os
import shutil
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from aiodocker import Docker
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError

from cutor.config import made_image
from cutor.containers.seccomp import container_profile
from cutor.installation import image_note
from cutor.jail.inside.protocol import PROTOCOL_VERSION
from cutor.setup import base_image, child_image, engine, volumes
from cutor.setup.docker_api import OWNER, OneShot, created, image_labels, remove_image, run_once, sweep
from tests.child_image import IMAGE

ROOT = Path(__file__).resolve().parents[2]
PT_INTERP = 3


@pytest.fixture
async def docker() -> AsyncIterator[Docker]:
    """A client of the engine; without engine or image a visible skip on a laptop, a failure in CI."""
    missing = None
    if not await engine.answers():
        missing = "no Docker Engine answers"
    else:
        async with Docker() as client:
            if await image_labels(client, IMAGE) is None:
                missing = f"there is no image {IMAGE}"
            else:
                yield client
                return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{missing}: run `make setup`")
    pytest.skip(f"{missing}: run `make setup`")


@pytest.fixture
async def labels(docker: Docker) -> Mapping[str, str]:
    found = await image_labels(docker, IMAGE)
    assert found is not None
    return found


async def bash(docker: Docker, script: str, **settings: object) -> str:
    """Run a script in the child image as an ordinary user without capabilities; return what it prints."""
    shot = OneShot(IMAGE, ["/usr/bin/bash", "-euc", script], user="1000:1000", host_config=settings)
    return await run_once(docker, shot, "the test's container")


def interpreter(program: bytes) -> bytes | None:
    """The loader that a 64-bit ELF program names (`man 5 elf`); None for a static one."""
    assert program[:5] == b"\x7fELF\x02"
    table, size, count = struct.unpack_from("<Q", program, 32)[0], *struct.unpack_from("<HH", program, 54)
    for start in range(table, table + size * count, size):
        kind, offset, length = *struct.unpack_from("<I4xQ", program, start), *struct.unpack_from("<Q", program, start + 32)
        if kind == PT_INTERP:
            return program[offset : offset + length]
    return None


async def content(docker: Docker, path: str) -> bytes:
    """A file of the image."""
    container = await docker.containers.create(OneShot(IMAGE, ["/usr/bin/true"]).configuration())
    try:
        archive = await container.get_archive(path)
        file = archive.extractfile(Path(path).name)
        assert file is not None
        return file.read()
    finally:
        await container.delete(force=True)


async def test_labels_say_what_went_in(docker: Docker, labels: Mapping[str, str]) -> None:
    assert labels["cutor.protocol"] == str(PROTOCOL_VERSION)
    base = f"{base_image.REPOSITORY}:{base_image.recipe_digest(base_image.nsjail_version())[:16]}"
    found = await image_labels(docker, base)
    assert found is not None
    assert labels["cutor.inputs"] == child_image.wanted(ROOT, found["Id"]).digest, "files changed since `make setup`"


async def test_the_checkouts_image_is_noted_and_latest_is_another_name_of_it(docker: Docker) -> None:
    noted = made_image(image_note(Path()))
    assert noted is not None
    found = await image_labels(docker, noted)
    assert found is not None
    assert noted == child_image.name_of(found["cutor.inputs"])
    assert found["cutor.setup"] == "", "containers of the image must not look like those of set-up"


@pytest.fixture
async def other_checkout(docker: Docker, tmp_path: Path) -> AsyncIterator[Path]:
    """A checkout whose image differs in a comment; at the end its image is gone, and `latest` is what it was."""
    files = [item.source for item in child_image.parse_contents((ROOT / child_image.CONTENTS).read_text())]
    for source in (*files, child_image.CONTENTS, child_image.HELPER_SOURCE, child_image.PROTOCOL):
        (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / source, tmp_path / source)
    with (tmp_path / "cutor/setup/image/nix.conf").open("a") as conf:
        conf.write(f"# {tmp_path}\n")
    before = await image_labels(docker, child_image.NAME)
    assert before is not None
    yield tmp_path
    await docker.images.tag(before["Id"], child_image.REPOSITORY, tag="latest")
    if (made := made_image(tmp_path / "note")) is not None:
        await remove_image(docker, made)


async def test_two_checkouts_have_an_image_each(docker: Docker, other_checkout: Path) -> None:
    noted = made_image(image_note(Path()))
    assert noted is not None
    before = await image_labels(docker, noted)
    assert before is not None
    name = await child_image.ensure(docker, other_checkout, before["cutor.base"], other_checkout / "note")
    made = await image_labels(docker, name)
    assert made is not None
    assert name == made_image(other_checkout / "note") != noted
    assert await image_labels(docker, noted) == before
    assert (await image_labels(docker, child_image.NAME) or {})["Id"] == made["Id"]
    assert await child_image.ensure(docker, other_checkout, before["cutor.base"], other_checkout / "note") == name
    assert await image_labels(docker, name) == made, "made once"


async def test_what_a_killed_set_up_left_behind_is_swept_and_nothing_else(docker: Docker) -> None:
    """Containers are made as set-up makes them; those of another set-up, and of no set-up, stay."""
    configuration = OneShot(child_image.NAME, ["/usr/bin/true"]).configuration()
    made = []
    try:
        for owner in ("0123456789ab", "ba9876543210", ""):
            token = OWNER.set(owner)
            async with created(docker, configuration) as container:
                made.append(await docker.containers.create(await like(container), name=f"{await name_of(container)}-left"))
            OWNER.reset(token)
        token = OWNER.set("0123456789ab")
        assert await sweep(docker) == 1
        assert await sweep(docker) == 0
        OWNER.reset(token)
        assert await sweep(docker) == 0
        for container in made[1:]:
            await container.show()
    finally:
        for container in made:
            with suppress(DockerError):
                await container.delete(force=True)


async def like(container: DockerContainer) -> dict[str, object]:
    shown = await container.show()
    return {"Image": shown["Image"], "Labels": shown["Config"]["Labels"]}


async def name_of(container: DockerContainer) -> str:
    return str((await container.show())["Name"]).removeprefix("/")


async def test_nix_is_the_version_of_the_label_and_safe(docker: Docker, labels: Mapping[str, str]) -> None:
    version = base_image.nix_version(await bash(docker, "nix --version"))
    assert ".".join(map(str, version)) == labels["cutor.nix-version"]
    base_image.check_nix_version(version)


async def test_packages_are_listed_with_their_versions(docker: Docker, labels: Mapping[str, str]) -> None:
    listed = dict(line.split(" ") for line in (await content(docker, "/opt/cutor/packages.txt")).decode().splitlines())
    assert listed["nix-bin"].startswith(labels["cutor.nix-version"])
    assert {"bash", "coreutils", "libc6", "python3-minimal"} <= set(listed)
    assert "perl-base" not in listed


@pytest.mark.parametrize("path", ["/opt/cutor/bin/jail-init", "/opt/cutor/bin/bash-static", "/opt/cutor/bin/busybox"])
async def test_programs_that_enter_jails_are_static(docker: Docker, path: str) -> None:
    assert interpreter(await content(docker, path)) is None


async def test_ordinary_programs_are_not_static(docker: Docker) -> None:
    loader = interpreter(await content(docker, "/usr/bin/bash"))
    assert loader is not None
    assert loader.startswith(b"/lib64/ld-linux")


async def test_nsjail_makes_a_jail_without_any_privilege(docker: Docker) -> None:
    script = (
        "/opt/nsjail/bin/nsjail -Mo -q --disable_rlimits -R /usr -s usr/lib:/lib -s usr/lib64:/lib64 "
        "--user 99 --group 99 --hostname jail -- /usr/bin/bash -c 'echo pid $$ uid $UID host $HOSTNAME; ls -d /opt /nix'"
    )
    printed = await bash(
        docker,
        f"{script} 2>&1 || true",
        SecurityOpt=["no-new-privileges", "seccomp=" + container_profile()],
        MaskedPaths=[],
        ReadonlyPaths=[],
        ReadonlyRootfs=True,
        Tmpfs={"/tmp": "rw,mode=1777"},
    )
    assert "pid 1 uid 99 host jail" in printed
    assert "cannot access '/nix'" in printed


async def test_nothing_in_the_image_gains_privileges(docker: Docker) -> None:
    found = await bash(docker, r"/opt/cutor/bin/busybox find / -xdev -type f \( -perm -4000 -o -perm -2000 \) 2>/dev/null || :")
    assert found == ""


async def test_modules_are_compiled_where_python_looks_for_them(docker: Docker) -> None:
    script = """
import importlib.util, json, pathlib, sysconfig
roots = [pathlib.Path(sysconfig.get_path("stdlib")), pathlib.Path("/opt/cutor/cutor")]
sources = [path for root in roots for path in root.rglob("*.py")]
missing = [str(path) for path in sources if not pathlib.Path(importlib.util.cache_from_source(path)).is_file()]
checked = [str(path) for path in sources if str(path) not in missing
           and pathlib.Path(importlib.util.cache_from_source(path)).read_bytes()[4] != 1]
print(json.dumps([len(sources), missing, checked]))
"""
    count, missing, checked = json.loads(await bash(docker, f"python3 -c '{script}'"))
    assert count > 200
    assert missing == []
    assert checked == []  # flags 1: valid by its presence, never compared with the source (PEP 552)


async def test_accounts_and_directories(docker: Docker) -> None:
    printed = await bash(
        docker,
        "grep -h ^nixbld: /etc/group || /opt/cutor/bin/busybox grep ^nixbld: /etc/group; "
        "stat -c '%a %U %n' /tmp /box /work /packages /build /nix/store /nix/var /run; "
        "test -s /etc/ssl/certs/ca-certificates.crt; cat /etc/nsswitch.conf",
    )
    assert "nixbld:x:30000:" + ",".join(f"nixbld{n}" for n in range(1, 9)) in printed
    assert "1777 root /tmp" in printed
    assert "755 root /box" in printed
    assert "hosts: files dns" in printed


async def test_listed_files_are_in_the_image_as_they_are_in_the_repository(docker: Docker) -> None:
    for destination, _mode, expected in child_image.read_files(ROOT):
        assert await content(docker, destination) == expected, destination


async def test_store_and_database_belong_to_the_mapped_root(docker: Docker) -> None:
    shot = OneShot(
        child_image.NAME,
        ["/usr/bin/stat", "-c", "%u", "/nix/store", "/nix/var"],
        user="1000:1000",
        volumes={volumes.STORE: "/nix/store", volumes.VAR: "/nix/var"},
    )
    assert await run_once(docker, shot, "stat") == f"{volumes.MAPPED_ROOT}\n" * 2
