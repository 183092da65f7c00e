"""Roles tell of themselves, and `cutor top` shows it: on a terminal, as text, as a document."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.topology import apply, default_text
from cutor.bus.topology_file import parse
from cutor.config import Config
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.metrics.heard import Heard
from cutor.metrics.statistics import EVERYBODY
from cutor.model.limits import Policy
from cutor.process.context import RoleContext
from cutor.roles.loop import serve
from tests.bare_stack import User, one_line
from tests.scripted_roles import Scripted, Waiting, build, request

PATIENCE_S = 180.0


async def test_a_role_tells_of_its_work_and_its_end(tmp_path: Path) -> None:
    async with await EmbeddedServer.start(tmp_path / "nats") as server, Bus.connect(server.url, name="test") as bus:
        await apply(bus, parse(default_text(), ["default"]))
        journal, stop, work = Journal(bus), asyncio.Event(), Waiting(build)
        await publish_policy(journal.bus, Policy())
        heard = Heard(0)

        async with asyncio.timeout(PATIENCE_S), bus.subscribe(EVERYBODY) as notices:

            async def until(holds: Callable[[Any], bool]) -> None:
                async for notice in notices:
                    heard.take(notice.subject, notice.body, time.monotonic())
                    if any(holds(worker.told) for worker in heard.workers(time.monotonic())):
                        return

            context = RoleContext(server.url, "i", "w.1", Config(), lambda: None, stop)
            role = asyncio.create_task(serve(context, Scripted("builder", work), 2))
            await journal.submit(request("a"))
            await until(lambda told: (told.slots, told.busy, told.leases, told.builds) == (2, 1, 1, 0))
            work.go_on.set()
            await until(lambda told: (told.busy, told.leases, told.builds) == (0, 1, 1))
            stop.set()
            await role
        assert heard.unreadable == 0
        assert [(worker.told.role, worker.told.worker) for worker in heard.workers(time.monotonic())] == [("builder", "w.1")]


def test_one_picture_and_one_document_of_a_stack_without_roles(bare: User) -> None:
    done = bare.cutor("top", "--once")
    assert done.returncode == 0, done.stderr
    assert "no roles heard in the last" in done.stdout
    assert "\x1b" not in done.stdout
    assert "none ended in the last 3 s" in done.stdout
    document = json.loads(bare.cutor("top", "--json", "--interval", "4.2").stdout)
    assert 4.2 <= document["window_s"] < 60
    assert (document["workers"], document["connected"]) == ([], True)
    assert document["queues"][0]["role"] == "builder"
    assert document["queues"][0]["pending"] is not None


def test_without_a_terminal_it_says_what_to_do(bare: User) -> None:
    assert "--once prints one picture" in one_line(bare.cutor("top"), 2)


def test_without_a_stack_it_is_one_line(user: User) -> None:
    one_line(user.cutor("top", "--once"), 3)


class Terminal:
    """A terminal of a test, and the command that runs in it."""

    def __init__(self, user: User, rows: int, columns: int) -> None:
        self.master, self._slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._slave)
        environment = user.stack.environment | {"TERM": "xterm-256color"}
        for name in ("COLUMNS", "LINES"):  # they count for more than the terminal; a worker of pytest-xdist has them
            environment.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cutor", "top", "--interval", "0.2"],
            stdin=self._slave, stdout=self._slave, stderr=self._slave, env=environment, start_new_session=True,
        )  # fmt: skip
        self.text = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, said: str) -> None:
        """Read what is shown until it holds a text, from where the last reading ended."""
        deadline, seen = time.monotonic() + PATIENCE_S, ""
        while said not in seen:
            assert time.monotonic() < deadline, seen
            if select.select([self.master], [], [], 0.2)[0]:
                seen += os.read(self.master, 65536).decode(errors="replace")
        self.text += seen

    def end(self) -> int:
        """Wait for the end of the command, reading what it writes; the terminal must be as it was."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline
            if select.select([self.master], [], [], 0.1)[0]:
                self.text += os.read(self.master, 65536).decode(errors="replace")
        while select.select([self.master], [], [], 0)[0]:
            self.text += os.read(self.master, 65536).decode(errors="replace")
        assert termios.tcgetattr(self._slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@contextmanager
def shown(user: User, rows: int = 24, columns: int = 80) -> Iterator[Terminal]:
    terminal = Terminal(user, rows, columns)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize("way", ["q", "SIGINT", "SIGTERM"])
def test_it_ends_as_it_is_told_and_leaves_the_terminal_as_it_was(bare: User, way: str) -> None:
    with shown(bare) as terminal:
        terminal.until("q or Ctrl-C ends")
        if way == "q":
            os.write(terminal.master, b"q")
        else:
            terminal.process.send_signal(getattr(signal, way))
        assert terminal.end() == 0
        assert terminal.text.endswith("\x1b[?25h\x1b[?1049l"), "the cursor is there again, and what was on the screen before"
        assert "Traceback" not in terminal.text


def test_another_size_is_taken_up_at_once(bare: User) -> None:
    with shown(bare) as terminal:
        terminal.until("─" * 80)
        terminal.resize(30, 100)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.until("─" * 100)
        os.write(terminal.master, b"q")
        assert terminal.end() == 0
