"""How a point is armed, and what happens when a process passes it. Both sides: the harness, and the processes that it kills.

A directory holds a file for each armed point, named as the point; it says at which pass and what then happens. The process that
comes to that pass takes the file away first, which only one can do: so a point fires once, whatever is started again after it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, NamedTuple

DIRECTORY: Final = "CUTOR_FAULT_POINTS"
"""The variable that names the directory to the processes of the harness's stack; without it nothing is armed."""
FIRED: Final = ".fired"
MOMENT_S: Final = 0.00005
"""How far into foreign code it is gone."""

Deed = Literal["kill", "stop", "fail"]


class Injected(Exception):
    """What a point raises that was armed with ``fail``; the wrapper turns it into an error of the place."""


class Order(NamedTuple):
    """What is to happen at a point: ``deed`` at the ``passing``-th time (from 1), or at every time from then on."""

    deed: Deed = "kill"
    passing: int = 1
    always: bool = False

    def text(self) -> str:
        """Return the contents of the file."""
        return f"{self.deed} {self.passing} {int(self.always)}"

    @classmethod
    def read(cls, text: str) -> Order:
        """Return what a file says."""
        deed, passing, always = text.split()
        assert deed in {"kill", "stop", "fail"}, deed
        return cls(deed, int(passing), bool(int(always)))  # type: ignore[arg-type]


KILL: Final = Order()


class Points:
    """The armed points of one stack, as the harness sees them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def arm(self, point: str, order: Order = KILL) -> None:
        """Arm a point."""
        (self.directory / (point + FIRED)).unlink(missing_ok=True)
        draft = self.directory / f".{point}"
        draft.write_text(order.text())
        draft.rename(self.directory / point)

    def disarm(self, point: str) -> None:
        """Take an order back that was not carried out."""
        (self.directory / point).unlink(missing_ok=True)

    def fired(self, point: str) -> bool:
        """Return whether the order was carried out."""
        return (self.directory / (point + FIRED)).exists()

    def fired_ns(self, point: str) -> int:
        """Return when the order was carried out: the file's name was changed then."""
        return (self.directory / (point + FIRED)).stat().st_ctime_ns

    def armed(self) -> list[str]:
        """Return the points that wait for their pass."""
        return sorted(path.name for path in self.directory.iterdir() if not path.name.startswith(".") and path.suffix != FIRED)


_directory: Path | None = Path(found) if (found := os.environ.get(DIRECTORY)) else None
_counts: dict[tuple[str, int], int] = {}
_lock = threading.Lock()


def armed(point: str) -> bool:
    """Return whether a point waits for a pass of this process: for wrappers that must prepare for it."""
    return _directory is not None and (_directory / point).exists()


def passed(point: str) -> None:
    """Say that this process comes by a point. Where the order is to kill, this does not return; `Injected` where to fail."""
    deed = _due(point)
    if deed is not None:
        _do(deed, point)


def _due(point: str) -> Deed | None:
    """Count a pass, and return what is to happen at it; whoever asks is the only one who is told."""
    if _directory is None:
        return None
    file = _directory / point
    try:
        order, version = Order.read(file.read_text()), file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    with _lock:
        count = _counts[point, version] = _counts.get((point, version), 0) + 1
    return order.deed if count >= order.passing and (order.always or _take(file)) else None


def _take(file: Path) -> bool:
    try:
        file.rename(file.with_name(file.name + FIRED))
    except FileNotFoundError:
        return False
    return True


def _do(deed: Deed, point: str) -> None:
    if deed == "fail":
        raise Injected(f"the harness lets {point} fail")
    os.kill(os.getpid(), signal.SIGKILL if deed == "kill" else signal.SIGSTOP)
    while deed == "kill":
        time.sleep(1)  # the signal is on its way: nothing more of this process may happen


@contextmanager
def around(what: str) -> Iterator[None]:
    """Pass ``what.before``, do the block, pass ``what.after`` if it ended well."""
    passed(f"{what}.before")
    yield
    passed(f"{what}.after")


def soon(point: str) -> None:
    """Pass a point in the midst of foreign code, which has no place to stop at: this thread must enter it next.

    The pass is counted here, and a thread that has nothing else left to do carries the order out: the code may be as short as
    it likes.
    """
    deed = _due(point)
    if deed is None:
        return
    entered = threading.Event()

    def come_by() -> None:
        entered.wait()
        time.sleep(MOMENT_S)
        _do(deed, point)

    threading.Thread(target=come_by, daemon=True).start()
    entered.set()
