"""A builder's session with a build container that says anything: an environment that holds together, a failure, or a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final, cast

import msgspec
import pytest
from hypothesis import HealthCheck, event, given, settings

from cutor.containers.errors import SessionFault
from cutor.containers.host_config import ContainerSpec
from cutor.jail.inside.protocol import PROTOCOL_VERSION
from cutor.model.environments import pack_variables
from cutor.model.limits import DEFAULT_LIMITS, MIB, Limit
from cutor.model.outcome import StageReport, classify
from cutor.nix import session as session_module
from cutor.nix.inside.derivation import is_store_path
from cutor.nix.inside.variables import MAX_TOTAL_BYTES
from cutor.nix.messages import MAX_MESSAGE_CHARACTERS
from cutor.nix.report import MAX_CLOSURE_TEXT_BYTES, Built, Failed
from cutor.nix.session import GRACE_S, OWN_MEMORY_BYTES, BuildSession
from cutor.nix.settings import NixSettings
from tests.property.hostile import Frame, Header, HostileChild, sent, told

LIMIT: Final[Limit] = msgspec.structs.replace(
    DEFAULT_LIMITS.dependencies.default, wall_time_ms=1, stdout_bytes=3, stderr_bytes=20
)
SILENCE_S: Final = 0.05
SETTINGS: Final = NixSettings(start_timeout_ms=50, collection_timeout_ms=50)
MOST_AT_ONCE_BYTES: Final = LIMIT.stdout_bytes + LIMIT.stderr_bytes + MAX_CLOSURE_TEXT_BYTES + 2 * MIB

BASH: Final = "/nix/store/pibc6zqd6iq2q3jh5z8kkkdggi8ix3fb-bash"
PYTHON: Final = "/nix/store/k43f9q6jabdy2286gi9qaad00gf097d7-python3"
DERIVATION: Final = "/nix/store/r895xlcxkq9y2hyh33ri5bwn0qdl123f-nix-shell.drv"
CLOSURE: Final = f"{BASH}\n{PYTHON}\n".encode()
VARIABLES: Final = ((b"A", b"1\n2"), (b"PATH", b"/bin\xff"))
OUTPUTS: Final = b"outerror: x\n"

REPORT: Final[Header] = {
    "exit_code": 0,
    "signal_number": None,
    "killed_by": None,
    "oom_kills": 0,
    "cpu_time_ms": 12,
    "wall_time_ms": 34,
    "memory_peak_bytes": None,
    "stdout_bytes": 3,
    "stdout_bytes_total": 4,
    "stderr_bytes": 9,
    "stderr_bytes_total": 9,
    "fault": None,
}
READY: Final[Frame] = ({"type": "ready", "protocol": PROTOCOL_VERSION, "nix_version": "nix (Nix) 2.34.8"}, b"")
WAITING: Final[Frame] = ({"type": "waiting"}, b"")
MENDING: Final[Frame] = ({"type": "mending", "missing": f"{BASH}\x1b[2J", "count": 3}, b"")
PROGRESS: Final[Frame] = ({"type": "progress"}, b"building\x1b[2J\n")


def built(body: bytes = OUTPUTS + CLOSURE + pack_variables(VARIABLES), **changes: object) -> Frame:
    header = {
        "type": "built",
        "report": REPORT,
        "derivation": DERIVATION,
        "closure_text_bytes": len(CLOSURE),
        "closure_bytes": 1000,
        "programs": {"bash": f"{BASH}/bin/bash", "sh": f"{BASH}/bin/sh", "env": f"{PYTHON}/bin/env"},
    }
    return header | changes, body


def failed(message: str | None = None, **changes: object) -> Frame:
    return {
        "type": "failed",
        "report": REPORT | {"exit_code": 1} | changes,
        "message": message,
        "tasks_refused": False,
    }, OUTPUTS


HONEST: Final[list[Frame | None]] = [WAITING, READY, None, PROGRESS, MENDING, PROGRESS, built()]
"""What an init sends; null stands for its waiting for a job."""
FAILING: Final[list[Frame | None]] = [READY, None, PROGRESS, failed()]
OTHERS: Final[list[Frame]] = [
    *(WAITING, READY, MENDING, PROGRESS, built(), failed()),
    ({"type": "ready", "protocol": PROTOCOL_VERSION, "nix_version": "nix (Nix) 2.34.4\n\x1b"}, b""),
    ({"type": "ready", "protocol": 99, "nix_version": "2.34.8"}, b""),
    ({"type": "fault", "message": "no room\nat all\x1b[2J"}, b""),
    ({"type": "progress"}, bytes(1 << 16)),
    failed("the init knows\x1b[2J\nbetter"),
    failed(exit_code=0),
    failed(exit_code=None),
    failed(fault="nsjail is broken\n"),
    failed(exit_code=None, killed_by="memory"),
    failed(exit_code=None, signal_number=9, killed_by="wall_time"),
    built(report=REPORT | {"exit_code": 1}),
    built(OUTPUTS + CLOSURE + b"B=1\0A=1\0"),
    built(OUTPUTS + CLOSURE + b"A=1\0A=1\0"),
    built(OUTPUTS + CLOSURE + b"=\0"),
    built(OUTPUTS + b"/etc/passwd\n" + CLOSURE[12:] + pack_variables(VARIABLES)),
    built(derivation="/nix/store/../../etc/passwd.drv"),
    built(programs={"bash": f"{BASH}/../x", "sh": "/bin/sh", "env": f"{PYTHON}-x/bin/env"}),
    built(closure_text_bytes=0),
    built(closure_text_bytes=MAX_CLOSURE_TEXT_BYTES),
]


@pytest.fixture(scope="module", autouse=True)
def _short_waits() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session_module, "GRACE_S", SILENCE_S)
        yield


class OneContainer:
    """What a session sees of the engine: it starts one container, which is there already."""

    def __init__(self, child: HostileChild) -> None:
        self.child = child
        self.memory_bytes = 0

    async def start(self, spec: ContainerSpec) -> HostileChild:
        self.memory_bytes = spec.body["HostConfig"]["Memory"]
        return self.child


async def build(child: HostileChild) -> tuple[Built | Failed | None, Exception | None, list[bytes]]:
    """Build once; return what came of it, and the pieces of progress."""
    progress: list[bytes] = []
    engine = OneContainer(child)
    try:
        async with BuildSession(cast("Any", engine), SETTINGS, instance="i", submission="s") as session:
            return await session.build("key", {"shell.nix": b"{}"}, LIMIT, progress.append), None, progress
    except SessionFault as error:
        return None, error, progress
    finally:
        assert engine.memory_bytes == LIMIT.memory_bytes + OWN_MEMORY_BYTES


def check_report(report: StageReport) -> None:
    assert len(report.stdout) == min(report.stdout_bytes_total, LIMIT.stdout_bytes)
    assert len(report.stderr) == min(report.stderr_bytes_total, LIMIT.stderr_bytes)
    assert report.exit_code is None or report.signal_number is None
    for number in (report.cpu_time_ms, report.wall_time_ms, report.memory_peak_bytes, report.oom_kills):
        assert number is None or (type(number) is int and 0 <= number <= 1 << 53)


def check_built(built: Built) -> None:
    """An environment is made of store paths alone, holds its own programs, and its variables can be passed to one."""
    environment = built.environment
    assert classify(built.report) == "OK"
    assert environment.key == "key"
    assert is_store_path(environment.derivation)
    assert all(map(is_store_path, environment.closure))
    assert list(environment.closure) == sorted(set(environment.closure))
    for program in (environment.programs.bash, environment.programs.sh, environment.programs.env):
        owner = "/".join(program.split("/")[:4])
        assert owner in environment.closure
        assert program.startswith(f"{owner}/")
        assert not {"", ".", ".."} & set(program.split("/")[1:])
        assert program.isascii()
        assert program.isprintable()
    names = [name for name, _ in environment.variables]
    assert names == sorted(set(names))
    assert all(name and b"=" not in name and b"\0" not in name + value for name, value in environment.variables)
    assert sum(len(name) + len(value) + 2 for name, value in environment.variables) <= MAX_TOTAL_BYTES
    assert 0 <= environment.closure_bytes <= 1 << 53


def check_failed(failed: Failed) -> None:
    """A failure is the submission's own: neither none, nor a fault of cutor's."""
    assert classify(failed.report) not in ("OK", "XX")
    assert failed.message
    assert len(failed.message) <= MAX_MESSAGE_CHARACTERS


def check(child: HostileChild) -> str:
    """Check whatever comes of a build in this container; return what that is."""
    report, error, progress = asyncio.run(build(child))
    assert child.discarded
    assert all(len(piece) <= MOST_AT_ONCE_BYTES for piece in progress)
    if error is not None:
        assert str(error)
        assert str(error).isprintable()
        return "fault"
    assert report is not None
    check_report(report.report)
    if isinstance(report, Built):
        check_built(report)
        return "built"
    check_failed(report)
    return "failed"


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told(HONEST, OTHERS) | told(FAILING, OTHERS))
def test_whatever_a_build_container_says_there_is_an_environment_a_failure_or_a_fault(turns: list[list[bytes]]) -> None:
    event(check(HostileChild(turns, silent=False)))


@pytest.mark.parametrize(("honest", "end"), [(HONEST, "built"), (FAILING, "failed")])
def test_an_honest_container_builds_or_fails(honest: list[Frame | None], end: str) -> None:
    """Else the test above would show nothing."""
    assert check(HostileChild(sent(honest), silent=True)) == end


@pytest.mark.parametrize("said", range(len(HONEST)))
def test_a_build_container_that_falls_silent_is_not_waited_for(said: int) -> None:
    assert check(HostileChild(sent(HONEST[:said]), silent=True)) == "fault"


@pytest.mark.parametrize("endless", [WAITING, PROGRESS])
def test_a_build_container_that_never_stops_talking_is_not_listened_to_for_ever(endless: Frame) -> None:
    """Each frame of progress is a sign of life, but the time of the build is its limit's; a wait for others is bounded too."""
    honest = [READY, None, endless] if endless is PROGRESS else [endless]
    child = HostileChild(sent(honest), silent=False)
    (last,) = sent([endless])[0]

    async def receive() -> bytes:
        await asyncio.sleep(0)
        return child.said() or last

    child.receive = receive  # type: ignore[method-assign]
    assert check(child) == "fault"


def test_the_grace_is_long_enough_in_earnest() -> None:
    assert GRACE_S >= 30
