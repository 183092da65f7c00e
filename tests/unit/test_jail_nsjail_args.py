"""nsjail's arguments: what each mount becomes, and that no odd string gets in."""

from __future__ import annotations

import pytest

from cutor.jail.inside.nsjail_args import (
    DEVICES,
    Bind,
    Jail,
    Layered,
    Link,
    Masked,
    Mount,
    Tmpfs,
    check_path,
    nsjail_command,
)


def arguments(*mounts: Mount) -> list[str]:
    """Return the arguments that these mounts add."""
    without, with_mounts = (nsjail_command(Jail(300_001, 300_001, some, "POLICY")) for some in ((), mounts))
    return [argument for argument in with_mounts if argument not in without]


def test_the_command_closes_the_jail_and_leaves_limits_to_jail_init() -> None:
    command = nsjail_command(Jail(300_001, 300_002, (), "POLICY", "name"))
    assert command[0] == "/opt/nsjail/bin/nsjail"
    assert {"--user=1000:300001:1", "--group=1000:300002:1", "--hostname=name", "--seccomp_string=POLICY"} <= set(command)
    assert {"--time_limit=0", "--disable_rlimits", "--nice_level=0", "--log_fd=4", "--pass_fd=3"} <= set(command)
    assert "--mode=o" in command
    assert "--mode=r" in nsjail_command(Jail(300_001, 300_002, (), "POLICY", "name"), again=True)
    assert command[-3:] == ["--", "/opt/cutor/bin/jail-init", "3"]
    assert not [
        argument for argument in command if argument.startswith(("--disable_clone", "--keep", "--env", "--chroot", "--rw"))
    ]


def test_each_kind_of_mount() -> None:
    assert arguments(Bind("/a", "/b")) == ["--bindmount_ro=/a:/b"]
    assert arguments(Bind("/a", "/b", writable=True)) == ["--bindmount=/a:/b"]
    assert arguments(Link("/bin/sh", "/nix/store/x-bash/bin/bash")) == ["--symlink=/nix/store/x-bash/bin/bash:/bin/sh"]
    assert arguments(Tmpfs("/tmp", 10, 20)) == ["--mount=none:/tmp:tmpfs:size=10,nr_inodes=20,mode=1777"]
    assert arguments(Masked("/nix/store", "/tmp/mask", "/nix/store")) == [
        "--mount=none:/nix/store:overlay:lowerdir=/tmp/mask:/nix/store,userxattr"
    ]


def test_a_layered_box_hides_its_own_memory() -> None:
    tmpfs, link, overlay = arguments(Layered("/box/base", "/box", 10, 20))
    assert tmpfs == "--mount=none:/box:tmpfs:size=10,nr_inodes=20,mode=0700"
    assert link == "--symlink=made:/box/upper/../work/../made"
    building = "/tmp/nsjail.300001.root/box"
    layers = f"lowerdir=/box/base,upperdir={building}/upper,workdir={building}/work,userxattr"
    assert overlay == f"--mount=none:/box:overlay:{layers}"


def test_mounts_keep_their_order() -> None:
    assert [argument.split(":")[-1] for argument in arguments(Bind("/a", "/x"), Bind("/b", "/x/y"))] == ["/x", "/x/y"]


def test_devices_are_few_and_read_only() -> None:
    binds = [argument for argument in arguments(*DEVICES) if argument.startswith("--bind")]
    assert [argument.partition(":")[2] for argument in binds] == [
        f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom")
    ]
    assert all(argument.startswith("--bindmount_ro=") for argument in binds)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "relative",
        "/a:b",
        "/a,b",
        "/a b",
        "/a\nb",
        "/a/../b",
        "/a/..",
        "/..",
        "/a/./b",
        "/a//b",
        "/a/",
        "/é",
        "/a\\b",
        "/a\0",
    ],
)
def test_paths_that_could_mean_something_else_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a path that a jail can be given"):
        check_path(path)
    for mount in (
        Bind(path, "/x"),
        Bind("/x", path),
        Link("/x", path),
        Tmpfs(path, 1, 1),
        Masked("/x", path, "/y"),
        Layered(path, "/x", 1, 1),
    ):
        with pytest.raises(ValueError, match="not a path"):
            nsjail_command(Jail(1, 1, (mount,), ""))


def test_store_paths_are_fine() -> None:
    path = "/nix/store/n8ig4m26qdxx1b2fhifx8g51rhx45krx-nodejs-18.20.4+dfsg_1?x=y/bin/node"
    assert check_path(path) == path
    assert check_path("/a/...") == "/a/..."
