"""One attack: a file that is a program and holds, in its first comment lines, what must become of it. Pure.

The header is TOML, each line behind `#:` (shell, Python, Nix) or `//:` (C); `Attack` lists its keys. The program is the run
script's unless `stage` says otherwise: a C file is compiled first, a Nix file is the `shell.nix`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

StageName = Literal["dependencies", "compile", "run"]

LEADERS: Final = {".sh": "#:", ".py": "#:", ".nix": "#:", ".c": "//:"}
"""The file name endings of attacks, and what stands before each line of a header."""

SHELL: Final = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 pkgs.gcc ]; }\n"
"""The environment of every attack that brings none: one for all, so that it is built once."""


class InvalidAttack(ValueError):
    """The header cannot be read or says something that cannot be; the message names the file."""


class Kill(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A process of the stack, or the submission's container, that is killed with SIGKILL when an event of it is seen."""

    process: Literal["builder", "runner", "projector", "server", "container"]
    at: str


class Attack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a header says. Every list of outcomes holds those that are allowed; with one, it must be that.

    But `runs` holds one entry for each test case, in their order: an outcome, or a list of those that are allowed.

    What it sends: `stage` (where the program stands), `then` (the run script where the program is not that), `before` (a
    compile script before a program that is the run script), `files`, `environment_files`, `cache`, `limits`, `test_cases`,
    `compare` and `stop_on_failure` as in a request; `input_bytes` gives the first test case a generated input of that size.

    How: `submissions` times one after the other, or at once with `beside`; `duplicates` times at once under one id;
    `unchecked` also appends past the client what the client refused; `cancel` at an event (``leased runner``) or `kill` at
    one, `after_ms` later; `crowd`, so many normal submissions at once with it.

    What must come of it: `outcome` of the submission, `dependencies` and `compile` of the stages that ran, `run` of every test
    case or, where they differ, `runs`; `exit_code` and `signal` of every run, `has` and `lacks` of texts in their standard
    output (`lacks`: in any output of any stage), `says` in an output or message of any stage, `fresh` where the
    lines with that differ from submission to submission, `echo` of the input, `printed_at_least` bytes, `within_ms` for each
    run's wall time; `refused`, a part of the line with which the client refuses it. What may end with OK must show by one of
    them that it was tried.
    """

    what: str
    stage: StageName = "run"
    then: str = ""
    before: str = ""
    files: dict[str, str] = {}
    environment_files: tuple[str, ...] = ()
    cache: bool = True
    limits: dict[str, dict[str, int]] = {}
    test_cases: tuple[dict[str, Any], ...] = ({},)
    stop_on_failure: bool = False
    compare: str = "trailing_whitespace"
    input_bytes: int = 0
    submissions: int = 1
    beside: bool = False
    duplicates: int = 0
    unchecked: bool = False
    cancel: str | None = None
    after_ms: int = 0
    kill: Kill | None = None
    crowd: int = 0
    outcome: tuple[str, ...] = ("OK",)
    dependencies: tuple[str, ...] = ("OK",)
    compile: tuple[str, ...] = ("OK",)
    run: tuple[str, ...] = ("OK",)
    runs: tuple[str | tuple[str, ...], ...] = ()
    exit_code: int | None = None
    signal: int | None = None
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    fresh: bool = False
    echo: bool = False
    printed_at_least: int = 0
    within_ms: int | None = None
    refused: str | None = None
    name: str = ""
    program: str = ""
    suffix: str = ".sh"

    @property
    def cases(self) -> tuple[tuple[str, ...], ...]:
        """The allowed outcomes of each test case, in their order."""
        if not self.runs:
            return (self.run,) * len(self.test_cases)
        return tuple((one,) if isinstance(one, str) else one for one in self.runs)

    @property
    def fells(self) -> Literal["server", "role"] | None:
        """What that others need, too, it kills."""
        if self.kill is None or self.kill.process == "container":
            return None
        return "server" if self.kill.process == "server" else "role"


DECIDING: Final[dict[str, StageName]] = {
    "OK": "run",
    "WRONG_ANSWER": "run",
    "RUN_ERROR": "run",
    "COMPILE_ERROR": "compile",
    "DEPENDENCY_ERROR": "dependencies",
}
"""The stage that an outcome of a submission comes from."""

NOT_HEADER: Final = frozenset({"name", "program", "suffix"})


def parse_attack(name: str, text: str) -> Attack:
    """Return the attack in a file's text; `name` is the path beneath the attacks' directory. Raises `InvalidAttack`."""
    suffix = name[name.rfind(".") :]
    header = header_of(text, LEADERS[suffix])
    try:
        document = tomllib.loads(header)
        if NOT_HEADER & document.keys():
            raise InvalidAttack(f"{name}: {', '.join(sorted(NOT_HEADER & document.keys()))} cannot stand in a header")
        if suffix == ".nix":
            document = {"stage": "dependencies", "cache": False} | document
        attack = msgspec.convert(document | {"name": name, "program": text, "suffix": suffix}, Attack)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidAttack(f"{name}: {error}") from error
    if attack.runs and "run" in document:
        raise InvalidAttack(f"{name}: run and runs say the same; one of them is enough")
    if len(attack.cases) != len(attack.test_cases):
        raise InvalidAttack(f"{name}: runs has {len(attack.runs)} entries for {len(attack.test_cases)} test cases")
    return attack


def header_of(text: str, leader: str) -> str:
    """Return the TOML of the header: the lines from the first on that begin with the leader."""
    lines = text.splitlines()
    if lines and lines[0].startswith("#!"):
        del lines[0]
    header = []
    for line in lines:
        if not line.startswith(leader):
            break
        header.append(line.removeprefix(leader).removeprefix(" "))
    return "\n".join(header)


def generated(size: int) -> str:
    """Return a text of `size` bytes that holds no long repetition of one line."""
    line = "".join(chr(33 + (7 * n) % 94) for n in range(95)) + "\n"
    return (line * (size // len(line) + 1))[:size]


TOKEN: Final = "@TOKEN@"
"""Stands in an attack for what makes each submission new, so that what it builds was not built before."""


def request_of(attack: Attack, token: str) -> dict[str, Any]:
    """Return the request that hands the attack in, as the client takes it."""
    cases: list[dict[str, Any]] = [dict(case) for case in attack.test_cases]
    if attack.input_bytes:
        cases[0]["input"] = generated(attack.input_bytes)
    request: dict[str, Any] = {
        "files": [{"name": name, "content": text.replace(TOKEN, token)} for name, text in files_of(attack).items()],
        "test_cases": cases,
        "cache": attack.cache,
        "limits": attack.limits,
        "stop_on_failure": attack.stop_on_failure,
        "compare": attack.compare,
        "labels": {"attack": attack.name},
    }
    if attack.environment_files:
        request["environment_files"] = attack.environment_files
    return request


def files_of(attack: Attack) -> dict[str, str]:
    """Return the files of the request; those that the header gives come last and replace."""
    return {"shell.nix": SHELL} | dict(_program_files(attack)) | attack.files


def _program_files(attack: Attack) -> Mapping[str, str]:
    scripts = {"cutor-compile.sh": attack.before} if attack.before else {}
    if attack.stage == "dependencies":
        return scripts | {"shell.nix": attack.program, "cutor-run.sh": attack.then}
    start = attack.program if attack.suffix == ".sh" else 'exec python3 attack.py "$@"\n'
    source = {} if attack.suffix == ".sh" else {f"attack{attack.suffix}": attack.program}
    if attack.suffix == ".c":
        scripts = {"cutor-compile.sh": f"{attack.before}\nexec gcc -O1 -Wall -pthread -o attack attack.c\n"}
        start = 'exec ./attack "$@"\n'
    if attack.stage == "compile":
        return source | {"cutor-compile.sh": start, "cutor-run.sh": attack.then}
    return source | scripts | {"cutor-run.sh": start}
