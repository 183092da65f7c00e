"""Ctrl-C in the first moments of a command is one line, too."""

import subprocess
import sys

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
