"""Specifications of child containers: pure functions from a few numbers to Docker's request body.

A runner's container holds no root and no capability. A builder's holds a root with SETUID and SETGID for the tiny parent that
maps a range of ids into a user namespace, and nothing else. Both have a read-only root file system, no network, no swap and no
log. System paths are unmasked, because a jail in them mounts a /proc of its own: tolerable only while no user's code in them is
root of the host's user namespace (who is could write ``core_pattern``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Literal

from cutor.containers import seccomp

Role = Literal["builder", "runner"]

STORE_DIRECTORY: Final = "/nix/store"
BOX_DIRECTORY: Final = "/box"
COPIES_DIRECTORY: Final = "/copies"
CODE_DIRECTORY: Final = "/opt/cutor"
RUNNER_MODULE: Final = "cutor.jail.inside.worker_init"

BUILD_UID: Final = 200_000
"""Root of a builder's user namespace, as the host sees it; it owns the store volumes."""

OPEN_FILES_CEILING: Final = 16_384
"""Hard limit of a container; the jail's helper lowers it to the stage's own."""

_MIB: Final = 1 << 20


@dataclass(frozen=True)
class ContainerSpec:
    """A container to be made: its name, and the body of Docker's create request (API 1.41)."""

    name: str
    body: dict[str, Any]


DATA_LABEL: Final = "cutor.data"
UID_LABEL: Final = "cutor.uid"
"""The uid that a runner's container has been lent: Docker's listing tells labels, and not the user."""


@dataclass(frozen=True)
class Identity:
    """Whose container it is. ``instance`` is the stack's label, ``token`` makes the name unique, ``submission`` is tenant/id.

    A container of a warm pool serves no submission yet: ``submission`` is null and the label is left out. ``data`` is the
    directory with the lock of the instance, by which others can tell whether it lives.
    """

    instance: str
    token: str
    submission: str | None = None
    data: PurePath | None = None


@dataclass(frozen=True)
class Resources:
    """What a container may use. Memory and processes can be changed while it runs (`Child.update`)."""

    memory_bytes: int
    processes: int
    cpus: float = 1.0


@dataclass(frozen=True)
class Tmpfs:
    """One writable directory in memory: bounded in bytes and inodes, charged to the container's memory."""

    path: str
    size_bytes: int
    inodes: int
    uid: int
    mode: str = "0700"
    executable: bool = False

    def options(self) -> str:
        """Return Docker's option string."""
        execution = "exec" if self.executable else "noexec"
        return (
            f"rw,nosuid,nodev,{execution},size={self.size_bytes},nr_inodes={self.inodes},"
            f"mode={self.mode},uid={self.uid},gid={self.uid}"
        )


@dataclass(frozen=True)
class Volume:
    """A named Docker volume and where it is mounted; nothing of the image is copied into it."""

    name: str
    path: str
    read_only: bool


@dataclass(frozen=True)
class RunnerStorage:
    """Sizes of what a runner's container can write: the box that compile leaves behind, and again a copy of it."""

    box_bytes: int = 256 * _MIB
    box_inodes: int = 65_536
    store_volume: str = "cutor-nix-store"


@dataclass(frozen=True)
class BuilderStorage:
    """Volumes and sizes of a builder's container.

    ``build`` holds Nix's build directories and must be smaller than the memory limit: a clean ENOSPC instead of an OOM kill.
    """

    store_volume: str = "cutor-nix-store"
    var_volume: str = "cutor-nix-var"
    packages_volume: str | None = "cutor-nix-packages"
    build_bytes: int = 512 * _MIB
    tmp_bytes: int = 64 * _MIB
    run_bytes: int = 16 * _MIB
    inodes: int = 262_144
    extra: tuple[Tmpfs, ...] = field(default=())


def entry_command(module: str) -> list[str]:
    """Return the command that runs ``module.main()`` from the image's code directory.

    ``-S -E`` leave out the site module and the environment. A module run by ``-m`` would cost an import more.
    """
    return [
        "/usr/bin/python3",
        "-S",
        "-E",
        "-c",
        f"import sys; sys.path[0] = {CODE_DIRECTORY!r}; from {module} import main; main()",
    ]


def runner_spec(
    identity: Identity,
    *,
    image: str,
    uid: int,
    resources: Resources,
    storage: RunnerStorage = RunnerStorage(),
) -> ContainerSpec:
    """Return the container of one submission: unprivileged, one uid of its own, the store read-only.

    ``uid`` (and gid) is the slot's: two running containers must not share one, nor may anything else on the host use it, so
    that slots share no per-uid resource of the kernel's.
    """
    writable = (
        Tmpfs(BOX_DIRECTORY, storage.box_bytes, storage.box_inodes, uid, executable=True),
        # for a box that is copied for every run: as large, and the directory that holds it
        Tmpfs(COPIES_DIRECTORY, storage.box_bytes + _MIB, storage.box_inodes + 16, uid, executable=True),
        Tmpfs("/tmp", _MIB, 1024, uid),  # noqa: S108 (the container's own: nsjail puts its mount points there)
    )
    host = _host_config(resources, writable, (Volume(storage.store_volume, STORE_DIRECTORY, read_only=True),))
    spec = _spec(identity, "runner", image, f"{uid}:{uid}", entry_command(RUNNER_MODULE), host)
    spec.body["Labels"][UID_LABEL] = str(uid)
    return spec


def builder_spec(
    identity: Identity,
    *,
    image: str,
    module: str,
    resources: Resources,
    storage: BuilderStorage = BuilderStorage(),
    network: str = "none",
) -> ContainerSpec:
    """Return the container of one environment build; ``module`` is the init that runs in it.

    Its process 1 is root with SETUID and SETGID only: it maps host ids from `BUILD_UID` on into a user namespace and waits.
    ``network`` is ``none`` or the name of a Docker network that reaches substituters and nothing private.
    """
    writable = (
        Tmpfs("/run", storage.run_bytes, 1024, BUILD_UID, "0755"),
        Tmpfs("/tmp", storage.tmp_bytes, storage.inodes, BUILD_UID, "1777"),  # noqa: S108 (the container's own)
        Tmpfs("/build", storage.build_bytes, storage.inodes, BUILD_UID, "0755", executable=True),
        *storage.extra,
    )
    volumes = [
        Volume(storage.store_volume, STORE_DIRECTORY, read_only=False),
        Volume(storage.var_volume, "/nix/var", read_only=False),
    ]
    if storage.packages_volume is not None:
        volumes.append(Volume(storage.packages_volume, "/packages", read_only=True))
    host = _host_config(resources, writable, tuple(volumes))
    host |= {"CapAdd": ["SETUID", "SETGID"], "NetworkMode": network}
    return _spec(identity, "builder", image, "0:0", entry_command(module), host)


def _host_config(resources: Resources, writable: tuple[Tmpfs, ...], volumes: tuple[Volume, ...]) -> dict[str, Any]:
    """Return what both kinds share; see facts in the module's docstring."""
    return {
        "CapDrop": ["ALL"],
        "CgroupnsMode": "private",  # its own control group is the root of what it sees, on version 2 and 1
        "IpcMode": "none",  # no /dev/shm, no IPC namespace shared with anything; each jail has both of its own
        "LogConfig": {"Type": "none", "Config": {}},
        "MaskedPaths": [],
        "Memory": resources.memory_bytes,
        "MemorySwap": resources.memory_bytes,  # the sum of both: no swap
        "Mounts": [_mount(volume) for volume in volumes],
        "NanoCpus": int(resources.cpus * 1_000_000_000),
        "NetworkMode": "none",
        "PidsLimit": resources.processes,
        "ReadonlyPaths": [],
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges", "seccomp=" + seccomp.container_profile()],
        "Tmpfs": {tmpfs.path: tmpfs.options() for tmpfs in writable},
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": 1024, "Hard": OPEN_FILES_CEILING},
        ],
    }


def _mount(volume: Volume) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": volume.name,
        "Target": volume.path,
        "ReadOnly": volume.read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _spec(
    identity: Identity, role: Role, image: str, user: str, command: list[str], host_config: dict[str, Any]
) -> ContainerSpec:
    labels = {"cutor": identity.instance, "cutor.role": role}
    if identity.submission is not None:
        labels["cutor.submission"] = identity.submission
    if identity.data is not None:
        labels[DATA_LABEL] = str(identity.data)
    body = {
        "Image": image,
        "User": user,
        "Entrypoint": [],
        "Cmd": command,
        # the threshold keeps glibc's malloc from holding on to large buffers: the kernel gets them back at once
        "Env": ["PATH=/usr/bin", "LANG=C.UTF-8", "MALLOC_MMAP_THRESHOLD_=131072"],
        "Hostname": "cutor",
        "WorkingDir": "/",
        "Labels": labels,
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": host_config,
    }
    return ContainerSpec(f"cutor-{identity.instance}-{role}-{identity.token}", body)
