"""Ctrl-C in the first moments of a command is one line, too; and every signal that ends a command lets it clean up."""

import asyncio
import json
import signal
import subprocess
import sys

import click
import pytest

from cutor.cli import interruption
from cutor.cli.main import cli, run
from cutor.cli.options import json_option
from cutor.errors import INTERRUPTED

PROGRAM = """
import sys

class Interrupt:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from cutor.cli import main
"""


def test_an_interruption_while_modules_are_loaded_is_one_line() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "cutor: interrupted\n")


WORKING = """
import asyncio, signal, sys
from cutor.cli import interruption

# whoever runs the tests may have been told to ignore it, and so would this
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)

async def work():
    try:
        print("works", flush=True)
        await asyncio.Event().wait()
    finally:
        print("cleaned up", flush=True)

try:
    interruption.run(work())
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_work_clean_up(sent: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WORKING], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(sent)
        assert process.stdout.read() == "cleaned up\ninterrupted\n"


@pytest.mark.parametrize(("leaves", "line"), [("", "interrupted"), ("the old file stays", "interrupted: the old file stays")])
def test_an_interruption_says_how_things_stand(
    leaves: str, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.Event().wait()

    @click.command()
    @json_option
    def command() -> None:
        interruption.run(work(), leaves)

    monkeypatch.setattr(cli, "get_command", lambda *_: command)
    assert run(["any"]) == INTERRUPTED
    assert capsys.readouterr() == ("", f"\ncutor: {line}\n")
    assert run(["any", "--json"]) == INTERRUPTED
    assert json.loads(capsys.readouterr().out) == {"error": {"message": line, "exit_code": INTERRUPTED}}


def test_work_that_is_to_outlive_its_terminal_does() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKING, "nohup"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, "a hang-up would have ended it by itself"
        assert process.stdout.read() == "cleaned up\ninterrupted\n"
