"""Specifications of child containers: pure functions from a few numbers to Docker's request body.

A runner's container holds no root and no capability. A builder's holds a root with SETUID and SETGID (and NET_ADMIN, where it
has a network) for the tiny parent that maps a range of ids into a user namespace (and filters that network), and nothing else.
Both have a read-only root file system, no swap and no log; a runner's has no network. System paths are unmasked, because a jail
in them mounts a /proc of its own: tolerable only while no user's code in it is root of the host's user namespace, who could
write ``core_pattern``. A store's container is like a builder's, runs no user's code and makes no jail: they stay masked there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Final, Literal

from cutor.containers import seccomp
from cutor.containers.labels import (
    DATA_LABEL,
    ENVIRONMENT_LABEL,
    INSTANCE_LABEL,
    ROLE_LABEL,
    STORE_LABEL,
    SUBMISSION_LABEL,
    UID_LABEL,
    USER_LABEL,
)
from cutor.containers.settings import OPEN_FILES_CEILING

Purpose = Literal["builder", "runner", "store", "pause"]
StoreUser = Literal["builder", "runner", "command"]
"""Whom a store's container serves: a purpose of the instance, or a command such as ``cutor gc``."""

STORE_DIRECTORY: Final = "/nix/store"
BOX_DIRECTORY: Final = "/box"
COPIES_DIRECTORY: Final = "/copies"
CACHE_DIRECTORY: Final = "/cache"
CODE_DIRECTORY: Final = "/opt/cutor"
ENVIRONMENT: Final = ["PATH=/usr/bin", "LANG=C.UTF-8", "MALLOC_MMAP_THRESHOLD_=131072"]
"""Of an init. The threshold keeps glibc's malloc from holding on to large buffers: the kernel gets them back at once."""
RUNNER_COMMAND: Final = ["/usr/bin/python3", "-I", "-S", f"{CODE_DIRECTORY}/worker_init.pyc"]
"""Of a runner's container: all modules of its init in one file (``cutor/setup/image/bundle.py``). ``-I -S`` leave out the site
module, the environment and the directory."""
PAUSE_COMMAND: Final = ["/opt/cutor/bin/busybox", "cat"]
"""Of a pause container: waits for the end of its standard input, and does nothing else."""
PAUSE_UID: Final = 65_534
"""As whom a pause container waits: no slot's and no build's."""
NO_NETWORK: Final = "none"
"""Docker's name of the network that has nothing in it but a loopback."""
REFUSE_ARGUMENT: Final = "--refuse"
"""Before the networks that a builder with a network must not reach, in the command of its container."""

BUILD_UID: Final = 200_000
"""Root of a builder's user namespace, as the host sees it; it owns the store volumes."""

OPEN_FILES: Final = 1024
"""Soft limit of open files in a container that is made with no other one: each process may raise its own to the ceiling."""
_MIB: Final = 1 << 20  # bytes of a MiB
PAUSE_MEMORY_BYTES: Final = 16 * _MIB  # one small process sleeps there; a choice: Docker takes no less than 6 MiB
PAUSE_PROCESSES: Final = 4  # a choice: one sleeps, and what starts it and looks at it counts, too
SMALL_INODES: Final = 1024  # of a directory of sockets, pipes and mount points; a choice: an inode takes a KiB beside its pages
STORE_RUN_BYTES: Final = 16 * _MIB  # of /run in a store container; a choice: memory of the container's, for what programs say
STORE_TMP_BYTES: Final = 256 * _MIB  # of /tmp there, for what programs of Nix put there; a choice, as above
STORE_TMP_INODES: Final = 65_536  # of the same: 64 MiB of memory at the most


@dataclass(frozen=True)
class ContainerSpec:
    """A container to be made: its name, and the body of Docker's create request (API 1.41)."""

    name: str
    body: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        labels: dict[str, str] = self.body["Labels"]
        return labels


@dataclass(frozen=True)
class VolumeSpec:
    """A volume to be made, or one that is there: its name, and its labels.

    ``made_s``: when Docker made it, in seconds since 1970; null for one that is to be made, and where Docker does not say.
    """

    name: str
    labels: dict[str, str]
    made_s: float | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Identity:
    """Whose container it is. ``instance`` is the stack's label, ``token`` makes the name unique, ``submission`` is tenant/id.

    A runner's container serves no submission yet: ``submission`` is null and the label is left out. ``data`` is the
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
class Mount:
    """What a store's container is given as its cache: a volume, or a directory of the host."""

    kind: Literal["volume", "directory"]
    source: str
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


def entry_command(module: str, arguments: Sequence[str] = ()) -> list[str]:
    """Return the command that runs ``module.main()`` from the image's code directory; it finds ``arguments`` in sys.argv.

    ``-S -E`` leave out the site module and the environment. A module run by ``-m`` would cost an import more.
    """
    return [
        "/usr/bin/python3",
        "-S",
        "-E",
        "-c",
        f"import sys; sys.path[0] = {CODE_DIRECTORY!r}; from {module} import main; main()",
        *arguments,
    ]


def runner_spec(
    identity: Identity,
    *,
    image: str,
    uid: int,
    resources: Resources,
    storage: RunnerStorage = RunnerStorage(),
    network: str = NO_NETWORK,
) -> ContainerSpec:
    """Return the container of one submission: unprivileged, one uid of its own, the store read-only.

    ``uid`` (and gid) is lent to it: two running containers must not share one, nor may anything else on the host use it, so
    that they share no per-uid resource of the kernel's. ``network`` is that of a pause container (`pause_network`), or none
    at all, which takes Docker twice as long.
    """
    writable = (
        Tmpfs(BOX_DIRECTORY, storage.box_bytes, storage.box_inodes, uid, executable=True),
        # for a box that is copied for every run: as large, and the directory that holds it
        Tmpfs(COPIES_DIRECTORY, storage.box_bytes + _MIB, storage.box_inodes + 16, uid, executable=True),
        Tmpfs("/tmp", _MIB, SMALL_INODES, uid),  # noqa: S108 (the container's own: nsjail puts its mount points there)
    )
    store = Volume(storage.store_volume, STORE_DIRECTORY, read_only=True)
    host = _host_config(resources, writable, (store,), open_files=OPEN_FILES_CEILING)
    host["NetworkMode"] = network
    spec = _spec(identity, "runner", image, f"{uid}:{uid}", [*RUNNER_COMMAND, seccomp.program_policy()], host)
    if network != NO_NETWORK:
        del spec.body["Hostname"]  # Docker gives it the pause container's, and refuses another
    spec.body["Labels"] |= {UID_LABEL: str(uid), STORE_LABEL: storage.store_volume}
    return spec


def use_mark(identity: Identity, store_volume: str, key: str) -> VolumeSpec:
    """Return the volume that says for as long as it is there: a runner uses the environment of this key. Nothing is in it."""
    labels = _labels(identity, "runner") | {STORE_LABEL: store_volume, ENVIRONMENT_LABEL: key}
    return VolumeSpec(f"cutor-{identity.instance}-uses-{identity.token}", labels)


def pause_spec(identity: Identity, *, image: str) -> ContainerSpec:
    """Return a container that does nothing: others join its network namespace, which has a loopback and nothing behind it."""
    host = _host_config(Resources(PAUSE_MEMORY_BYTES, PAUSE_PROCESSES), (), ())
    _mask_system_paths(host)
    return _spec(identity, "pause", image, f"{PAUSE_UID}:{PAUSE_UID}", PAUSE_COMMAND, host)


def pause_network(container_id: str) -> str:
    """Return the network of containers that join a pause container's."""
    return f"container:{container_id}"


def builder_spec(
    identity: Identity,
    *,
    image: str,
    module: str,
    resources: Resources,
    storage: BuilderStorage = BuilderStorage(),
    network: str = NO_NETWORK,
    refused: Sequence[str] = (),
) -> ContainerSpec:
    """Return the container of one environment build; ``module`` is the init that runs in it.

    Its process 1 is root with SETUID and SETGID only: it maps host ids from `BUILD_UID` on into a user namespace and waits.
    With a ``network`` of Docker's it has NET_ADMIN, too, to keep the build from everything private and from ``refused``
    (networks or addresses) before it does that.
    """
    writable = (
        Tmpfs("/run", storage.run_bytes, SMALL_INODES, BUILD_UID, "0755"),
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
    networked = network != NO_NETWORK
    host = _host_config(resources, writable, tuple(volumes), packet_filter=networked)
    host |= {"CapAdd": ["SETUID", "SETGID", *(["NET_ADMIN"] if networked else [])], "NetworkMode": network}
    arguments = (REFUSE_ARGUMENT, *refused) if networked else ()
    return _spec(identity, "builder", image, "0:0", entry_command(module, arguments), host)


def store_spec(
    identity: Identity,
    *,
    image: str,
    module: str,
    user: StoreUser,
    resources: Resources,
    store_volume: str,
    var_volume: str,
    cache: Mount | None = None,
    network: str = "none",
    adopts: bool = False,
    labels: Mapping[str, str] | None = None,
) -> ContainerSpec:
    """Return the container of one job on the store (inventory, collection, copies): its owner, and no user's code.

    Process 1 is as a builder's. A ``cache`` is mounted at `CACHE_DIRECTORY`; a volume that can be written may be a new one,
    which process 1 gives to the store's owner: for that it has CHOWN. So it has where it ``adopts`` a new store. ``network``
    reaches a cache on HTTP. ``labels`` say what others must know of the job (`collection_labels`, `release_labels`).
    """
    writable = (
        Tmpfs("/run", STORE_RUN_BYTES, SMALL_INODES, BUILD_UID, "0755"),
        Tmpfs("/tmp", STORE_TMP_BYTES, STORE_TMP_INODES, BUILD_UID, "1777"),  # noqa: S108 (the container's own)
    )
    volumes = (Volume(store_volume, STORE_DIRECTORY, read_only=False), Volume(var_volume, "/nix/var", read_only=False))
    host = _host_config(resources, writable, volumes)
    _mask_system_paths(host)
    host |= {"CapAdd": ["SETUID", "SETGID"], "NetworkMode": network}
    if cache is not None:
        host["Mounts"].append(_cache_mount(cache))
        adopts |= cache.kind == "volume" and not cache.read_only
    if adopts:
        host["CapAdd"].append("CHOWN")
    spec = _spec(identity, "store", image, "0:0", entry_command(module), host)
    spec.body["Labels"] |= {USER_LABEL: user} | dict(labels or {})
    return spec


def _host_config(
    resources: Resources,
    writable: tuple[Tmpfs, ...],
    volumes: tuple[Volume, ...],
    *,
    packet_filter: bool = False,
    open_files: int = OPEN_FILES,
) -> dict[str, Any]:
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
        "NetworkMode": NO_NETWORK,
        "PidsLimit": resources.processes,
        "ReadonlyPaths": [],
        "ReadonlyRootfs": True,
        "SecurityOpt": ["no-new-privileges", "seccomp=" + seccomp.container_profile(packet_filter=packet_filter)],
        "Tmpfs": {tmpfs.path: tmpfs.options() for tmpfs in writable},
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": open_files, "Hard": OPEN_FILES_CEILING},
        ],
    }


def _mask_system_paths(host: dict[str, Any]) -> None:
    """Leave Docker's own masks where they are: in a container that makes no jail."""
    for unmasked in ("MaskedPaths", "ReadonlyPaths"):
        del host[unmasked]


def _mount(volume: Volume) -> dict[str, Any]:
    return {
        "Type": "volume",
        "Source": volume.name,
        "Target": volume.path,
        "ReadOnly": volume.read_only,
        "VolumeOptions": {"NoCopy": True},
    }


def _cache_mount(cache: Mount) -> dict[str, Any]:
    if cache.kind == "volume":
        return _mount(Volume(cache.source, CACHE_DIRECTORY, cache.read_only))
    return {"Type": "bind", "Source": cache.source, "Target": CACHE_DIRECTORY, "ReadOnly": cache.read_only}


def _labels(identity: Identity, purpose: Purpose) -> dict[str, str]:
    labels = {INSTANCE_LABEL: identity.instance, ROLE_LABEL: purpose}
    if identity.data is not None:
        labels[DATA_LABEL] = str(identity.data)
    return labels


def _spec(
    identity: Identity, purpose: Purpose, image: str, user: str, command: list[str], host_config: dict[str, Any]
) -> ContainerSpec:
    labels = _labels(identity, purpose)
    if identity.submission is not None:
        labels[SUBMISSION_LABEL] = identity.submission
    body = {
        "Image": image,
        "User": user,
        "Entrypoint": [],
        "Cmd": command,
        "Env": ENVIRONMENT,
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
    return ContainerSpec(f"cutor-{identity.instance}-{purpose}-{identity.token}", body)
