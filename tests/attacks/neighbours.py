"""Normal submissions that run beside attacks, and the outcomes that they must get whatever happens beside them. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cutor.model.result import Result
from tests.attacks.attack import SHELL
from tests.attacks.judgement import sequence


class Neighbour(NamedTuple):
    """A normal submission, and how it must end: its outcome, and those of its stages."""

    name: str
    files: dict[str, str]
    outcome: str
    stages: tuple[str, ...]
    cases: tuple[dict[str, Any], ...] = ({},)
    run_limits: dict[str, int] = {}  # noqa: RUF012 - nobody changes it

    @property
    def ends(self) -> str:
        """How it ends, in the words of the attacks' table."""
        return self.outcome if self.outcome == "OK" else sequence(self.stages[-len(self.cases) :])

    def request(self) -> dict[str, Any]:
        """Return the request that hands it in."""
        return {
            "files": [{"name": name, "content": text} for name, text in ({"shell.nix": SHELL} | self.files).items()],
            "test_cases": self.cases,
            "limits": {"run": self.run_limits},
            "stop_on_failure": False,
            "labels": {"neighbour": self.name},
        }

    def changed(self, result: Result) -> str | None:
        """Return how an outcome differs from what it must be, or None."""
        stages = tuple(stage.outcome for stage in (result.dependencies, result.compile, *result.run) if stage is not None)
        if (result.outcome, stages) == (self.outcome, self.stages):
            return None
        return f"{self.name}: {result.outcome} ({', '.join(stages)}); must be {self.outcome} ({', '.join(self.stages)})"


C_SUM: Final = (
    '#include <stdio.h>\nint main(void) { long a, s = 0; while (scanf("%ld", &a) == 1) s += a; printf("%ld\\n", s); }\n'
)
MIB: Final = 1 << 20

NEIGHBOURS: Final = (
    Neighbour(
        "python that adds",
        {"cutor-run.sh": "exec python3 -c 'import sys; print(sum(map(int, sys.stdin)))'"},
        "OK",
        ("OK", "OK", "OK"),
        ({"input": "1\n2\n", "expected_output": "3\n"}, {"input": "40\n2\n", "expected_output": "42\n"}),
    ),
    Neighbour(
        "C that adds",
        {"sum.c": C_SUM, "cutor-compile.sh": "exec gcc -O2 -o sum sum.c", "cutor-run.sh": "exec ./sum"},
        "WRONG_ANSWER",
        ("OK", "OK", "OK", "WA"),
        ({"input": "1\n2\n", "expected_output": "3\n"}, {"input": "1\n", "expected_output": "2\n"}),
    ),
    Neighbour(
        "one that uses its memory",
        {"cutor-run.sh": "exec python3 -c 'len(bytearray(64 << 20))'"},
        "OK",
        ("OK", "OK"),
        run_limits={"memory_bytes": 128 * MIB},
    ),
    Neighbour(
        "one that needs more memory",
        {"cutor-run.sh": "exec python3 -c 'len(bytearray(256 << 20))'"},
        "RUN_ERROR",
        ("OK", "MLE"),
        run_limits={"memory_bytes": 64 * MIB},
    ),
    Neighbour(
        "one that needs more time",
        {"cutor-run.sh": "while :; do :; done"},
        "RUN_ERROR",
        ("OK", "TLE_CPU"),
        run_limits={"cpu_time_ms": 300},
    ),
    Neighbour("one that fails", {"cutor-run.sh": "exit 3"}, "RUN_ERROR", ("OK", "RE")),
)
