"""What Nix printed, told once to whoever reads a result or watches a build. Pure.

Nix itself says most of it twice: a builder's lines as they come, and the last of them again in its error, with a hint at a log
that is gone with the build's container.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final

import msgspec

from cutor.model.events import Stage
from cutor.model.result import Result
from cutor.text import uncoloured

REMEMBERED: Final = 1000
"""Lines; of more that a terminal has shown, the oldest are forgotten."""

_HEADING: Final = re.compile(r"Last \d+ log lines:")
_HINT: Final = "For full logs, run:"
_COMMANDS: Final = ("nix log ", "nix-store -l ")
_WRAPPER: Final = ("at «string»:", "at «nix-internal»", "(stack trace truncated")
"""What marks a block of Nix's trace that is about cutor's own expression around shell.nix, or about none."""


_STEP: Final = re.compile(
    r"(?:building '/nix/store/[^']*'(?:\.\.\.)?"
    r"|(?:this|these \d+) (?:derivations?|paths?) will be (?:built|fetched)\b.*"
    r"|copying path '/nix/store/[^']*' .*"
    r"|/nix/store/[0-9a-z]{32}-\S+)"
)
"""Lines by which Nix says what it does next: who has the result does not need them."""


class Once:
    """Lines as they come, each with what Nix says again of a builder's left out, and its hint."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}
        self._hinted = False
        self._quoting = False
        self._heading: str | None = None

    def new(self, lines: Iterable[str]) -> list[str]:
        """Return those of the next lines that are to be shown."""
        return [shown for line in lines for shown in self._new(line)]

    def _new(self, line: str) -> list[str]:
        text = _bare(line)
        hinted, self._hinted = self._hinted, text == _HINT
        if self._hinted or (hinted and text.startswith(_COMMANDS)):
            return []
        if _HEADING.fullmatch(text):
            self._quoting, self._heading = True, line
            return []
        self._quoting = self._quoting and text.startswith(">")
        if self._quoting and _quoted(text) in self.seen:
            return []
        heading, self._heading = self._heading, None
        self._remember(text)
        return [heading, line] if self._quoting and heading is not None else [line]

    def _remember(self, text: str) -> None:
        self.seen.pop(text, None)
        self.seen[text] = None
        if len(self.seen) > REMEMBERED:
            del self.seen[next(iter(self.seen))]


def told_once(result: Result, shown: Collection[str] = ()) -> Result:
    """Return a result as people are to read it: its dependencies stage says nothing twice.

    What its message says is left out of its stderr, with frames of cutor's own expression; what a terminal has ``shown`` is
    left out of both, but for the message's first line. Of a build that succeeded, Nix's own steps are left out.
    """
    stage = result.dependencies
    if stage is None or stage.stderr.encoding == "base64" or not (stage.message or shown or stage.outcome == "OK"):
        return result
    lines = _left(stage, shown)
    if stage.outcome == "OK":
        lines = [line for line in lines if not _STEP.fullmatch(_bare(line))]
    message = _message(stage.message, {*map(_bare, stage.stderr.data.split("\n"))}, shown) if stage.message else None
    text = "\n".join(lines)
    stderr = msgspec.structs.replace(stage.stderr, data=text, truncated=stage.stderr.truncated and bool(text))
    told = msgspec.structs.replace(stage, stderr=stderr, message=message)
    whole = message if result.message == stage.message else result.message
    return msgspec.structs.replace(result, dependencies=told, message=whole)


def _left(stage: Stage, shown: Collection[str]) -> list[str]:
    """Return the lines of a stage's stderr that its message does not say, and that were not shown."""
    told = [*map(_bare, stage.message.split("\n"))] if stage.message else []
    text = "\n".join(Once().new(stage.stderr.data.split("\n")))
    blocks = [block.split("\n") for block in text.split("\n\n") if not told or not any(mark in block for mark in _WRAPPER)]
    lines = "\n\n".join("\n".join(_without(block, told)) for block in blocks).split("\n")
    if set(map(_bare, lines)) <= {"", "error:"}:
        return []
    return [line for line in lines if _bare(line) not in shown] if shown else lines


def _without(block: list[str], told: list[str]) -> list[str]:
    """Return a block of lines without the error that was told; what begins like it is it."""
    starts = [number for number, line in enumerate(block) if told and _bare(line) == told[0]]
    if not starts:
        return block
    end = starts[-1]
    while end < len(block) and _bare(block[end]) in told:
        end += 1
    return block[: starts[-1]] + block[end:]


def _message(message: str, printed: Collection[str], shown: Collection[str]) -> str:
    """Return a message without the lines of a builder that stand above it."""
    first, *lines = message.split("\n")
    heading = next((number for number, line in enumerate(lines) if _HEADING.fullmatch(_bare(line))), len(lines))
    end = heading + 1
    while end < len(lines) and _bare(lines[end]).startswith(">"):
        end += 1
    if end > heading + 1 and _quoted(_bare(lines[end - 1])) in printed:
        del lines[heading:end]
    return "\n".join([first, *(line for line in lines if _bare(line) not in shown)])


def _quoted(text: str) -> str:
    return text.removeprefix(">").strip()


def _bare(line: str) -> str:
    """Return a line without colours, the space around it, and what it has written over itself."""
    return uncoloured(line.rstrip("\r").rpartition("\r")[2]).strip()
