"""`cutor streams plan` and `apply` wait for a server that comes up only now, where they are told for how long."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cutor.bus.embedded import EmbeddedServer
from tests.bare_stack import User, one_line
from tests.ports import free_port


@contextmanager
def waiting(user: User, url: str, action: str) -> Iterator[subprocess.Popen[str]]:
    """A command that has said that it waits."""
    command = [sys.executable, "-m", "cutor", "streams", action, "--timeout", "300"]
    environment = user.stack.environment | {"CUTOR_SERVER": url}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            said = process.stderr.readline()
            assert said.startswith("waiting for up to 300 s: cannot reach NATS"), said
            yield process
        finally:
            process.kill()


async def test_a_server_that_comes_up_is_waited_for(user: User, tmp_path: Path) -> None:
    """The first life makes the credential, and is ended: what follows finds nobody."""
    server = await EmbeddedServer.start(tmp_path / "nats")
    url, port = server.url, server.port
    await server.stop()
    with waiting(user, url, "apply") as process:
        server = await EmbeddedServer.start(tmp_path / "nats", port=port)
        try:
            out, err = process.communicate()
            assert process.returncode == 0, err
            assert "create stream EVENTS\n" in out
            assert err == "", "it says once that it waits"
            planned = user.cutor("streams", "plan", "--timeout", "300", CUTOR_SERVER=url)
            assert planned.stdout == "the server has streams and consumers as wanted\n"
            wrong = user.cutor("streams", "plan", "--timeout", "300", CUTOR_SERVER=url.replace("://", "://other"))
            assert "refuses the credential" in one_line(wrong, 3)
        finally:
            await server.stop()


def test_where_none_comes_the_reason_is_said(user: User) -> None:
    url = f"nats://cutor:x@127.0.0.1:{free_port()}"
    one_line(user.cutor("streams", "plan", CUTOR_SERVER=url), 3)
    done = user.cutor("streams", "plan", "--timeout", "1", CUTOR_SERVER=url)
    assert done.returncode == 3
    first, last = done.stderr.splitlines()
    assert first.startswith("waiting for up to 1 s: cannot reach NATS")
    assert last.startswith("cutor: cannot reach NATS")
