"""What a process logs: lines of text for people, or one JSON object a line for machines, with the submission that it is about.

What a line is about stands in context variables: set where an event is attended to, inherited by the tasks that this begins.
So no caller passes it on, and every line has it, also one of a library.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, Literal

from cutor.model.subjects import Address, parse_event_subject
from cutor.text import escape

LogFormat = Literal["text", "json"]

MESSAGE_CHARACTERS: Final = 16_384
"""Of a line in a log: users decide how long some are, and Docker's own logs split what is over 16 KiB."""
TRACEBACK_CHARACTERS: Final = 32_768
"""The end of a traceback, where the error is: a few hundred lines. A choice."""
EVENTS_LOGGER: Final = "cutor.events"
"""Has a line for each event that a role appends: in JSON, for machines. People have `cutor events`."""

TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"

Failure = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_about: ContextVar[dict[str, str | int]] = ContextVar("about")


def attend_to(address: Address, kind: str, sequence: int) -> None:
    """Have the lines of this task, and of those it begins from now on, say that they concern an event of a submission."""
    _about.set({"tenant": address.tenant, "submission": address.id, "event": kind, "sequence": sequence})


def concern(address: Address) -> None:
    """Have the lines of this task say that they concern a submission, and no event in particular."""
    _about.set({"tenant": address.tenant, "submission": address.id})


@contextmanager
def about(address: Address) -> Iterator[None]:
    """Have the lines of the block say that they concern a submission, whatever the task is about."""
    with _saying({"tenant": address.tenant, "submission": address.id}):
        yield


@contextmanager
def about_message(subject: str, sequence: int) -> Iterator[None]:
    """Have the lines of the block say that they concern a message, and the submission under whose subject it came."""
    event = parse_event_subject(subject)
    of: dict[str, str | int] = (
        {} if event is None else {"tenant": event.address.tenant, "submission": event.address.id, "event": event.kind}
    )
    with _saying(of | {"sequence": sequence}):
        yield


@contextmanager
def _saying(fields: dict[str, str | int]) -> Iterator[None]:
    token = _about.set(fields)
    try:
        yield
    finally:
        _about.reset(token)


def attempt(number: int) -> None:
    """Have the lines of this task, which attends to an event, say under which lease: the number of the attempt."""
    _about.set(_about.get({}) | {"attempt": number})


class JsonFormatter(logging.Formatter):
    """Makes one JSON object a record, of ASCII alone: no terminal obeys anything in it. ``process``: fields of every line."""

    def __init__(self, process: dict[str, str]) -> None:
        super().__init__()
        self.process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        document: dict[str, Any] = {
            "time": _moment(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage()[:MESSAGE_CHARACTERS],
            **self.process,
            **_about.get({}),
        }
        if (appended := getattr(record, "appended", None)) is not None:
            document["appended"] = appended
        if record.exc_info:
            document["exception"] = _exception(record.exc_info)
        return _line(document)


class TextFormatter(logging.Formatter):
    """Makes one line a record, for people, in which no terminal finds anything to obey; of a traceback those behind it.

    Subjects, ids and what programs printed are in messages. Lines of a traceback are indented: none of them poses as a record.
    """

    def __init__(self) -> None:
        super().__init__(TEXT)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Return the line without a traceback."""
        record.message = escape(record.message[:MESSAGE_CHARACTERS])
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - likewise
        """Return the traceback."""
        told = escape(super().formatException(ei)[-TRACEBACK_CHARACTERS:], keep="\n")
        return "\n".join(f"  {line}" for line in told.split("\n"))


def set_up(log_format: LogFormat, process: dict[str, str]) -> None:
    """Log to stderr in a format; ``process`` are the fields of every line of JSON, and may be added to later."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    logging.getLogger(EVENTS_LOGGER).setLevel(logging.INFO if log_format == "json" else logging.WARNING)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(JsonFormatter(process) if log_format == "json" else TextFormatter())


def json_line(message: str, *, logger: str, role: str, level: str = "INFO") -> str:
    """Return a line that no logger has made."""
    document = {"time": _moment(time.time()), "level": level, "logger": logger, "message": message[:MESSAGE_CHARACTERS]}
    return _line(document | {"role": role})


def last_words(text: str) -> str:
    """Return a process's last line as it logs: in JSON where it logs JSON, else as it is."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler.formatter, JsonFormatter):
            return json_line(text, logger="cutor", role=handler.formatter.process.get("role", ""), level="CRITICAL")
    return text


def message_of(line: str) -> str:
    """Return what a line says: its message where it is a JSON object with one, else the line."""
    try:
        message = json.loads(line)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return line
    return message if isinstance(message, str) else line


def is_json(line: bytes) -> bool:
    """Return whether a line is one of JSON already."""
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _exception(failure: Failure | bool | BaseException | None) -> dict[str, str]:
    kind, error, trace = failure if isinstance(failure, tuple) else (None, None, None)
    told = "".join(traceback.format_exception(kind, error, trace))
    name = "" if kind is None else kind.__name__
    return {"type": name, "message": str(error)[:MESSAGE_CHARACTERS], "traceback": told[-TRACEBACK_CHARACTERS:]}


def _moment(seconds: float) -> str:
    whole, milliseconds = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{milliseconds:03d}Z"


def _line(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=True)
