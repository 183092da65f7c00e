"""The entry point of a store container: one job on the shared store, without any user's code.

    root of the container ──▶ maps ids, becomes nobody, waits            (namespace)
      └ root of the build's user namespace, who owns the store: this module
          ├ takes one job from the host                                  (HostLink)
          ├ shares the builds' lock, or is alone for a collection        (store.BuildsLock)
          └ does it; the result to the host                              (inventory, roots, collection, cache)

A host that goes away ends it at once, whatever it is doing: a watcher waits for the end of stdin, and everything that runs here
survives a kill.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from array import array
from collections.abc import Callable
from typing import Final

from cutor.jail.inside.host_link import Command, HostLink
from cutor.jail.inside.protocol import PROTOCOL_VERSION, ProtocolError
from cutor.nix.inside import cache, collection, namespace, ownership, store
from cutor.nix.inside.build_init import IN_NAMESPACE, nix_version
from cutor.nix.inside.cache import CopyRefused
from cutor.nix.inside.inventory import PIECE_BYTES, Closures, read_contents
from cutor.nix.inside.roots import key_times, other_roots, remove_links, remove_roots, rooted_keys
from cutor.nix.inside.store import StoreError

HOST_GONE: Final = 3
"""The container's exit code, for whoever looks at it in Docker: none that the init ends with otherwise. A choice."""
COUNT_INTERVAL_NS: Final = 200_000_000
"""Between two counts of what is done: five a second are as good as all, and no load. A choice."""
ANSWER_SECONDS: Final = 300.0
"""How long a collection that is alone with the store waits for the host's word; builds wait meanwhile."""
FAULTS: Final = (StoreError, ProtocolError, OSError)


class Progress:
    """Tells the host how far a job is, a few times a second."""

    def __init__(self, link: HostLink) -> None:
        self._link = link
        self._last_ns = 0

    def __call__(self, count: int) -> None:
        """Say that ``count`` paths are done."""
        if time.monotonic_ns() - self._last_ns >= COUNT_INTERVAL_NS:
            self._last_ns = time.monotonic_ns()
            self._link.send({"type": "advanced", "count": count})


def take_inventory(_: Command, link: HostLink) -> None:
    """Send every valid path with its size, then what each key's roots keep, and what others do."""
    _share(link)
    contents = read_contents()
    lines = [f"{path} {size}\n" for path, size in zip(contents.paths, contents.nar_bytes, strict=True)]
    step = PIECE_BYTES // 256
    for start in range(0, len(lines), step):
        link.send({"type": "paths"}, ["".join(lines[start : start + step]).encode()])
    del lines
    closures = Closures(contents)
    for rooted in rooted_keys():
        _send_closure(link, rooted.key, rooted.made_at_s, closures.of(rooted.paths))
    _send_closure(link, None, 0, closures.of(other_roots()))
    free, size = collection.free_bytes()
    link.send({"type": "inventory", "free_bytes": free, "size_bytes": size, "whole": closures.whole})


def _send_closure(link: HostLink, key: str | None, made_at_s: int, closure: array[int]) -> None:
    step = PIECE_BYTES // closure.itemsize
    for start in range(0, max(len(closure), 1), step):
        piece = closure[start : start + step].tobytes()
        link.send({"type": "rooted", "key": key, "made_at_s": made_at_s}, [piece])


def release(command: Command, link: HostLink) -> None:
    """Remove the roots of some keys."""
    keys = _keys(command)
    _share(link)
    link.send({"type": "released", "keys": remove_roots(keys)})


def trim(command: Command, link: HostLink) -> None:
    """Remove those roots of one key that lead to some paths."""
    key, paths = command.field("key", str), cache.checked(command.body.decode("ascii", "replace"))
    _share(link)
    remove_links(key, paths)
    link.send({"type": "released", "keys": []})


def tell_room(_: Command, link: HostLink) -> None:
    """Say how much is free on the store's volume; that needs no lock."""
    link.send({"type": "begun"})
    free, size = collection.free_bytes()
    link.send({"type": "room", "free_bytes": free, "size_bytes": size})


def tell_ownership(_: Command, link: HostLink) -> None:
    """Say whose the store's two volumes are."""
    link.send({"type": "begun"})
    store_is, var_is = ownership.ownership(ownership.STORE), ownership.ownership(ownership.VAR)
    link.send({"type": "ownership", "store": store_is, "var": var_is})


def collect(_: Command, link: HostLink) -> None:
    """Alone with the store, remove the roots of the keys that the host names then, and delete what no root needs."""
    lock = store.hold_lock(lambda: _waits(link), on_cleaning=False)
    done = collection.collect(lambda: _chosen(link), lock, Progress(link), lambda: _waits(link))
    free = collection.free_bytes()[0]
    header = {"type": "collected", "keys": done.keys, "paths": done.paths, "nar_bytes": done.nar_bytes, "free_bytes": free}
    link.send(header)


def _chosen(link: HostLink) -> dict[str, int | None]:
    """Tell the host which keys have roots, and return those whose roots are to go: nobody else changes any meanwhile."""
    link.send({"type": "begun"})
    lines = [f"{key} {made_at_s}\n" for key, made_at_s in key_times()]
    step = PIECE_BYTES // 128
    for start in range(0, len(lines), step):
        link.send({"type": "keys"}, ["".join(lines[start : start + step]).encode()])
    link.send({"type": "asks"})
    if not select.select([link.fileno()], [], [], ANSWER_SECONDS)[0] or (answer := link.next()) is None:
        raise StoreError("the host does not say which roots are to go")
    if answer.name != "remove":
        raise ProtocolError(f"a collection can't {answer.name}")
    return _keys(answer)


def publish(command: Command, link: HostLink) -> None:
    """Copy a closure to the cache, signed by a key that comes before the closure's paths."""
    size = command.field("secret_bytes", int)
    closure = cache.checked(command.body[size:].decode("ascii", "replace"))
    lock = _share(link)
    seconds = command.field("seconds", int)
    cache.publish(command.field("url", str), command.body[:size], closure, seconds, Progress(link), lock)
    link.send({"type": "copied"})


def fetch(command: Command, link: HostLink) -> None:
    """Copy a closure from the cache, and keep it from collections under its environment's key."""
    closure = cache.checked(command.body.decode("ascii", "replace"))
    url, keys, seconds = command.field("url", str), command.field("public_keys", list), command.field("seconds", int)
    lock = _share(link)
    cache.fetch(url, keys, closure, seconds, Progress(link), lock)
    store.make_roots(command.field("key", str), closure)
    link.send({"type": "copied"})


def probe(command: Command, link: HostLink) -> None:
    """Look whether the cache can be reached, and written to where that is wanted; the store has no part in it."""
    link.send({"type": "begun"})
    path, keys = command.field("path", str), command.field("public_keys", list)
    cache.probe(command.field("url", str), write=command.field("write", bool), path=path, keys=keys)
    link.send({"type": "copied"})


def make_key_pair(command: Command, link: HostLink) -> None:
    """Make a key pair for a cache; the store has no part in it."""
    link.send({"type": "begun"})
    secret, public = cache.key_pair(command.field("name", str))
    link.send({"type": "key-pair", "secret": secret, "public": public})


def _keys(command: Command) -> dict[str, int | None]:
    """Return the keys of a command, a line each in its body: there may be more than a header takes. A time may follow each."""
    lines = [line.split(" ") for line in command.body.decode("ascii", "replace").splitlines()]
    if not all(len(line) == 1 or (len(line) == 2 and line[1].isdecimal()) for line in lines):
        raise ProtocolError("the command names what is neither a key nor a key and a time")
    return {line[0]: int(line[1]) if len(line) == 2 else None for line in lines}


def _share(link: HostLink) -> store.BuildsLock:
    """Share the builds' lock, as a build does, and say when the wait for it is over."""
    lock = store.hold_lock(lambda: _waits(link))
    link.send({"type": "begun"})
    return lock


def _waits(link: HostLink) -> None:
    """Tell the host that others are at work: what a collection may wait for counts from here on."""
    link.send({"type": "waiting"})


JOBS: Final[dict[str, Callable[[Command, HostLink], None]]] = {
    "inventory": take_inventory,
    "room": tell_room,
    "ownership": tell_ownership,
    "release": release,
    "trim": trim,
    "collect": collect,
    "publish": publish,
    "fetch": fetch,
    "probe": probe,
    "key-pair": make_key_pair,
}


def serve() -> int:
    """Take one job and do it, as root of the namespace; return the exit code."""
    link = HostLink()
    try:
        link.send({"type": "ready", "protocol": PROTOCOL_VERSION, "nix_version": nix_version()})
        if (command := link.next()) is not None:
            if (job := JOBS.get(command.name)) is None:
                raise ProtocolError(f"a store init can't {command.name}")
            threading.Thread(target=_end_with_host, args=(link.fileno(),), daemon=True).start()
            job(command, link)
    except CopyRefused as refusal:
        cause = {"cause": refusal.cause, "present_bytes": refusal.present_bytes}
        link.send({"type": "refused", "message": str(refusal)[:2000], **cause})
    except FAULTS as error:
        link.send({"type": "fault", "message": f"{type(error).__name__}: {error}"[:2000]})
        return 1
    return 0


def _end_with_host(stdin: int) -> None:
    """End the container once its stdin ends: process 1 follows, and the kernel kills the rest."""
    end = select.poll()
    end.register(stdin, 0)  # its end alone, not what can be read
    end.poll()
    os._exit(HOST_GONE)


def main() -> None:
    """Enter the namespace, then serve; see ``build_init.main``."""
    if IN_NAMESPACE in os.environ:
        sys.exit(serve())
    ownership.adopt(ownership.STORE, ownership.VAR, cache.MOUNT)
    os.environ[IN_NAMESPACE] = "1"
    sys.exit(namespace.run_in_namespace(lambda: os.execv(sys.executable, sys.orig_argv)))  # noqa: S606 - no shell is wanted
