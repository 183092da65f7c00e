"""What a build container says, as typed values: every frame is hostile until it is decoded here. Pure.

The init in the container is cutor's, but user code ran beside it; so each header is decoded strictly, each number and path
has a bound, and what must agree (lengths, closure and programs) is compared.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from cutor.jail.inside.nsjail_args import check_path
from cutor.jail.inside.protocol import Frame, ProtocolError
from cutor.jail.measured import Count, Measured, Text
from cutor.model.environments import Programs, unpack_variables
from cutor.model.outcome import StageReport
from cutor.model.request import UNREADABLE, explain
from cutor.nix.inside.derivation import MAX_PATH_BYTES, is_store_path
from cutor.nix.inside.store import MAX_CLOSURE_PATHS
from cutor.nix.inside.variables import MAX_TOTAL_BYTES, CaptureError, Variables, check_size

MAX_HEADER_BYTES: Final = 1 << 20
"""Everything of a frame but its body: names, numbers, a message of some KiB. Far above what an init sends."""
MAX_CLOSURE_TEXT_BYTES: Final = MAX_CLOSURE_PATHS * (MAX_PATH_BYTES + 1)
"""The largest closure, a path a line."""
MAX_PROGRESS_BYTES: Final = 64 << 10
"""The body of a frame while a build is under way: four times a piece of what Nix prints."""

_PROGRAM: Final = re.compile(r"(/nix/store/[^/\0]+)(?:/[^/\0]+)+")


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"):
    """A frame's header."""


class Ready(_Header, frozen=True, kw_only=True, tag="ready"):
    """The init holds the lock on the store and takes a job; ``protocol`` is its version of the frames."""

    protocol: int
    nix_version: Annotated[str, Meta(max_length=80)]


class Waiting(_Header, frozen=True, kw_only=True, tag="waiting"):
    """A garbage collection has to end first."""


class Mending(_Header, frozen=True, kw_only=True, tag="mending"):
    """The store lacks ``count`` paths that its database promises, ``missing`` the first of them.

    Other builds have to end, it is mended, and the build begins anew.
    """

    missing: Text
    count: Count


class Progress(_Header, frozen=True, kw_only=True, tag="progress"):
    """The body is the next piece of what Nix prints; pieces may be left out, not reordered."""


class BuiltHeader(_Header, frozen=True, kw_only=True, tag="built"):
    """The environment stands and is rooted. The body ends with closure (a line each) and variables (as in events)."""

    report: Measured
    derivation: str
    closure_text_bytes: Annotated[int, Meta(ge=0, le=MAX_CLOSURE_TEXT_BYTES)]
    closure_bytes: Count
    programs: Programs


class FailedHeader(_Header, frozen=True, kw_only=True, tag="failed"):
    """The submission's own failure. ``message`` is the init's, where it knows better than Nix's output.

    ``tasks_refused``: the kernel refused it processes or threads, because it had as many as it may.
    """

    report: Measured
    tasks_refused: bool
    message: Text | None


class FaultHeader(_Header, frozen=True, kw_only=True, tag="fault"):
    """The machinery failed; nothing is known of the submission. ``no_room``: the store's volume is as good as full."""

    message: Text
    no_room: bool = False


class BuiltEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """What a build gives: ``derivation`` of the shell, ``closure`` in the store (sorted) and its size as archives, the captured
    ``variables`` sorted by name, and ``programs`` within the closure.
    """

    key: str
    derivation: str
    closure: tuple[str, ...]
    closure_bytes: int
    variables: Variables
    programs: Programs


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A build that succeeded; ``report`` is that of the dependencies stage, and classifies as OK."""

    environment: BuiltEnvironment
    report: StageReport


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A build that failed by the submission's fault or its limits; ``report`` never classifies as OK or XX."""

    report: StageReport
    message: str


BuildReport = Built | Failed
BuildFrame = Ready | Waiting | Mending | Progress | BuiltHeader | FailedHeader | FaultHeader

_DECODER: Final[msgspec.json.Decoder[BuildFrame]] = msgspec.json.Decoder(BuildFrame)


def decode_header(frame: Frame) -> BuildFrame:
    """Return a frame's header as a value. Raises `ProtocolError` for anything that the init of a build would not send."""
    try:
        return _DECODER.decode(frame.header)
    except UNREADABLE as error:
        raise ProtocolError(f"a header that no build sends: {explain(error)}") from error


def decode_environment(key: str, header: BuiltHeader, rest: bytes) -> BuiltEnvironment:
    """Return the environment of a finished build, of which ``rest`` is the body after the outputs.

    Raises `ProtocolError` for paths or variables that can't be an environment's.
    """
    closure = _closure(rest[: header.closure_text_bytes])
    if not is_store_path(header.derivation) or not header.derivation.endswith(".drv"):
        raise ProtocolError("the derivation is not the path of one")
    for program in (header.programs.bash, header.programs.sh, header.programs.env):
        found = _PROGRAM.fullmatch(program)
        if found is None or found[1] not in closure or len(program) > 4096:
            raise ProtocolError("a program is not in the closure")
        try:
            check_path(program)
        except ValueError as error:
            raise ProtocolError("a program is where no jail can be given it") from error
    return BuiltEnvironment(
        key=key,
        derivation=header.derivation,
        closure=tuple(sorted(closure)),
        closure_bytes=header.closure_bytes,
        variables=_variables(rest[header.closure_text_bytes :]),
        programs=header.programs,
    )


def _closure(text: bytes) -> frozenset[str]:
    lines = text.decode("ascii", "replace").split("\n")
    closure = frozenset(lines[:-1])
    if lines[-1] or len(closure) != len(lines) - 1 or len(closure) > MAX_CLOSURE_PATHS or not all(map(is_store_path, closure)):
        raise ProtocolError("the closure holds what is not a store path, or one twice, or too many")
    return closure


def _variables(block: bytes) -> Variables:
    if len(block) > MAX_TOTAL_BYTES:
        raise ProtocolError("the variables are larger than can be passed to a program")
    try:
        variables = unpack_variables(block)
        check_size(dict(variables))
    except (ValueError, CaptureError) as error:
        raise ProtocolError(f"the variables are no block of them: {str(error)[:200]}") from error
    names = [name for name, _ in variables]
    if names != sorted(set(names)) or b"" in names:
        raise ProtocolError("the variables are not sorted by name, or one is there twice")
    return variables
