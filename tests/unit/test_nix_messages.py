"""What is told of Nix's output: recorded from Nix 2.34.8, in the child image."""

import pytest

from cutor.model.limits import DEFAULT_LIMITS, MIB
from cutor.model.outcome import StageReport
from cutor.nix.messages import MAX_MESSAGE_CHARACTERS, advised, ending_message, error_message, limits_named

TRACE = """\
error:
       … while evaluating attribute 'shell'
         at «string»:15:3:
           14| in {
           15|   shell = if builtins.length found == 1 then (builtins.head found).drvPath
             |   ^

       … while calling the 'derivationStrict' builtin
         at «nix-internal»/derivation-internal.nix:37:12:
           36|

       (stack trace truncated; use '--show-trace' to show the full, detailed trace)

"""

MISSING = (
    TRACE
    + """\
       error: attribute 'nonesuch' missing
       at /box/shell.nix:1:61:
            1| { pkgs ? import <nixpkgs> {} }: pkgs.mkShell { packages = [ pkgs.nonesuch ]; }
             |                                                             ^
            2|
"""
)

BUILDER = """\
this derivation will be built:
  /nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv
building '/nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv'...
one
two
error: Cannot build '/nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv'.
       Reason: builder failed with exit code 3.
       Output paths:
         /nix/store/8x7xpg050z040a05n5b22fqnbfks3cxc-bad
       Last 2 log lines:
       > one
       > two
       For full logs, run:
         nix log /nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv
"""

TWO_BUILDERS = """\
building '/nix/store/3vxhf4r3zinqwpwx1mgyzv5zy1cifwr2-bad2.drv'...

error: Cannot build '/nix/store/i6rc5fcll4ww9kf2wq99mr68zah1hyic-bad.drv'.
       Reason: builder failed with exit code 3.
       Output paths:
         /nix/store/vsc3vi0pcjfsc6aicasihzgwsag2ap3c-bad
error: build of '/nix/store/3vxhf4r3zinqwpwx1mgyzv5zy1cifwr2-bad2.drv', '/nix/store/i6rc5fc-bad.drv' failed
"""

FORBIDDEN = TRACE + "       error: access to absolute path '/etc/shadow' is forbidden in restricted mode\n"


def test_the_cause_is_the_last_error_of_a_trace() -> None:
    message = error_message(MISSING.encode())
    assert message is not None
    assert message.splitlines() == [
        "error: attribute 'nonesuch' missing",
        "at /box/shell.nix:1:61:",
        "     1| { pkgs ? import <nixpkgs> {} }: pkgs.mkShell { packages = [ pkgs.nonesuch ]; }",
        "      |                                                             ^",
        "     2|",
    ]


def test_a_failed_builder_is_told_with_its_log_and_without_advice_that_cannot_be_followed() -> None:
    message = error_message(BUILDER.encode())
    assert message is not None
    assert message.startswith(
        "error: Cannot build '/nix/store/qvnx9qfk54ik68h6yr74va7v1cz5kcm5-bad.drv'.\nReason: builder failed"
    )
    assert message.endswith("> one\n> two")


def test_a_summary_of_failed_builds_gives_way_to_their_cause() -> None:
    message = error_message(TWO_BUILDERS.encode())
    assert message is not None
    assert "builder failed with exit code 3" in message
    assert "build of" not in message


def test_a_summary_alone_is_better_than_nothing() -> None:
    assert error_message(b"error: build of '/nix/store/a.drv' failed\n") == "error: build of '/nix/store/a.drv' failed"


def test_a_one_line_cause() -> None:
    expected = "error: access to absolute path '/etc/shadow' is forbidden in restricted mode"
    assert error_message(FORBIDDEN.encode()) == expected


@pytest.mark.parametrize("text", [b"", b"trace: hi\n", b"evaluation warning: careful\n", b"error:\n", b"\xff\xfe\n"])
def test_no_error_no_message(text: bytes) -> None:
    assert error_message(text) is None


def test_control_characters_and_length_are_tamed() -> None:
    message = error_message(b"\x1b[31;1merror:\x1b[0m it \x07" + b"x" * 10_000)
    assert message is not None
    assert message.startswith("error: it xxx")
    assert len(message) == MAX_MESSAGE_CHARACTERS
    assert message.endswith("…")


def test_nix_s_hint_at_a_log_is_left_out() -> None:
    stderr = (
        b"error: Cannot build 'x.drv'.\n       Reason: builder failed with exit code 3.\n"
        b"       Last 1 log lines:\n       > bad\n"
        b"       For full logs, run:\n         nix-store -l x.drv\n"
    )
    message = "error: Cannot build 'x.drv'.\nReason: builder failed with exit code 3.\nLast 1 log lines:\n> bad"
    assert error_message(stderr) == message


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (StageReport(exit_code=127, stderr=b"a\n\n\x1b[1mld.so: no\n"), "exit code 127; it printed last:\na\nld.so: no"),
        (
            StageReport(exit_code=1, stderr=b"1\n2\n3\n4\n5\n6\n7"),
            "exit code 1; it printed last:\n3\n4\n5\n6\n7",
        ),
        (StageReport(exit_code=1, stderr=b" \n"), "exit code 1 and printed nothing"),
        (StageReport(signal_number=11), "signal 11 (SIGSEGV) and printed nothing"),
    ],
)
def test_an_end_without_an_error_of_nix_is_told_by_what_was_printed(report: StageReport, message: str) -> None:
    assert ending_message(report) == f"the build ended with {message}"


@pytest.mark.parametrize(
    ("told", "named"),
    [
        (
            "error: x: No space left on device",
            "(builders work in 3 MiB of memory: nix.build_directory_bytes, or three quarters of",
        ),
        ("error: File size limit exceeded", "(a file may have file_size_bytes, 1 GiB; a builder's 192 MiB at the least)"),
        ("error: Too many open files", "(a process may have open_files, 4096; a builder 256 at the least)"),
    ],
)
def test_the_limit_behind_a_builders_words_is_named(told: str, named: str) -> None:
    message = limits_named(told, DEFAULT_LIMITS.dependencies.default, 3 * MIB)
    assert message.startswith(f"{told}\n{named}")


def test_words_that_speak_of_no_limit_stay_as_they_are() -> None:
    assert limits_named("error: exit code 1", DEFAULT_LIMITS.dependencies.default, 1) == "error: exit code 1"


@pytest.mark.parametrize(
    ("told", "advice"),
    [
        ("error: path '/box/data/note.txt' does not exist", "--environment-file or in `environment_files`"),
        ("error: opening file '/box/x.nix': No such file or directory", "--environment-file or in `environment_files`"),
        ("error: access to absolute path '/common.nix' is forbidden in restricted mode", "--environment-file or in"),
        ("error: access to URI 'https://a.example/x' is forbidden in restricted mode", "stand in `nix.allowed_uris`"),
    ],
)
def test_what_an_evaluation_may_not_see_is_told_with_what_to_do(told: str, advice: str) -> None:
    first, second = advised(f"{told}\nat /box/shell.nix:1:1:").splitlines()[::2]
    assert first == told
    assert advice in second


@pytest.mark.parametrize(
    "told", ["error: attribute 'x' missing\nat /box/shell.nix:1:1:", "> error: path '/box/x' does not exist"]
)
def test_other_errors_stay_as_they_are(told: str) -> None:
    assert advised(told) == told
