"""A jail that stands before anybody knows what will run in it, and is followed by another one whenever it has served.

nsjail is loaded once (10 ms) and builds jail after jail (``--mode=r``), each new in every namespace and mount. In each one
jail-init waits for its job, so a stage begins with one message. nsjail is stopped (SIGSTOP) from the moment at which a jail
stands until the next one is wanted: nothing of cutor's runs beside a program but the init and jail-init, and nothing at all
in a container that waits. What can't be relied on any more is thrown away: then a stage builds a jail for itself alone.
"""

from __future__ import annotations

from cutor.jail.inside.jail_process import JailProcess
from cutor.jail.inside.lean import Final, Sequence

BUILD_S: Final = 20
"""How long nsjail may take to build a jail before it is given up."""
TASKS: Final = 2
"""nsjail and jail-init, which stays a process until nsjail reaps it, after it is let go on."""


class KeptJail:
    """`prepare` while nobody waits, `lend` for a stage, `take_back` after it; `drop` at any time."""

    def __init__(self, command: Sequence[str]) -> None:
        """``command`` is that of `nsjail_args.nsjail_command` with ``again``."""
        self._command = command
        self._process: JailProcess | None = None

    @property
    def tasks(self) -> int:
        """How many processes of the container are this jail's."""
        return 0 if self._process is None else TASKS

    @property
    def stands(self) -> bool:
        """Whether a jail waits for its job, as far as is known."""
        return self._process is not None and self._process.jail_pidfd is not None and not self._process.served

    def start(self) -> None:
        """Have nsjail begin, without waiting for it. Where it can't be started there is no jail."""
        try:
            self._process = JailProcess(self._command, None)
        except OSError:
            self._process = None

    def prepare(self) -> None:
        """Wait until a jail stands: the one that was begun, or the next one, or one by a new nsjail."""
        if self.stands:
            return
        if self._process is None:
            self.start()
        elif self._process.served:
            self._process.build_again()
        if self._process is None:
            return
        if self._stood(self._process):
            self._process.pause()
        else:
            self.drop()

    @staticmethod
    def _stood(process: JailProcess) -> bool:
        try:
            return process.stands(BUILD_S)
        except (OSError, ValueError):
            return False

    def lend(self) -> JailProcess | None:
        """Return the jail that waits; None where none does: the OOM killer may have taken it for another stage's program."""
        if self._process is None:
            return None
        if self.stands and self._process.lives():
            return self._process
        self.drop()
        return None

    def give_up_standing(self) -> None:
        """Let go of a jail that stands, since what it was built on goes: the next one takes its place."""
        if self._process is not None and self.stands:
            self._process.kill()
            self._process.served = True

    def take_back(self) -> None:
        """Throw nsjail away where its jail took no job, or did not end: the next one could meet what was meant for it."""
        if self._process is not None and not self._process.served:
            self.drop()

    def drop(self) -> None:
        """End nsjail and its jail."""
        if self._process is not None:
            self._process.close()
            self._process = None
