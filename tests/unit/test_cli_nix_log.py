"""What Nix printed, as people read it: each thing once. Recorded from Nix 2.34.8."""

from __future__ import annotations

import msgspec
import pytest

from cutor.cli.nix_log import REMEMBERED, Once, told_once
from cutor.cli.rows import excerpt
from cutor.model.events import Stage, output
from cutor.nix.messages import advised, error_message
from tests.unit.test_cli_rows import result

TRACE = """error:
       … while evaluating attribute 'shell'
         at «string»:15:3:
           15|   shell = if builtins.length found == 1 then

       … while calling the 'derivationStrict' builtin
         at «nix-internal»/derivation-internal.nix:37:12:
           36|

       … while evaluating mine
         at /box/shell.nix:9:1:

       (stack trace truncated; use '--show-trace' to show the full, detailed trace)

       error: attribute 'x' missing
       at /box/shell.nix:3:16:
            2| pkgs.mkShell {
"""
MESSAGE = "error: attribute 'x' missing\nat /box/shell.nix:3:16:\n     2| pkgs.mkShell {"
BUILDER = """\
this derivation will be built:
  /nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv
building '/nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv'...
one
\x1b[31mtwo\x1b[0m
error: Cannot build '/nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv'.
       Reason: builder failed with exit code 3.
       Last 2 log lines:
       > one
       > two
       For full logs, run:
         nix-store -l /nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv
"""
CANNOT = "error: Cannot build '/nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv'."


def told(printed: str, shown: tuple[str, ...] | dict[str, None] = (), message: str | None = "") -> tuple[list[str], list[str]]:
    """Return the lines of stderr, and of the message, that are left of a failed build."""
    message = error_message(printed.encode()) if message == "" else message
    failed = Stage(outcome="RE", exit_code=1, stderr=output(printed.encode(), len(printed)), message=message)
    stage = told_once(msgspec.structs.replace(result(), dependencies=failed, message=message), shown)
    assert stage.message == (stage.dependencies and stage.dependencies.message)
    assert stage.dependencies is not None
    return stage.dependencies.stderr.data.splitlines(), (stage.message or "").splitlines()


def test_of_a_build_that_succeeded_nobody_is_told_the_steps() -> None:
    steps = "".join(f"building '/nix/store/{n:032}-x.drv'...\n" for n in range(30))
    fetched = "these 2 paths will be fetched (1.2 MiB download):\n  /nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-a\n"
    printed = f"{BUILDER.partition('error:')[0]}{fetched}{steps}trace: warning: old\n"
    built = Stage(outcome="OK", exit_code=0, stderr=output(printed.encode(), len(printed)))
    shown = told_once(msgspec.structs.replace(result(), dependencies=built)).dependencies
    assert shown is not None
    assert shown.stderr.data.splitlines() == ["one", "\x1b[31mtwo\x1b[0m", "trace: warning: old"]
    quiet = msgspec.structs.replace(built, stderr=output(steps.encode(), len(steps)))
    assert excerpt(told_once(msgspec.structs.replace(result(), dependencies=quiet)).dependencies.stderr, tail=True) == ""
    failed = msgspec.structs.replace(built, outcome="RE")
    assert told_once(msgspec.structs.replace(result(), dependencies=failed)).dependencies.stderr.data.count("building") == 31


def test_an_error_of_nix_is_said_once_and_without_frames_of_ours() -> None:
    stderr, message = told(TRACE)
    assert "\n".join(message) == MESSAGE
    assert [line.strip() for line in stderr if line.strip()] == ["… while evaluating mine", "at /box/shell.nix:9:1:"]
    assert "«string»" in "\n".join(told(TRACE, message=None)[0])


def test_a_builders_lines_are_said_once_and_nobody_is_sent_to_a_log_that_is_gone() -> None:
    stderr, message = told(BUILDER)
    assert stderr[-2:] == ["one", "\x1b[31mtwo\x1b[0m"]
    assert message == [CANNOT, "Reason: builder failed with exit code 3."]


def test_lines_of_a_builder_that_stand_nowhere_else_stay() -> None:
    quoted = BUILDER.replace("one\n\x1b[31mtwo\x1b[0m\n", "", 1)
    assert told(quoted)[1][-3:] == ["Last 2 log lines:", "> one", "> two"]


def test_a_terminal_has_each_line_once() -> None:
    once = Once()
    shown = [line.strip() for line in once.new(BUILDER.splitlines())]
    assert shown[-4:] == ["one", "\x1b[31mtwo\x1b[0m", CANNOT, "Reason: builder failed with exit code 3."]
    stderr, message = told(BUILDER, once.seen)
    assert (stderr, message) == ([], [CANNOT])


def test_what_a_terminal_was_not_told_is_printed_in_the_end() -> None:
    """Pieces may be left out on the way; and what to do about an error, Nix does not say."""
    once = Once()
    assert once.new(["…", "       Last 2 log lines:", "       > one"])[1:] == ["       Last 2 log lines:", "       > one"]
    stderr, _ = told(BUILDER, once.seen)
    assert "one" in stderr
    error = "error: path '/box/data/note.txt' does not exist"
    stderr, message = told(f"{error}\n", {error: None}, advised(error))
    assert (stderr, message[0]) == ([], error)
    assert "--environment-file" in message[1]


@pytest.mark.parametrize("line", ["> one", "nix-store -l x", "Last 3 logs:", "For full logs, walk:"])
def test_a_builders_own_lines_are_no_quotes(line: str) -> None:
    once = Once()
    assert once.new(["one", line, line]) == ["one", line, line]


def test_of_many_lines_the_newest_are_remembered() -> None:
    once = Once()
    once.new(map(str, range(2 * REMEMBERED)))
    assert list(once.seen) == [str(number) for number in range(REMEMBERED, 2 * REMEMBERED)]
