"""The command line itself: every command has help and an example, and every misuse is one line on stderr and exit code 2."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import cutor
from cutor.bus.errors import AddressInvalid, BusError, BusUnreachable, TopologyError
from cutor.cli.failures import exit_code_of, line_of
from cutor.cli.main import COMMANDS, cli, run
from cutor.cli.options import EXIT_CODES
from cutor.cli.quantities import Size, Span
from cutor.containers.errors import ContainerError, EngineUnreachable
from cutor.errors import DONE, INTERRUPTED, NOT_OK, REFUSED, UNAVAILABLE, WAITED_TOO_LONG, WaitedTooLong
from cutor.journal.errors import SubmissionConflict, SubmissionUnknown
from cutor.model.codec import EventError
from cutor.model.errors import InvalidPolicy, InvalidRequest
from cutor.model.limits import Policy


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", inner) for sub, inner in command.commands.items())


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_help_and_examples(name: str) -> None:
    command = ALL[name]
    assert command.help
    assert f"cutor {name}" in str(command.epilog)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            assert parameter.help, f"{name} {parameter.opts[0]}"


@pytest.mark.parametrize("name", ALL)
def test_every_help_leads_to_the_exit_codes(name: str) -> None:
    helped = ALL[name].get_help(click.Context(ALL[name], info_name=f"cutor {name}"))
    assert EXIT_CODES in " ".join(helped.split())


def test_the_help_of_cutor_says_what_every_exit_code_means(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    codes = " ".join(capfd.readouterr().out.split()).partition("Exit codes: ")[2]
    assert [int(code) for code in re.findall(r"(?:^|; )(\d+) \w", codes)] == [
        DONE,
        NOT_OK,
        REFUSED,
        UNAVAILABLE,
        WAITED_TOO_LONG,
        INTERRUPTED,
    ]


@pytest.mark.parametrize("name", ALL)
def test_an_option_that_takes_a_number_says_of_what(name: str) -> None:
    """``INTEGER`` or ``FLOAT`` is no unit: the option's value is named for what it is."""
    numbers = click.types.IntParamType | click.types.FloatParamType
    options = [one for one in ALL[name].params if isinstance(one, click.Option) and not one.hidden]
    assert [one.name for one in options if isinstance(one.type, numbers) and one.metavar is None] == []


@pytest.mark.parametrize("name", ALL)
def test_an_option_that_takes_a_unit_names_all_of_them(name: str) -> None:
    for option in ALL[name].params:
        if isinstance(option, click.Option) and isinstance(option.type, Span | Size):
            assert f"({', '.join(option.type.units)})" in str(option.help), f"{name} {option.opts[0]}"


@pytest.mark.parametrize(("shell", "sets"), [("bash", "complete "), ("zsh", "#compdef cutor"), ("fish", "complete ")])
def test_completion_prints_a_script(shell: str, sets: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    out, err = capfd.readouterr()
    assert sets in out
    assert f"_CUTOR_COMPLETE={shell}_complete" in out
    assert err == ""


def test_completion_of_another_shell_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "ksh"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "'ksh' is not one of 'bash', 'zsh', 'fish'" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_overview_says_the_same_as_the_command(name: str) -> None:
    help_text = ALL[name].help
    assert help_text is not None
    first = " ".join(help_text.split("\n\n")[0].split())
    assert first.startswith(COMMANDS[name].summary.removesuffix(".")), first


@pytest.mark.parametrize("name", [None, *(name for name in ALL if isinstance(ALL[name], click.Group))])
def test_no_line_of_an_overview_is_cut_off(name: str | None) -> None:
    command = cli if name is None else ALL[name]
    helped = command.get_help(click.Context(command, info_name=f"cutor {name}", terminal_width=80))
    assert "..." not in helped.partition("Commands:")[2].partition("Examples:")[0]


def test_an_unknown_command_is_none_of_ours() -> None:
    assert cli.get_command(click.Context(cli), "no-such") is None


MISUSES = [
    ["no-such-command"],
    ["--no-such-option"],
    ["submit"],
    ["submit", "/no/such/place"],
    ["submit", "-", "--label", "no-equals-sign"],
    ["submit", ""],
    ["submit", "a" * 5000],
    ["submit", "/dev/null"],
    ["submit", "-", "--label", "a=1", "--label", "b=1", "--label", "a=2"],
    ["submit", "-", "--label", "x" * 5000],
    ["submit", "-", "--timeout", "5"],
    ["submit", "-", "--wait", "--timeout", "-1"],
    ["submit", "-", "--wait", "--timeout", "nan"],
    ["query", "SELECT 1", "--timeout", "nan"],
    ["down", "--timeout", "inf"],
    ["submit", "-", "--wait", "--timeout", "inf"],
    ["submit", "-", "--wait", "--timeout=-inf"],
    ["submit", "-", "--wait", "--timeout", "1e400"],
    ["status"],
    ["status", "one", "two"],
    ["events", "one", "--last", "5"],
    ["events", "one", "--follow"],
    ["events", "--last", "0"],
    ["up", "--port", "0"],
    ["up", "--port", "70000"],
    ["up", "--roles", "builder,chef"],
    ["down", "--timeout", "soon"],
    ["streams", "drop"],
    ["streams"],
    ["status", "x", "--server", "http://127.0.0.1"],
    ["status", "x", "--server", "nats://"],
    ["query", "select 1", "--output", "/no/such/directory/file"],
    ["events", "--tenant", "No Body"],
    ["--config", "/no/such/file", "status", "x"],
]


@pytest.mark.parametrize("arguments", MISUSES, ids=" ".join)
def test_misuse_is_one_line_and_exit_code_2(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("cutor: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_with_json_an_error_is_a_document_too(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "x", "--json", "--config", "/no/such/file"]) == 2
    out, err = capfd.readouterr()
    document = json.loads(out)
    assert document["error"]["exit_code"] == 2
    assert err == f"cutor: {document['error']['message']}\n"


def test_no_command_shows_the_overview(capfd: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    out, err = capfd.readouterr()
    assert all(name in out for name in COMMANDS)
    assert err == ""


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"cutor {cutor.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidRequest("x"), 2),
        (InvalidPolicy("x"), 2),
        (TopologyError("x"), 2),
        (SubmissionUnknown("x"), 2),
        (SubmissionConflict("x"), 2),
        (AddressInvalid("x"), 2),
        (BusUnreachable("x"), 3),
        (EngineUnreachable("x"), 3),
        (OSError(28, "No space left on device"), 3),
        (WaitedTooLong("x"), 4),
        (ZeroDivisionError("x"), None),
    ],
)
def test_exit_codes_of_the_design(error: Exception, code: int | None) -> None:
    assert exit_code_of(error) == code


@pytest.mark.parametrize("kind", [InvalidRequest, InvalidPolicy, EventError, BusError, ContainerError, WaitedTooLong])
def test_one_root_catches_all_that_is_made_for_users(kind: type[Exception]) -> None:
    assert issubclass(kind, cutor.CutorError)


def test_every_error_of_the_python_interface_has_the_root() -> None:
    public = [getattr(cutor, name) for name in cutor._HOMES]
    errors = [one for one in public if isinstance(one, type) and issubclass(one, Exception)]
    assert len(errors) > 5
    assert all(issubclass(error, cutor.CutorError) for error in errors)


def test_errors_of_the_system_are_said_without_their_number() -> None:
    assert line_of(OSError(28, "No space left on device")) == "No space left on device"
    assert line_of(FileNotFoundError(2, "No such file or directory", "/x")) == "/x: No such file or directory"


def test_a_message_of_several_lines_becomes_one() -> None:
    assert line_of(InvalidRequest("one\n  two\tthree")) == "one two three"


def test_a_bug_is_one_line_too(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "main", broken)
    assert run(["status", "x"]) == 3
    err = capfd.readouterr().err
    assert err.startswith("cutor: a bug in cutor: ZeroDivisionError: by zero")
    assert err.count("\n") == 1


def test_public_names_are_those_of_their_modules() -> None:
    assert set(cutor.__all__) == {*cutor._HOMES, "__version__"}
    assert all(getattr(cutor, name) is not None for name in cutor.__all__)
    with pytest.raises(AttributeError):
        _ = cutor.no_such_name


@pytest.mark.parametrize("arguments", [["--help"], ["status", "--help"], ["--version"]], ids=" ".join)
def test_a_reader_that_has_left_is_no_error(arguments: list[str]) -> None:
    """The pipe is closed before the first byte: every write is EPIPE, whoever writes it (click, rich, or cutor itself)."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [sys.executable, "-m", "cutor", *arguments]
    done = subprocess.run(command, stdout=write_end, stderr=subprocess.PIPE, check=False)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, b"")


def test_an_interrupt_before_the_answer_tells_the_id_that_may_be_stored(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        def __init__(self, server: str, *, archive: str | None) -> None: ...

        async def __aenter__(self) -> "Interrupted":
            return self

        async def __aexit__(self, *_: object) -> None: ...

        async def policy(self) -> Policy:
            return Policy()

        async def submit(self, *_: object, **given: object) -> None:
            assert given["id"]
            raise KeyboardInterrupt

    monkeypatch.setattr("cutor.cli.submit.Client", Interrupted)
    example = str(Path(__file__).parents[2] / "examples" / "shell-hook")
    assert run(["submit", example, "--server", "nats://nowhere", "--tenant", "batch"]) == 130
    err = capfd.readouterr().err
    assert re.fullmatch(r"cutor: ([0-9a-f]{16}) may have been handed in: `cutor watch \1 --tenant batch` follows it\n", err), (
        err
    )
