"""nsjail's arguments, from a few values: pure, used for every jail (compile and run, evaluation and capture of a build).

Every jail has its own user, pid, mount, network, IPC, UTS and control group namespace and drops every capability. nsjail sets
no limit and no variable: jail-init does, for the program alone. Nothing of a user's is ever part of an argument.

An overlay needs paths as they are while nsjail builds the new root, which it does in ``/tmp/nsjail.UID.root`` (nsjail 3.6).
"""

from __future__ import annotations

from cutor.jail.inside.lean import Final, NamedTuple

NSJAIL: Final = "/opt/nsjail/bin/nsjail"
JAIL_INIT: Final = "/opt/cutor/bin/jail-init"

CHANNEL_FD: Final = 3
"""jail-init's end of the channel, as nsjail and jail-init have it."""
LOG_FD: Final = 4
"""Where nsjail writes what goes wrong; the jailed program does not have it."""

JAIL_ID: Final = 1000
"""Uid and gid inside every jail, whatever the slot's are outside."""

_SAFE: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+._?=-/")


class Bind(NamedTuple):
    """A directory or file of the container, seen in the jail at ``target``."""

    source: str
    target: str
    writable: bool = False


class Tmpfs(NamedTuple):
    """A directory in memory that dies with the jail; charged to the container's memory."""

    target: str
    size_bytes: int
    inodes: int
    mode: str = "1777"


class Link(NamedTuple):
    """A symbolic link in the jail's root."""

    path: str
    to: str


class Masked(NamedTuple):
    """A read-only directory of the container whose own names can't be listed: ``mask`` is a directory of mode 0111.

    An overlay of the two takes modes from the upper one: empty directories of mode 0 in ``mask`` close those below. It
    gives every jail inodes of its own besides, so that locks and watches on the directory's files are seen by no other.
    """

    source: str
    mask: str
    target: str


class Layered(NamedTuple):
    """A writable view of a directory of the container: changes go to memory that dies with the jail (needs Linux 6.6)."""

    source: str
    target: str
    size_bytes: int
    inodes: int


Mount = Bind | Tmpfs | Link | Masked | Layered

DEVICES: Final[tuple[Mount, ...]] = (
    *(Bind(f"/dev/{name}", f"/dev/{name}") for name in ("null", "zero", "full", "random", "urandom")),
    Link("/dev/fd", "/proc/self/fd"),
    Link("/dev/stdin", "/proc/self/fd/0"),
    Link("/dev/stdout", "/proc/self/fd/1"),
    Link("/dev/stderr", "/proc/self/fd/2"),
)


class Jail(NamedTuple):
    """One jail: who it is outside, what it sees, and the system call policy in nsjail's language."""

    outside_uid: int
    outside_gid: int
    mounts: tuple[Mount, ...]
    policy: str
    hostname: str = "cutor"
    sole: bool = False
    """Whether nobody but the container has ``outside_uid``: then a jail stands once no descriptor of that is on its way."""


def check_path(path: str) -> str:
    """Return ``path`` if it can stand in an argument: absolute, of plain characters, without ``..``. Raises ValueError."""
    root, *parts = path.split("/")
    if root or not parts or {"", ".", ".."} & set(parts) or not set(path) <= _SAFE:
        raise ValueError(f"not a path that a jail can be given: {path!r}")
    return path


def nsjail_command(jail: Jail, *, again: bool = False) -> list[str]:
    """Return the command that builds the jail and starts jail-init in it. Raises ValueError for a path with odd characters.

    With ``again`` nsjail builds another jail, new in everything, whenever one has ended, until it is killed itself.
    """
    return [
        NSJAIL,
        f"--mode={'r' if again else 'o'}",
        "--quiet",  # warnings and errors, to LOG_FD
        f"--log_fd={LOG_FD}",
        f"--user={JAIL_ID}:{jail.outside_uid}:1",
        f"--group={JAIL_ID}:{jail.outside_gid}:1",
        f"--hostname={jail.hostname}",
        "--time_limit=0",  # the stage routine has the timers
        "--disable_rlimits",  # jail-init sets them
        "--nice_level=0",  # jail-init makes the program nice, and itself goes before it
        f"--seccomp_string={jail.policy}",
        *(argument for mount in jail.mounts for argument in _mount(mount, jail.outside_uid)),
        f"--pass_fd={CHANNEL_FD}",
        "--execute_fd",  # jail-init is opened before the new root: the jail holds no path to it
        "--",
        JAIL_INIT,
        str(CHANNEL_FD),
        *(["sole"] if jail.sole else []),
    ]


def _mount(mount: Mount, outside_uid: int) -> list[str]:
    """Return the arguments of one mount; order counts, later mounts may lie in or over earlier ones."""
    if isinstance(mount, Bind):
        option = "--bindmount" if mount.writable else "--bindmount_ro"
        return [f"{option}={check_path(mount.source)}:{check_path(mount.target)}"]
    if isinstance(mount, Link):
        return [f"--symlink={check_path(mount.to)}:{check_path(mount.path)}"]
    if isinstance(mount, Tmpfs):
        return [_tmpfs(mount.target, mount.size_bytes, mount.inodes, mount.mode)]
    if isinstance(mount, Masked):
        layers = f"lowerdir={check_path(mount.mask)}:{check_path(mount.source)}"
        return [f"--mount=none:{check_path(mount.target)}:overlay:{layers},userxattr"]
    return _layered(mount, outside_uid)


def _tmpfs(target: str, size_bytes: int, inodes: int, mode: str) -> str:
    return f"--mount=none:{check_path(target)}:tmpfs:size={size_bytes},nr_inodes={inodes},mode={mode}"


def _layered(mount: Layered, outside_uid: int) -> list[str]:
    """Mount a tmpfs on the target, make two directories in it, and mount the overlay of them over it: the tmpfs is hidden.

    nsjail makes the missing directories on the way to a link's place, ``..`` included: so one link makes both.
    """
    target = check_path(mount.target)
    building = f"/tmp/nsjail.{outside_uid}.root{target}"  # noqa: S108 (nsjail's choice, in the container's own /tmp)
    layers = f"lowerdir={check_path(mount.source)},upperdir={building}/upper,workdir={building}/work"
    return [
        _tmpfs(target, mount.size_bytes, mount.inodes, "0700"),
        f"--symlink=made:{target}/upper/../work/../made",
        f"--mount=none:{target}:overlay:{layers},userxattr",
    ]
