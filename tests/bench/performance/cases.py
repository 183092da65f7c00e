"""What is submitted: small programs whose own work is as good as nothing, so that what is measured is all else."""

from __future__ import annotations

from typing import Final, NamedTuple

from cutor.model.request import COMPILE_SCRIPT, RUN_SCRIPT, SHELL_NIX, File, Request, TestCase
from tests.bench.performance import figures

SHELL: Final = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 pkgs.gcc ]; }\n"
"""The environment of all cases: one, so that it is built once."""
HELLO_C: Final = '#include <stdio.h>\n\nint main(void) {\n    puts("hello");\n    return 0;\n}\n'
SQUARE_C: Final = """\
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    int number = argc > 1 ? atoi(argv[1]) : 0;
    printf("%d\\n", number * number);
    return 0;
}
"""
TESTS: Final = 20


class Case(NamedTuple):
    """A program: its files beside shell.nix, and for each test case its arguments and all that it has to print."""

    name: str
    files: dict[str, str]
    tests: tuple[tuple[tuple[str, ...], str], ...]
    shell: str = SHELL

    @property
    def compiles(self) -> bool:
        """Whether there is a compile stage."""
        return COMPILE_SCRIPT in self.files

    def request(self) -> Request:
        """Return the request of a producer; equal ones are told apart by their ids."""
        files = {SHELL_NIX: self.shell} | self.files
        tests = tuple(TestCase(args=args, expected_output=printed) for args, printed in self.tests)
        return Request(files=tuple(File(name=name, content=text) for name, text in files.items()), test_cases=tests)


PYTHON: Final = Case(figures.PYTHON, {RUN_SCRIPT: "exec python3 main.py\n", "main.py": 'print("hello")\n'}, (((), "hello\n"),))
C: Final = Case(
    figures.C, {COMPILE_SCRIPT: "exec gcc -o main main.c\n", RUN_SCRIPT: "exec ./main\n", "main.c": HELLO_C}, (((), "hello\n"),)
)
MANY: Final = Case(
    figures.TESTS,
    {COMPILE_SCRIPT: "exec gcc -o main main.c\n", RUN_SCRIPT: 'exec ./main "$@"\n', "main.c": SQUARE_C},
    tuple(((str(number),), f"{number * number}\n") for number in range(TESTS)),
)
