"""Nix's error messages in short, for a person: taken from what it printed, never deciding anything. Pure."""

from __future__ import annotations

import re
from typing import Final

from cutor.model.limits import Limit
from cutor.model.outcome import StageReport, signal_name
from cutor.model.units import size

MAX_MESSAGE_CHARACTERS: Final = 2000
"""A screen of text: the whole output stands in the stage's stderr. A choice."""
MAX_MESSAGE_LINES: Final = 40
"""Of an error, from its cause on. A choice; the characters bound it, too."""
MAX_LAST_LINES: Final = 5
"""Of an output in which no error is found: its end. A choice."""

_ERROR: Final = re.compile(r"^(\s*)error: *(.*)$")
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SUMMARY: Final = re.compile(
    r"build of .* failed$|\d+ dependenc(y|ies) of derivation .* failed|some (errors|outputs|builds)", re.IGNORECASE
)
_ADVICE: Final = ("For full logs, run:", "nix log ", "nix-store -l ")
"""Nix's hint at a log that is gone with the build container."""
_FILES: Final = (
    "files that shell.nix imports are named with --environment-file or in `environment_files`, and lie in its directory"
)
_ADVICE_ON: Final = {
    re.compile(r"^error: .*'/box/[^']*'(?: does not exist|: No such file or directory)", re.MULTILINE): _FILES,
    re.compile(r"^error: access to .*path '[^']*' is forbidden", re.MULTILINE): _FILES,
    re.compile(r"^error: access to URI '[^']*' is forbidden", re.MULTILINE): (
        "addresses that shell.nix may fetch stand in `nix.allowed_uris` of the builder's configuration"
    ),
}
"""What to do about an error of an evaluation that sees nothing but its own files, in ``/box``, and what is allowed."""


_UNTRUSTED: Final = "lacks a signature by a trusted key"
_TRUST: Final = (
    "nix.cache_public_keys of the host that fetched it must hold the whole public key of who published it:"
    " `cutor doctor` prints them there, and on the builder's host"
)


def error_message(stderr: bytes) -> str | None:
    """Return the error that Nix printed last, with its place and the log lines it quotes; None where it printed none.

    Nix prints the cause at the end of its trace, indented under an outer ``error:``; after several failed builds it prints
    a summary that names no cause, which is passed over. At most `MAX_MESSAGE_LINES` lines.
    """
    lines = _CONTROL.sub("", stderr.decode(errors="replace")).split("\n")
    starts = [number for number, line in enumerate(lines) if (found := _ERROR.match(line)) and found[2]]
    causes = [number for number in starts if not _SUMMARY.search(lines[number])]
    if not starts:
        return None
    chosen = (causes or starts)[-1]
    return shorten("\n".join(_block(lines, chosen)))


def ending_message(report: StageReport) -> str:
    """Return how a build ended that printed no error of Nix's: by what, and the last lines it printed, if any."""
    number = report.signal_number
    ended = f"exit code {report.exit_code}" if number is None else f"signal {number} ({signal_name(number)})"
    lines = [line for line in _CONTROL.sub("", report.stderr.decode(errors="replace")).split("\n") if line.strip()]
    last = "\n".join(lines[-MAX_LAST_LINES:])
    return f"the build ended with {ended}" + (f"; it printed last:\n{last}" if last else " and printed nothing")


def limits_named(told: str, limit: Limit, build_bytes: int) -> str:
    """Return a failure's words with the limit behind them, where those of a builder speak of one that it has from cutor.

    A builder's program alone knows why it failed: what it says decides nothing, and says no number.
    """
    named = [sentence for words, sentence in _limits_of_builders(limit, build_bytes).items() if words in told]
    return "\n".join([told, *named])


def _limits_of_builders(limit: Limit, build_bytes: int) -> dict[str, str]:
    return {
        "No space left on device": (
            f"(builders work in {size(build_bytes)} of memory: nix.build_directory_bytes, or three quarters of memory_bytes)"
        ),
        "File size limit exceeded": (
            f"(a file may have file_size_bytes, {size(limit.file_size_bytes)}; a builder's 192 MiB at the least)"
        ),
        "Too many open files": f"(a process may have open_files, {limit.open_files}; a builder 256 at the least)",
    }


def advised(told: str) -> str:
    """Return Nix's error with what the user of cutor can do about it, where the file or address that it lacks is the cause.

    A builder's program can print the same words: this decides nothing.
    """
    return "\n".join([told, *(f"({advice})" for words, advice in _ADVICE_ON.items() if words.search(told))])


def fetch_advised(told: str) -> str:
    """Return why Nix did not fetch from a binary cache, in one line, with what to do where it trusts no key behind it."""
    return f"{told} ({_TRUST})" if _UNTRUSTED in told else told


def shorten(message: str) -> str:
    """Return ``message`` cut to `MAX_MESSAGE_CHARACTERS`, marked where it was cut."""
    return message if len(message) <= MAX_MESSAGE_CHARACTERS else message[: MAX_MESSAGE_CHARACTERS - 2] + " …"


def _block(lines: list[str], start: int) -> list[str]:
    """Return the lines of the error that starts at ``start``, without its indentation: up to a line that is not part of it."""
    first = _ERROR.match(lines[start])
    assert first is not None
    indent = first[1] or " " * 7  # what follows an unindented "error:" is indented by its width
    block = [f"error: {first[2]}"]
    for line in lines[start + 1 : start + MAX_MESSAGE_LINES]:
        if not line.startswith(indent) or _ERROR.match(line):
            break
        text = line[len(indent) :].rstrip()
        if not text.lstrip().startswith(_ADVICE):
            block.append(text)
    return block
