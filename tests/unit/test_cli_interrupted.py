"""Ctrl-C in the first moments of a command is one line, too; and every signal that ends a command lets it clean up."""

import signal
import subprocess
import sys

import pytest

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

if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

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


def test_work_that_is_to_outlive_its_terminal_does() -> None:
    with subprocess.Popen([sys.executable, "-c", WORKING, "nohup"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "works\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0, "a hang-up would have ended it by itself"
        assert process.stdout.read() == "cleaned up\ninterrupted\n"
