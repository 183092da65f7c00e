"""Lines of JSON: what every one has, what it is about, and that nothing in it breaks a line or a terminal."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest

from cutor import logs
from cutor.config import Config, InvalidConfig, Surroundings, load
from cutor.logs import (
    JsonFormatter,
    TextFormatter,
    about,
    about_message,
    attempt,
    attend_to,
    concern,
    is_json,
    json_line,
    message_of,
)
from cutor.model.subjects import Address
from cutor.stack.logs import stamped, taken

HOSTILE = 'a\nb\r\x1b[31m\x7f\x9b\u202e\ud800"}'


def line(message: str, *args: object, failure: Any = None, **extra: object) -> str:
    record = logging.LogRecord("cutor.test", logging.WARNING, "f.py", 1, message, args, failure)
    record.__dict__.update(extra)
    return JsonFormatter({"role": "runner"}).format(record)


def alone(work: Callable[[], None]) -> None:
    """Do work whose context nobody else gets."""
    contextvars.Context().run(work)


def test_a_line_has_time_level_logger_message_and_process() -> None:
    document = json.loads(line("%d things", 3))
    assert document.pop("time").endswith("Z")
    assert document == {"level": "WARNING", "logger": "cutor.test", "message": "3 things", "role": "runner"}


def test_it_says_which_submission_event_and_attempt_it_is_about() -> None:
    def work() -> None:
        attend_to(Address("physics", "s1"), "cache-built", 7)
        attempt(2)
        document = json.loads(line("x"))
        told = {name: document[name] for name in ("tenant", "submission", "event", "sequence", "attempt")}
        assert told == {"tenant": "physics", "submission": "s1", "event": "cache-built", "sequence": 7, "attempt": 2}
        concern(Address("default", "s2"))
        document = json.loads(line("x"))
        assert (document["submission"], "event" in document, "attempt" in document) == ("s2", False, False)

    alone(work)


def test_a_block_is_about_a_submission_or_a_message_and_nothing_is_behind_it() -> None:
    def work() -> None:
        attend_to(Address("physics", "s1"), "cache-built", 7)
        with about(Address("default", "s2")):
            document = json.loads(line("x"))
            assert (document["submission"], "event" in document) == ("s2", False)
            with about_message("cutor.ev.default.s3.ran", 9):
                document = json.loads(line("x"))
                found = [document[name] for name in ("tenant", "submission", "event", "sequence")]
                assert found == ["default", "s3", "ran", 9]
            with about_message(HOSTILE, 10):
                document = json.loads(line("x"))
                assert (document["sequence"], "submission" in document) == (10, False)
        assert json.loads(line("x"))["submission"] == "s1"

    alone(work)


async def test_tasks_inherit_what_they_are_about_and_others_do_not() -> None:
    async def child() -> str:
        return line("x")

    async def parent(name: str) -> str:
        attend_to(Address("default", name), "submitted", 1)
        return await asyncio.create_task(child())

    told = await asyncio.gather(*(asyncio.create_task(parent(name)) for name in ("a", "b")))
    assert [json.loads(one)["submission"] for one in told] == ["a", "b"]
    assert "submission" not in json.loads(line("x"))


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        document = json.loads(line("it failed", failure=sys.exc_info()))
    assert document["exception"]["type"] == "ValueError"
    assert "test_logs.py" in document["exception"]["traceback"]


@pytest.mark.parametrize("text", [HOSTILE, "x" * 1_000_000])
def test_nothing_in_a_line_breaks_it_or_reaches_a_terminal(text: str) -> None:
    for made in (
        line("%s", text),
        json_line(text, logger="l", role="r"),
        taken(text.encode(errors="replace"), "json", "r").decode(),
    ):
        assert made.isascii()
        assert made.isprintable()
        assert len(made) < 200_000
        assert json.loads(made)["message"].startswith(text[:2])


def test_an_appended_event_stands_in_its_line() -> None:
    assert json.loads(line("appended", appended={"kind": "ran", "sequence": 9}))["appended"] == {"kind": "ran", "sequence": 9}


# -- of the supervisor ---------------------------------------------------------------------------------------------------


def test_what_a_role_prints_becomes_json_unless_it_is() -> None:
    assert taken(b"Segmentation fault", "text", "runner") == b"Segmentation fault"
    document = json.loads(taken(b"Segmentation fault", "json", "runner"))
    assert (document["message"], document["role"], document["logger"]) == ("Segmentation fault", "runner", "stderr")
    own = line("x").encode()
    assert taken(own, "json", "runner") == own
    assert is_json(b"[1]") is False


def test_the_supervisors_lines() -> None:
    assert stamped(b"it starts").endswith(b" it starts\n")
    document = json.loads(stamped(b"it starts", "json"))
    assert (document["message"], document["role"]) == ("it starts", "supervisor")


@pytest.mark.parametrize(
    ("said", "message"), [("plain", "plain"), ('{"message": "why"}', "why"), ('{"message": 3}', '{"message": 3}')]
)
def test_the_reason_of_an_end_is_the_message_of_the_last_line(said: str, message: str) -> None:
    assert message_of(said) == message


# -- configuration -------------------------------------------------------------------------------------------------------


def surroundings(tmp_path: Any, log_format: str | None) -> Surroundings:
    return Surroundings(config_home=tmp_path, data_home=tmp_path, state_home=tmp_path, log_format=log_format)


def test_text_is_the_default_and_the_environment_goes_before_the_file(tmp_path: Any) -> None:
    assert Config().log.format == "text"
    file = tmp_path / "c.toml"
    file.write_text('[log]\nformat = "json"\n')
    assert load(file, surroundings(tmp_path, None)).config.log.format == "json"
    assert load(file, surroundings(tmp_path, "text")).config.log.format == "text"


def test_another_format_is_refused_in_one_line(tmp_path: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"CUTOR_LOG_FORMAT is .*: it must be text or json"):
        load(None, surroundings(tmp_path, "xml\x1b"))


def test_a_command_that_logs_nothing_says_its_last_words_as_they_are() -> None:
    assert logs.last_words("cutor: no") == "cutor: no"


def test_a_line_of_text_is_one_line_that_no_terminal_obeys() -> None:
    """Whoever names a subject so that it looks like the next record has it in the midst of this one."""
    forged = f"x{HOSTILE}\n2026-11-26 00:00:00,000 ERROR cutor: all is lost"
    record = logging.LogRecord("cutor.test", logging.WARNING, "f.py", 1, "%s: dropped", (forged,), None)
    told = TextFormatter().format(record)
    assert told.endswith(": dropped")
    assert told.isprintable()
    assert "\\n2026-11-26 00:00:00,000 ERROR cutor: all is lost" in told


def test_lines_of_a_traceback_pose_as_no_record() -> None:
    try:
        raise ValueError("x\r\n2026-11-26 00:00:00,000 ERROR cutor: forged \x1b[2J")
    except ValueError:
        record = logging.LogRecord("cutor.test", logging.ERROR, "f.py", 1, "a bug", (), sys.exc_info())
    first, *others = TextFormatter().format(record).split("\n")
    assert first.endswith("cutor.test: a bug")
    assert all(line.startswith("  ") and line.isprintable() for line in others)
    assert any("ERROR cutor: forged" in line for line in others)


def test_a_long_message_is_cut() -> None:
    record = logging.LogRecord("cutor.test", logging.ERROR, "f.py", 1, "x" * 1_000_000, (), None)
    assert len(TextFormatter().format(record)) < logs.MESSAGE_CHARACTERS + 100
