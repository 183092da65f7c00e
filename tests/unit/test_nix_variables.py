"""From the block that a capture wrote to the variables that stages get."""

import pytest

from cutor.nix.inside.shell import END_OF_CAPTURE, MAX_ENTRY_BYTES
from cutor.nix.inside.variables import MAX_TOTAL_BYTES, CaptureError, read_capture, search_path


def block(*entries: bytes) -> bytes:
    return b"".join(entry + b"\0" for entry in (*entries, END_OF_CAPTURE))


def test_values_are_kept_exactly_and_sorted_by_name() -> None:
    captured = block(b"Z=1\n2 = 3", b"A=\xff\xfe'\"", b"E=", b"BASH_FUNC_f%%=() {  echo hi\n}")
    assert read_capture(captured) == (
        (b"A", b"\xff\xfe'\""),
        (b"BASH_FUNC_f%%", b"() {  echo hi\n}"),
        (b"E", b""),
        (b"Z", b"1\n2 = 3"),
    )


def test_what_describes_the_capturing_shell_is_dropped() -> None:
    captured = block(b"PWD=/box", b"OLDPWD=/", b"SHLVL=0", b"_=/opt/x", b"NIX_BUILD_SHELL=/x", b"KEPT=1", b"HOME=/tmp")
    assert read_capture(captured) == ((b"HOME", b"/tmp"), (b"KEPT", b"1"))


def test_what_is_no_variable_is_left_out_and_the_first_of_two_counts() -> None:
    assert read_capture(block(b"A=1", b"novalue", b"=x", b"A=2")) == ((b"A", b"1"),)


def test_an_empty_environment_is_one() -> None:
    assert read_capture(block()) == ()


@pytest.mark.parametrize(
    "captured",
    [
        b"",
        b"A=1\0",
        b"A=1\0B=2\0",
        END_OF_CAPTURE,
        block(b"A=1")[:-1],
        block(b"A=1") + b"x",
        block(b"A=1") + b"B=2\0",
        b"A=" + END_OF_CAPTURE + b"\0",
    ],
)
def test_a_capture_without_its_marker_is_none(captured: bytes) -> None:
    with pytest.raises(CaptureError, match="before its variables were captured"):
        read_capture(captured)


def test_bounds_are_those_of_linux() -> None:
    fits = b"A=" + b"x" * (MAX_ENTRY_BYTES - 3)
    assert len(read_capture(block(fits))[0][1]) == MAX_ENTRY_BYTES - 3
    with pytest.raises(CaptureError, match="the variable A is 131073 bytes"):
        read_capture(block(fits + b"x"))
    many = [b"A%d=" % number + b"x" * 100_000 for number in range(MAX_TOTAL_BYTES // 100_000 + 1)]
    with pytest.raises(CaptureError, match="together"):
        read_capture(block(*many))


def test_directories_of_path() -> None:
    assert search_path(((b"PATH", b"/a/bin::/b:\xff"),)) == ("/a/bin", "/b")
    assert search_path(()) == ()
