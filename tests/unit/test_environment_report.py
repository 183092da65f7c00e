"""What an environment says of itself is read as text, whoever printed it."""

import subprocess

from hypothesis import given
from hypothesis import strategies as st

from cutor.operations.environment_report import SCRIPT, EnvironmentReport, Place, package, read_report

STORE = "/nix/store/n8ig4m26qdxx1b2fhifx8g51rhx45krx-bash-5.2.15"


def said(*words: str) -> bytes:
    return "".join(f"{word}\0" for word in words).encode()


def test_everything_it_says_is_read() -> None:
    printed = said(
        *("variable", "A=b=c\nd", "variable", "EMPTY="),
        *("directory", f"{STORE}/bin", "program", "sh", "program", "bash", "directory", "/elsewhere"),
        *("version", "bash GNU bash, version 5.2.15(1)-release\nCopyright", "version", "lua \n\nLua 5.4"),
        *("end", ""),
    )
    assert read_report(printed) == EnvironmentReport(
        variables={"A": "b=c\nd", "EMPTY": ""},
        path=(
            Place(directory=f"{STORE}/bin", package="bash-5.2.15", programs=("bash", "sh")),
            Place(directory="/elsewhere", package=None, programs=()),
        ),
        versions={"bash": "GNU bash, version 5.2.15(1)-release", "lua": "Lua 5.4"},
        whole=True,
    )


def test_a_tool_that_warns_first_is_read_by_the_line_with_its_version() -> None:
    assert read_report(said("version", "x warning: no terminal\nx 12.1\n")).versions == {"x": "x 12.1"}
    assert read_report(said("version", "x usage: x\nhelp")).versions == {"x": "usage: x"}
    assert read_report(said("version", "x")).versions == {"x": ""}


def test_what_was_cut_is_not_whole() -> None:
    cut = said("variable", "A=b", "directory", "/bin") + b"program\0half of a na"
    assert read_report(cut) == EnvironmentReport(
        variables={"A": "b"}, path=(Place(directory="/bin", package=None),), versions={}, whole=False
    )


@given(st.binary())
def test_whatever_is_printed_is_text(printed: bytes) -> None:
    found = read_report(printed)
    assert isinstance(found, EnvironmentReport)


def test_the_package_of_a_path() -> None:
    assert package(f"{STORE}/bin/bash") == "bash-5.2.15"
    assert package("/nix/store/short-bash/bin") is None
    assert package("/usr/bin") is None


def test_the_script_needs_nothing_but_bash() -> None:
    """Variables come exactly, a PATH with spaces and without programs is walked, and its own end is told."""
    variables = {"PATH": "/no such/bin:/bin:", "A": " two\nlines ", "BASH_FUNC_f%%": "() { echo hi; }"}
    done = subprocess.run(["/bin/bash", "-c", SCRIPT], env=variables, capture_output=True, timeout=60, check=True)
    found = read_report(done.stdout)
    assert found.variables == variables
    assert [place.directory for place in found.path] == ["/no such/bin", "/bin"]
    assert "bash" in found.path[1].programs
    assert found.versions["bash"].startswith("GNU bash")
    assert found.whole
