"""The tiny submissions that are handed in while something is killed, and how each must end whatever is. Pure."""

from __future__ import annotations

import secrets
from typing import Any, Final, Literal, NamedTuple

from tests.fault.invariants import Expected

SHELL: Final = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { }"
BIG_BYTES: Final = 100_000
"""More than an event holds: it goes to BODIES."""
LONG: Final = "sleep 120"
"""What runs until it is cancelled or killed."""
LONG_WALL_MS: Final = 120_000
"""The most that the policy allows: what runs until it is cancelled does so for as long as may be."""
WALL_MS: Final = 60_000
"""Wide enough for a busy machine: what is to run into its wall time has less."""

TWINS: Final = 3

Until = Literal["nothing", "submitted", "builder", "runner"]


class Kind(NamedTuple):
    """A kind of submission: its files beside ``shell.nix``, and how it ends.

    ``cancel`` says when it is cancelled as it is handed in: once it was submitted, or a role has leased it. ``environment`` is
    ``shared``, or ``own``: one that is built for it alone; ``lost`` is one that the log knows and the store does not hold;
    ``twin`` is one that `TWINS` submissions need at one time, and nobody had before; ``fetched`` is one that the log knows and
    the binary cache holds, and the store does not any more.
    """

    name: str
    files: dict[str, str]
    expected: Expected = Expected()
    cases: tuple[dict[str, Any], ...] = ({},)
    run_limits: dict[str, int] = {}  # noqa: RUF012 - nobody changes it
    environment: Literal["shared", "own", "lost", "twin", "fetched"] = "shared"
    shell: str = SHELL
    cache: bool = True
    cancel: Until = "nothing"
    unchecked: bool = False
    stop_on_failure: bool = True

    def request(self, unique: str, shell: str | None = None) -> dict[str, Any]:
        """Return a request of this kind; ``unique`` makes its contents its own, ``shell`` stands for its ``shell.nix``."""
        text = shell or (self.shell if self.environment == "shared" else self.shell_of(unique))
        files = {"shell.nix": text.replace("UNIQUE", unique)} | {
            name: content.replace("UNIQUE", unique) for name, content in self.files.items()
        }
        return {
            "files": [{"name": name, "content": content} for name, content in files.items()],
            "test_cases": self.cases,
            "limits": {"run": {"wall_time_ms": WALL_MS, "cpu_time_ms": 20_000} | self.run_limits},
            "stop_on_failure": self.stop_on_failure,
            "cache": self.cache,
            "labels": {"fault": self.name},
        }

    def shell_of(self, unique: str) -> str:
        """Return a ``shell.nix`` whose environment nobody else needs."""
        return f"{self.shell}\n# {unique}\n"


CAT: Final = {"input": "1\n", "expected_output": "1\n"}
KINDS: Final = {
    kind.name: kind
    for kind in (
        Kind(
            "compiles",
            {"cutor-compile.sh": "echo 'cat; echo compiled' > it", "cutor-run.sh": "source ./it"},
            Expected(("OK",), ("OK", "OK"), compiled="OK"),
            cases=({"input": "1\n", "expected_output": "1\ncompiled\n"}, {"input": "", "expected_output": "compiled\n"}),
        ),
        Kind("plain", {"cutor-run.sh": "exec cat"}, Expected(("OK",), ("OK",)), (CAT,)),
        Kind(
            "many",
            {"cutor-run.sh": "sleep 0.15; exec cat"},
            Expected(("OK",), ("OK",) * 6),
            (CAT,) * 6,
        ),
        Kind("wrong", {"cutor-run.sh": "echo 2"}, Expected(("WRONG_ANSWER",), ("WA",)), (CAT, CAT)),
        Kind(
            "fails",
            {"cutor-run.sh": "exit 3"},
            Expected(("RUN_ERROR",), ("RE", "RE")),
            ({}, {}),
            stop_on_failure=False,
        ),
        Kind(
            "too-long",
            {"cutor-run.sh": LONG},
            Expected(("RUN_ERROR",), ("TLE_WALL",)),
            run_limits={"wall_time_ms": 300},
        ),
        Kind(
            "no-compile",
            {"cutor-compile.sh": "echo no >&2; exit 1", "cutor-run.sh": "true"},
            Expected(("COMPILE_ERROR",), (), compiled="RE"),
        ),
        Kind(
            "big",
            {"cutor-run.sh": f"printf '%{BIG_BYTES}s' UNIQUE"},
            Expected(("OK",), ("OK",)),
        ),
        Kind("big-input", {"cutor-run.sh": "exec cat", "large": "UNIQUE " * 10_000}, Expected(("OK",), ("OK",)), (CAT,)),
        Kind("poison-builder", {"cutor-run.sh": "exec cat"}, Expected(("OK",), ("OK",)), (CAT,)),
        Kind("poison-runner", {"cutor-run.sh": "exec cat"}, Expected(("OK",), ("OK",)), (CAT,)),
        Kind("bug-builder", {"cutor-run.sh": "exec cat"}, Expected(("PARKED",)), (CAT,)),
        Kind("bug-runner", {"cutor-run.sh": "exec cat"}, Expected(("PARKED",)), (CAT,)),
        Kind("builds", {"cutor-run.sh": "exec cat"}, Expected(("OK",), ("OK",)), (CAT,), environment="own"),
        Kind(
            "twin",
            {"cutor-run.sh": "exec cat"},
            Expected(("OK",), ("OK",)),
            (CAT,),
            environment="twin",
            shell="{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { shellHook = ''sleep 1''; }",
        ),
        Kind(
            "private",
            {"cutor-run.sh": "exec cat"},
            Expected(("OK",), ("OK",)),
            (CAT,),
            environment="own",
            cache=False,
        ),
        Kind(
            "no-environment",
            {"cutor-run.sh": "true"},
            Expected(("DEPENDENCY_ERROR",)),
            environment="own",
            shell="throw ''no environment''",
        ),
        Kind(
            "no-environment-big",
            {"cutor-run.sh": "true"},
            Expected(("DEPENDENCY_ERROR",)),
            environment="own",
            shell='throw (builtins.concatStringsSep "\n" (builtins.genList (n: "UNIQUE ${toString n} 0123456789") 4000))',
        ),
        Kind("refused", {"cutor-run.sh": "true", "a" * 300: ""}, Expected(("REJECTED",)), unchecked=True),
        Kind("cancelled-run", {"cutor-run.sh": LONG}, Expected(("CANCELLED",)), cancel="runner"),
        Kind(
            "cancelled-build",
            {"cutor-run.sh": LONG},
            Expected(("CANCELLED",)),
            environment="own",
            shell=f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ shellHook = ''{LONG}''; }}",
            cancel="builder",
        ),
        Kind("until-cancelled", {"cutor-run.sh": LONG}, Expected(("CANCELLED",)), run_limits={"wall_time_ms": LONG_WALL_MS}),
        Kind("cancelled-queued", {"cutor-run.sh": LONG}, Expected(("CANCELLED",)), cancel="submitted"),
        Kind("fetched", {"cutor-run.sh": "exec cat"}, Expected(("OK",), ("OK",)), (CAT,), environment="fetched"),
        Kind("lost", {"cutor-run.sh": "exec cat"}, Expected(("OK",), ("OK",)), (CAT,), environment="lost"),
        Kind("lasts", {"cutor-run.sh": "sleep 2; exec cat"}, Expected(("OK",), ("OK",)), (CAT,)),
        Kind(
            "lasts-building",
            {"cutor-run.sh": "exec cat"},
            Expected(("OK",), ("OK",)),
            (CAT,),
            environment="own",
            shell="{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { shellHook = ''sleep 2''; }",
        ),
    )
}
BASIC: Final = ("compiles", "wrong", "fails", "no-compile", "plain", "many")
"""What every round hands in, whatever it kills."""


def fresh_id(kind: str) -> str:
    """Return an id for a submission of a kind."""
    return f"{kind}-{secrets.token_hex(5)}"
