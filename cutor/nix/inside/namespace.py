"""The build's user namespace: root in it is a plain user on the host, and owns the store volumes.

The container starts as root of the host's namespace, with no capability but SETUID and SETGID. That process maps a range of
uids into a fresh user namespace, becomes nobody, and only waits; everything else happens inside the namespace, where a
build can be nothing on the host (facts: "who the daemon is").
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

HOST_ID_BASE: Final = 200_000
"""Uid and gid of the host that root of the namespace is; owner of the store volumes."""
ID_COUNT: Final = 65_536
"""What a user namespace usually has: every uid of 16 bits, nobody's included."""
NOBODY: Final = 65_534
"""The uid of nobody, as Linux and Debian have it."""
JAIL_ID: Final = 1000
"""Uid and gid, in the namespace, of what is jailed."""


def run_in_namespace(program: Callable[[], int]) -> int:
    """Run ``program`` as root of a fresh user namespace with its own mounts; return its exit code (128 + a signal's number).

    Must be called by root with SETUID and SETGID, before any thread is started.
    """
    theirs, ours = socket.socketpair()
    child = os.fork()
    if child == 0:
        ours.close()
        os._exit(_inside(program, theirs))
    theirs.close()
    if ours.recv(1) == b"u":
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{kind}").write_text(f"0 {HOST_ID_BASE} {ID_COUNT}")
        become(NOBODY)
        ours.send(b"m")
    ours.close()
    return _reap_until(child)


def become(identity: int) -> None:
    """Become the user and group ``identity``, without further groups."""
    os.setgroups([])
    os.setresgid(identity, identity, identity)
    os.setresuid(identity, identity, identity)


def _inside(program: Callable[[], int], parent: socket.socket) -> int:
    try:
        os.unshare(os.CLONE_NEWUSER)  # type: ignore[attr-defined] # Python 3.12; the child image has a newer one
        parent.send(b"u")
        if parent.recv(1) != b"m":
            return 1  # the parent could not write the maps; its own message says why
        parent.close()
        become(0)
        os.unshare(os.CLONE_NEWNS)  # type: ignore[attr-defined] # see above
        return program()
    except BaseException:  # a forked child must not return into its parent's frames
        traceback.print_exc()
        return 1


def _reap_until(child: int) -> int:
    """Collect ended children, orphans of the container included, until ``child`` has ended."""
    while True:
        pid, status = os.wait()
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
