"""What a child container may do, as Docker is told: nothing that the threat model does not name."""

from __future__ import annotations

import json
from pathlib import PurePath

import pytest

from cutor.containers import seccomp
from cutor.containers.host_config import (
    REFUSE_ARGUMENT,
    BuilderStorage,
    Identity,
    Resources,
    RunnerStorage,
    Tmpfs,
    builder_spec,
    entry_command,
    pause_network,
    pause_spec,
    runner_spec,
    store_spec,
    use_mark,
)
from cutor.jail.inside.layout import TMP_INODES

IDENTITY = Identity("one", "abc", "default/s1")
RESOURCES = Resources(memory_bytes=256 << 20, processes=64, cpus=1.5)
RUNNER = runner_spec(IDENTITY, image="image", uid=300_007, resources=RESOURCES)
PACKET_FILTER = '[{"index":0,"value":16,"op":"SCMP_CMP_EQ"},{"index":2,"value":12,"op":"SCMP_CMP_EQ"}]'
"""The rule for a socket by which to talk to the kernel's packet filter."""
BUILDER = builder_spec(IDENTITY, image="image", module="cutor.nix.inside.build_init", resources=RESOURCES)
STORE = store_spec(
    Identity("one", "abc"),
    image="image",
    module="cutor.nix.inside.store_init",
    user="runner",
    resources=RESOURCES,
    store_volume="a-store",
    var_volume="a-var",
)


@pytest.mark.parametrize("body", [RUNNER.body, BUILDER.body, STORE.body], ids=["runner", "builder", "store"])
def test_all_are_closed_in(body: dict[str, object]) -> None:
    host = body["HostConfig"]
    assert isinstance(host, dict)
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert host["ReadonlyRootfs"] is True
    assert (host["NetworkMode"], host["IpcMode"]) == ("none", "none")
    assert (host["Memory"], host["MemorySwap"]) == (256 << 20, 256 << 20)
    assert (host["PidsLimit"], host["NanoCpus"]) == (64, 1_500_000_000)
    assert host["LogConfig"]["Type"] == "none"
    assert "Privileged" not in host
    assert "Binds" not in host
    assert all(mount["Type"] == "volume" for mount in host["Mounts"])
    assert {limit["Name"]: limit["Hard"] for limit in host["Ulimits"]} == {"core": 0, "nofile": 16_384}
    for options in host["Tmpfs"].values():
        assert {"nosuid", "nodev"} <= set(options.split(","))
        assert "size=" in options
        assert "nr_inodes=" in options


def test_a_runner_is_its_slots_uid_and_has_no_capability() -> None:
    host = RUNNER.body["HostConfig"]
    assert RUNNER.body["User"] == "300007:300007"
    assert "CapAdd" not in host
    (store,) = host["Mounts"]
    assert (store["Source"], store["Target"], store["ReadOnly"]) == ("cutor-nix-store", "/nix/store", True)
    assert store["VolumeOptions"] == {"NoCopy": True}
    assert set(host["Tmpfs"]) == {"/box", "/copies", "/tmp"}
    assert host["Tmpfs"]["/box"].endswith("mode=0700,uid=300007,gid=300007")
    assert ",exec," in host["Tmpfs"]["/box"]
    assert ",noexec," in host["Tmpfs"]["/tmp"]


def test_a_container_has_one_cpu_unless_it_is_told_otherwise() -> None:
    resources = Resources(memory_bytes=256 << 20, processes=64)
    for spec in (
        runner_spec(IDENTITY, image="image", uid=300_007, resources=resources),
        builder_spec(IDENTITY, image="image", module="m", resources=resources),
    ):
        assert spec.body["HostConfig"]["NanoCpus"] == 1_000_000_000


def test_a_box_is_bounded_in_files_as_a_jails_own_directories_are() -> None:
    writable = RUNNER.body["HostConfig"]["Tmpfs"]
    inodes = {path: int(options.partition("nr_inodes=")[2].partition(",")[0]) for path, options in writable.items()}
    assert inodes["/box"] == TMP_INODES == 65_536
    assert inodes["/copies"] == TMP_INODES + 16, "a copy of a full box, and the directories that hold it"


def test_a_runner_that_joins_a_network_differs_in_nothing_else() -> None:
    """Docker refuses a host name there: it is that of the container whose network is joined."""
    joined = runner_spec(IDENTITY, image="image", uid=300_007, resources=RESOURCES, network=pause_network("abc")).body
    assert joined["HostConfig"]["NetworkMode"] == "container:abc"
    assert joined["HostConfig"] | {"NetworkMode": "none"} == RUNNER.body["HostConfig"]
    assert joined | {"Hostname": "cutor", "HostConfig": RUNNER.body["HostConfig"]} == RUNNER.body
    assert "Hostname" not in joined


def test_a_pause_container_waits_and_can_do_nothing_else() -> None:
    """It has no network, no capability, no volume and nothing to write to, and it is nobody's uid."""
    body = pause_spec(Identity("one", "abc", data=PurePath("/srv/data")), image="image").body
    host = body["HostConfig"]
    assert body["Cmd"] == ["/opt/cutor/bin/busybox", "cat"]
    assert body["User"] == "65534:65534"
    assert body["Labels"] == {"cutor": "one", "cutor.role": "pause", "cutor.data": "/srv/data"}
    assert (host["NetworkMode"], host["IpcMode"], host["CapDrop"], host["ReadonlyRootfs"]) == ("none", "none", ["ALL"], True)
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (16 << 20, 16 << 20, 4)
    assert (host["Mounts"], host["Tmpfs"]) == ([], {})
    assert "no-new-privileges" in host["SecurityOpt"]
    assert any(option.startswith("seccomp={") for option in host["SecurityOpt"])
    assert not {"CapAdd", "MaskedPaths", "ReadonlyPaths", "Privileged", "Binds"} & set(host), "Docker's own masks hold"


def test_a_builders_root_can_only_map_ids() -> None:
    host = BUILDER.body["HostConfig"]
    assert BUILDER.body["User"] == "0:0"
    assert host["CapAdd"] == ["SETUID", "SETGID"]
    assert PACKET_FILTER not in str(host["SecurityOpt"])
    assert BUILDER.body["Cmd"][5:] == []
    mounts = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in host["Mounts"]}
    assert mounts == {
        "/nix/store": ("cutor-nix-store", False),
        "/nix/var": ("cutor-nix-var", False),
        "/packages": ("cutor-nix-packages", True),
    }
    assert all("uid=200000,gid=200000" in options for options in host["Tmpfs"].values())


def test_a_store_container_is_its_owner_and_makes_no_jail() -> None:
    host = STORE.body["HostConfig"]
    assert host["CapAdd"] == ["SETUID", "SETGID"]
    assert not {"MaskedPaths", "ReadonlyPaths"} & set(host), "Docker's own masks hold"
    mounts = {mount["Target"]: (mount["Source"], mount["ReadOnly"]) for mount in host["Mounts"]}
    assert mounts == {"/nix/store": ("a-store", False), "/nix/var": ("a-var", False)}
    assert set(host["Tmpfs"]) == {"/run", "/tmp"}
    assert STORE.body["Labels"] == {"cutor": "one", "cutor.role": "store", "cutor.store-user": "runner"}
    assert STORE.name == "cutor-one-store-abc"


def test_a_builder_with_a_network_is_told_what_to_refuse_and_may_set_the_filter() -> None:
    body = builder_spec(
        IDENTITY, image="image", module="m", resources=RESOURCES, network="egress", refused=("198.51.100.0/24", "2001:db8::1")
    ).body
    assert body["HostConfig"]["CapAdd"] == ["SETUID", "SETGID", "NET_ADMIN"]
    assert PACKET_FILTER in str(body["HostConfig"]["SecurityOpt"])
    assert body["Cmd"][5:] == [REFUSE_ARGUMENT, "198.51.100.0/24", "2001:db8::1"]


def test_what_can_be_chosen_is_chosen() -> None:
    storage = BuilderStorage(packages_volume=None, build_bytes=1000, extra=(Tmpfs("/work", 5, 6, 7, "0755"),))
    body = builder_spec(IDENTITY, image="image", module="m", resources=RESOURCES, storage=storage, network="egress").body
    assert body["HostConfig"]["NetworkMode"] == "egress"
    assert "size=1000," in body["HostConfig"]["Tmpfs"]["/build"]
    assert body["HostConfig"]["Tmpfs"]["/work"] == "rw,nosuid,nodev,noexec,size=5,nr_inodes=6,mode=0755,uid=7,gid=7"
    assert [mount["Target"] for mount in body["HostConfig"]["Mounts"]] == ["/nix/store", "/nix/var"]
    runner = runner_spec(
        IDENTITY, image="image", uid=1, resources=RESOURCES, storage=RunnerStorage(box_bytes=9, store_volume="v")
    )
    assert "size=9," in runner.body["HostConfig"]["Tmpfs"]["/box"]


def test_labels_and_name_say_whose_it_is() -> None:
    assert RUNNER.name == "cutor-one-runner-abc"
    assert RUNNER.body["Labels"] == {
        "cutor": "one",
        "cutor.role": "runner",
        "cutor.submission": "default/s1",
        "cutor.store": "cutor-nix-store",
        "cutor.uid": "300007",
    }
    placed = Identity("one", "abc", data=PurePath("/srv/data"))
    assert runner_spec(placed, image="image", uid=1, resources=RESOURCES).body["Labels"]["cutor.data"] == "/srv/data"
    warm = runner_spec(Identity("one", "abc"), image="image", uid=1, resources=RESOURCES)
    assert "cutor.submission" not in warm.body["Labels"]


def test_a_mark_says_whose_it_is_what_it_marks_and_where() -> None:
    mark = use_mark(Identity("one", "abc", data=PurePath("/srv/data")), "store", "f" * 64)
    assert mark.name == "cutor-one-uses-abc"
    assert mark.labels == {
        "cutor": "one",
        "cutor.role": "runner",
        "cutor.data": "/srv/data",
        "cutor.store": "store",
        "cutor.environment": "f" * 64,
    }


def test_the_command_runs_a_module_of_the_images_and_nothing_of_the_users() -> None:
    command = RUNNER.body["Cmd"]
    assert command[:-1] == ["/usr/bin/python3", "-I", "-S", "/opt/cutor/worker_init.pyc"]
    assert command[-1] == seccomp.program_policy()
    module = entry_command("m")
    assert module[:4] == ["/usr/bin/python3", "-S", "-E", "-c"]
    assert module[4:] == ["import sys; sys.path[0] = '/opt/cutor'; from m import main; main()"]
    assert RUNNER.body["Entrypoint"] == []
    assert (RUNNER.body["OpenStdin"], RUNNER.body["StdinOnce"]) == (True, True)
    json.dumps(RUNNER.body)


def test_a_store_container_can_give_volumes_away_only_where_it_is_to() -> None:
    claiming = store_spec(
        IDENTITY, image="image", module="m", user="command", resources=RESOURCES, store_volume="v", var_volume="w", adopts=True
    )
    assert claiming.body["HostConfig"]["CapAdd"] == ["SETUID", "SETGID", "CHOWN"]
