"""The two jails of a build: what the evaluation sees, and what the capture sees. Pure."""

from __future__ import annotations

from typing import Final

from cutor.jail.inside.nsjail_args import DEVICES, Bind, Jail, Link, Masked, Mount, Tmpfs
from cutor.nix.inside import daemon
from cutor.nix.inside.namespace import JAIL_ID
from cutor.nix.inside.shell import ATTRIBUTES_DIRECTORY, DUMP_PROGRAM

WORK: Final = "/environment"
"""The container's own directory for a build; its parts are what the jails see."""
SOURCES: Final = f"{WORK}/sources"
HOME: Final = f"{WORK}/home"
ATTRIBUTES: Final = f"{WORK}/attributes"
CAPTURE: Final = f"{WORK}/capture"
MASK: Final = f"{WORK}/mask"
DUMP_COPY: Final = f"{WORK}/dump"
"""Mounted from memory, so that the hook's list of mounts does not tell where the host keeps the image."""

CAPTURE_FILE: Final = "/capture/variables"
"""Written once the hook has ended: no descriptor that the hook could close or print to leads there."""

TMP_BYTES: Final = 256 << 20
"""Evaluation and capture write little there, and it is memory of the build's. A choice."""
TMP_INODES: Final = 65_536
"""As in the jails of a runner: an inode takes 1 KiB of memory outside the pages, 64 MiB at the most."""

_TMP: Final = (Tmpfs("/tmp", TMP_BYTES, TMP_INODES), Tmpfs("/dev/shm", TMP_BYTES, 1024))  # noqa: S108 - the jail's own
_ETC: Final = ("nix", "passwd", "group", "nsswitch.conf", "ld.so.cache", "ssl")
_NETWORK_ETC: Final = ("hosts", "resolv.conf")
_USR_LINKS: Final = (Link("/lib", "/usr/lib"), Link("/lib64", "/usr/lib64"), Link("/bin", "/usr/bin"))


def evaluation_jail(policy: str, *, network: bool) -> Jail:
    """Return the jail around Nix: its programs and the package set read-only, the daemon's socket, a home of its own.

    ``network``: the container's network is left to it, because the evaluator itself fetches what an expression names.
    """
    etc = (*_ETC, *_NETWORK_ETC) if network else _ETC
    mounts: tuple[Mount, ...] = (
        *(Bind(path, path) for path in ("/nix/store", "/packages", "/usr", "/opt/cutor/cutor", str(daemon.SOCKET.parent))),
        *(Bind(f"/etc/{name}", f"/etc/{name}") for name in etc),
        *_USR_LINKS,
        *DEVICES,
        *_TMP,
        Bind(SOURCES, "/box"),
        Bind(HOME, "/home", writable=True),
    )
    return Jail(JAIL_ID, JAIL_ID, mounts, policy)


def capture_jail(policy: str, links: dict[str, str], *, masked: bool) -> Jail:
    """Return the jail around the hook: what a stage's jail shows, and nothing of Nix but store paths that are known.

    ``links`` are the places of ``sh`` and ``env``, with the store paths they lead to. ``masked``: the store can't be listed;
    else the list of mounts tells where Docker keeps the volume, as it does to builders in Nix's own sandbox: a path, no way.
    """
    mounts: tuple[Mount, ...] = (
        Masked("/nix/store", MASK, "/nix/store") if masked else Bind("/nix/store", "/nix/store"),
        Bind(DUMP_COPY, DUMP_PROGRAM),
        *DEVICES,
        *_TMP,
        Bind(ATTRIBUTES, ATTRIBUTES_DIRECTORY),
        Bind(CAPTURE, CAPTURE_FILE.rpartition("/")[0], writable=True),
        Bind(SOURCES, "/box", writable=True),
        *(Link(place, target) for place, target in links.items()),
    )
    return Jail(JAIL_ID, JAIL_ID, mounts, policy)
