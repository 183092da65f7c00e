"""What a runner's jails are built from, in the container's own memory, and what each of them sees.

A submission's files, and the links to its environment's programs, come into these directories when it does: a jail that stands
by then sees them.
"""

from __future__ import annotations

# Importing pathlib costs an init 8 ms:
# ruff: noqa: PTH101, PTH102, PTH108, PTH211
import os

from cutor.jail.inside import box
from cutor.jail.inside.lean import Final, suppress
from cutor.jail.inside.nsjail_args import DEVICES, Bind, Layered, Masked, Mount, Tmpfs, check_path
from cutor.jail.inside.protocol import CHANGING

STORE: Final = "/nix/store"
BASE: Final = "/box/base"
"""What the submission brought and its compile stage left: the box of the compile stage, the lower layer of every run."""
COPIES: Final = "/copies"
COPY: Final = "box"
MASK: Final = "/tmp/mask"  # noqa: S108 (the container's own /tmp, which no jail sees)
ETC: Final = "/tmp/etc"  # noqa: S108
BIN: Final = "/tmp/bin"  # noqa: S108
USR_BIN: Final = "/tmp/usr-bin"  # noqa: S108
"""What is in every jail's ``/bin`` and ``/usr/bin``: the links to the environment's programs, which come with a submission."""
LINKS: Final = ((BIN, "sh"), (USR_BIN, "env"))
FILES_BYTES: Final = 1 << 40
"""Size of a jail's directories in memory, which is built before its submission's limit is known: more than any, so that filling
them is answered by the OOM killer like any other memory. They die with the jail, and their memory is free again."""
TMP_INODES: Final = 65_536
"""An inode of a tmpfs takes a KiB of memory beside its pages: 64 MiB at the most. A choice above what programs make."""
ETC_FILES: Final = {
    "passwd": "cutor:x:1000:1000::/tmp:/bin/sh\n",
    "group": "cutor:x:1000:\n",
    "hosts": "127.0.0.1 localhost\n::1 localhost\n",
}
"""What programs look up about themselves; the image's own files are not in the jail."""


def prepare() -> None:
    """Make the directories of the container's own memory that jails are built from."""
    os.mkdir(BASE, 0o755)
    os.mkdir(MASK)
    os.mkdir(f"{MASK}/.links", 0)  # where Nix keeps every file of an optimised store under its hash
    os.chmod(MASK, 0o111)  # noqa: S103 (of an empty directory)
    for directory in (ETC, BIN, USR_BIN):
        os.mkdir(directory, 0o755)
    for name, text in ETC_FILES.items():
        box.write_file(ETC, name, text.encode())


def put_links(programs: dict[str, str]) -> None:
    """Lay the environment's programs out, as every jail shows them."""
    for directory, name in LINKS:
        os.symlink(check_path(programs[name]), f"{directory}/{name}")


def remove_links() -> None:
    """Take them away, as far as they are there."""
    for directory, name in LINKS:
        with suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}")


def mounts_of(kind: str, *, masked: bool, layered: bool) -> tuple[Mount, ...]:
    """Return what a stage sees: the same for every submission, whose own is in these directories by the time of its job.

    So the box of a run is a layer over `BASE`, which may be filled while a jail stands: nothing has looked at it by then.
    What the kernel can do tells whether the store is ``masked`` and whether the box of a run is ``layered``, or else a copy.
    """
    store: Mount = Masked(STORE, MASK, STORE) if masked else Bind(STORE, STORE)
    working: Mount
    if kind == CHANGING:
        working = Bind(BASE, "/box", writable=True)
    elif layered:
        working = Layered(BASE, "/box", FILES_BYTES, TMP_INODES)
    else:
        working = Bind(f"{COPIES}/{COPY}", "/box", writable=True)
    return (
        store,
        working,
        Tmpfs("/tmp", FILES_BYTES, TMP_INODES),  # noqa: S108 (the jail's own)
        Bind(ETC, "/etc"),
        Bind(BIN, "/bin"),
        Bind(USR_BIN, "/usr/bin"),
        *DEVICES,
        Tmpfs("/dev/shm", FILES_BYTES, TMP_INODES),  # noqa: S108 (the jail's own)
    )
