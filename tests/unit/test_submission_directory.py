"""A directory as a request: what is sent, and what is refused by name."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cutor.client.submission_directory import read_directory, read_environment
from cutor.model.errors import InvalidRequest
from cutor.model.limits import Bounds, Policy
from cutor.model.request import Request
from cutor.model.request_checks import validate

BOUNDS = Bounds()
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def box(tmp_path: Path) -> Path:
    box = tmp_path / "box"
    box.mkdir()
    (box / "shell.nix").write_text("{}")
    (box / "cutor-run.sh").write_text("true")
    return box


def test_every_regular_file_is_sent_under_its_relative_name(box: Path) -> None:
    (box / "deep" / "er").mkdir(parents=True)
    (box / "deep" / "er" / "data").write_bytes(b"\xff\x00")
    (box / ".hidden").write_text("seen")
    request = read_directory(box, BOUNDS)
    assert [file.name for file in request.files] == [".hidden", "cutor-run.sh", "deep/er/data", "shell.nix"]
    assert validate(request, Policy(), "x").files["deep/er/data"] == b"\xff\x00"


def test_no_settings_is_one_test_case_with_empty_input(box: Path) -> None:
    (case,) = read_directory(box, BOUNDS).test_cases
    assert case.input is None


def test_settings_are_the_rest_of_the_request_and_are_not_sent(box: Path) -> None:
    (box / "submission.toml").write_text('id = "mine"\nlabels = { a = "b" }\n[limits.run]\nwall_time_ms = 100\n')
    request = read_directory(box, BOUNDS)
    assert (request.id, request.labels, request.limits.run.wall_time_ms) == ("mine", {"a": "b"}, 100)
    assert len(request.test_cases) == 1
    assert "submission.toml" not in {file.name for file in request.files}


def test_settings_deeper_down_are_a_file_like_any_other(box: Path) -> None:
    (box / "deep").mkdir()
    (box / "deep" / "submission.toml").write_text("no toml")
    assert "deep/submission.toml" in {file.name for file in read_directory(box, BOUNDS).files}


@pytest.mark.parametrize("example", sorted(path.parent for path in EXAMPLES.glob("*/shell.nix")), ids=lambda path: path.name)
def test_the_examples_are_requests(example: Path) -> None:
    validate(read_directory(example, BOUNDS), Policy(), "x")


def link(box: Path) -> None:
    (box / "bad").symlink_to("/etc/passwd")


def link_to_directory(box: Path) -> None:
    (box / "bad").symlink_to("/etc")


def fifo(box: Path) -> None:
    os.mkfifo(box / "bad")


def unix_socket(box: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(box / "bad"))


@pytest.mark.parametrize(
    ("make", "kind"),
    [(link, "a link"), (link_to_directory, "a link"), (fifo, "a FIFO"), (unix_socket, "a socket")],
    ids=["link", "link to a directory", "FIFO", "socket"],
)
def test_anything_but_a_regular_file_is_refused_by_name(box: Path, make: Callable[[Path], None], kind: str) -> None:
    make(box)
    with pytest.raises(InvalidRequest, match=f"'bad' is {kind}"):
        read_directory(box, BOUNDS)


def test_a_link_in_place_of_the_settings_is_refused(box: Path) -> None:
    (box / "submission.toml").symlink_to("/etc/hostname")
    with pytest.raises(InvalidRequest, match=r"'submission.toml' is a link"):
        read_directory(box, BOUNDS)


def test_a_name_that_is_not_utf8_is_refused(box: Path) -> None:
    (box / os.fsdecode(b"bad\xff")).write_text("")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        read_directory(box, BOUNDS)


FAULTS = {
    "vanishes before it is looked at": ("stat", FileNotFoundError(2, "No such file or directory")),
    "vanishes before it is opened": ("open", FileNotFoundError(2, "No such file or directory")),
    "becomes unreadable": ("open", PermissionError(13, "Permission denied")),
    "fails while it is read": ("read", OSError(5, "Input/output error")),
}


@pytest.mark.parametrize(("call", "fault"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_somebody_takes_away_meanwhile_is_named(
    box: Path, monkeypatch: pytest.MonkeyPatch, call: str, fault: OSError
) -> None:
    """Where it happens: at the second file of a directory beneath, when the first was read already."""
    (box / "zoo").mkdir()
    (box / "zoo" / "ape").write_text("a")
    (box / "zoo" / "bee").write_text("b")
    bee = (box / "zoo" / "bee").stat().st_ino
    real = getattr(os, call)

    def failing(what: object, *args: object, **more: object) -> object:
        if what == "bee" or (call == "read" and os.fstat(what).st_ino == bee):  # type: ignore[arg-type]
            raise fault
        return real(what, *args, **more)

    monkeypatch.setattr(f"cutor.client.submission_directory.os.{call}", failing)
    with pytest.raises(InvalidRequest) as caught:
        read_directory(box, BOUNDS)
    assert str(caught.value) == f"files: 'zoo/bee' cannot be read: {fault.strerror}"


def test_a_directory_that_cannot_be_listed_is_named(box: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (box / "zoo").mkdir()
    real = os.listdir

    def failing(directory: int) -> list[str]:
        if os.fstat(directory).st_ino == (box / "zoo").stat().st_ino:
            raise OSError(5, "Input/output error")
        return real(directory)

    monkeypatch.setattr("cutor.client.submission_directory.os.listdir", failing)
    with pytest.raises(InvalidRequest, match=r"^files: 'zoo/' cannot be read: Input/output error$"):
        read_directory(box, BOUNDS)


def test_no_more_is_read_than_the_bounds_allow(box: Path) -> None:
    with (box / "large").open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(InvalidRequest) as caught:
        read_directory(box, Bounds(request_bytes=1000))
    read = len("true") + (1 << 40)  # in the order of their names
    assert str(caught.value) == f"files: together at least {read} bytes, more than the maximum of 1000 bytes"


def test_the_bytes_of_several_files_are_counted_together(box: Path) -> None:
    (box / "one").write_bytes(b"x" * 600)
    (box / "two").write_bytes(b"x" * 600)
    with pytest.raises(InvalidRequest) as caught:
        read_directory(box, Bounds(request_bytes=1000))
    assert str(caught.value) == "files: together at least 1206 bytes, more than the maximum of 1000 bytes"


def test_more_files_than_the_bound_are_refused(box: Path) -> None:
    assert len(read_directory(box, Bounds(files=2)).files) == 2
    (box / "submission.toml").write_text("")
    assert len(read_directory(box, Bounds(files=2)).files) == 2
    (box / "third").write_text("")
    with pytest.raises(InvalidRequest, match=r"^files: at least 3, more than the maximum of 2 files$"):
        read_directory(box, Bounds(files=2))


def test_endless_nesting_ends_at_the_length_of_names(box: Path) -> None:
    (box / "/".join(["d"] * 200)).mkdir(parents=True)
    with pytest.raises(InvalidRequest, match="bytes; the maximum is 255 bytes"):
        read_directory(box, BOUNDS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("= 1", "not valid TOML"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("unknown = 1", "unknown field `unknown`"),
        ("[[files]]\nname = 'x'", "files: the files are those of the directory"),
        ("[limits.run]\nwall_time_ms = '1s'", "limits.run.wall_time_ms"),
        ("test_cases = 1", "test_cases"),
    ],
)
def test_bad_settings_are_refused_with_one_line_that_names_the_file(box: Path, settings: str, said: str) -> None:
    (box / "submission.toml").write_text(settings)
    with pytest.raises(InvalidRequest) as caught:
        read_directory(box, BOUNDS)
    assert str(caught.value).startswith("submission.toml: ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="none: the directory cannot be read: No such file"):
        read_directory(tmp_path / "none", BOUNDS)


def environment(path: Path, *also: str) -> Request:
    return read_environment(path, Bounds(), also)


def test_of_an_environment_only_what_decides_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "shell.nix").write_text("import ./versions.nix")
    (tmp_path / "versions.nix").write_text("{ }")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "deps.nix").write_text("{ }")
    (tmp_path / "a link").symlink_to("/etc/passwd")
    (tmp_path / "main.py").write_text("print(1)")
    (tmp_path / "submission.toml").write_text(
        'environment_files = ["versions.nix"]\ntenant = "course"\ncache = false\nlabels = { a = "b" }\n'
        "[limits.dependencies]\nwall_time_ms = 300000\n[limits.run]\nwall_time_ms = 1\n[[test_cases]]\n"
    )
    for path in (tmp_path, tmp_path / "shell.nix"):
        found = environment(path, "more/deps.nix", "versions.nix", "shell.nix")
        assert {file.name: file.content for file in found.files} == {
            "shell.nix": "import ./versions.nix",
            "versions.nix": "{ }",
            "more/deps.nix": "{ }",
        }
        assert found.environment_files == ("versions.nix", "more/deps.nix")
        assert (found.tenant, found.cache, found.labels, found.test_cases) == ("course", True, {"a": "b"}, ())
        assert found.limits.dependencies.wall_time_ms == 300_000
        assert found.limits.run.wall_time_ms is None


def test_an_environment_file_may_have_another_name_and_nothing_beside_it(tmp_path: Path) -> None:
    (tmp_path / "python.nix").write_text("{ }")
    (tmp_path / "submission.toml").write_text("not of this one")
    found = environment(tmp_path / "python.nix")
    assert [(file.name, file.content) for file in found.files] == [("shell.nix", "{ }")]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["missing.nix"], r"/missing\.nix: there is no such file"),
        (["missing/x.nix"], r"/missing/x\.nix: there is no such file"),
        (["link.nix"], "'link.nix' is a link; only regular files are sent: put a regular file in its place"),
        (["linked/x.nix"], "'linked/x.nix' cannot be read: Not a directory"),
        (["../shell.nix"], "has the segment '..'"),
        (["/etc/passwd"], "'/etc/passwd'"),
        (["fifo"], "'fifo' is a FIFO"),
        (["directory"], "'directory' is a directory; only regular files are sent: name the files in it, each by itself"),
        (["directory/link.nix"], "'directory/link.nix' is a link"),
        ([""], "name"),
    ],
)
def test_an_environment_file_that_is_none_is_refused_by_name(tmp_path: Path, names: list[str], said: str) -> None:
    (tmp_path / "shell.nix").write_text("{ }")
    (tmp_path / "link.nix").symlink_to("shell.nix")
    (tmp_path / "directory").mkdir()
    (tmp_path / "linked").symlink_to("directory")
    (tmp_path / "directory" / "link.nix").symlink_to("../shell.nix")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidRequest, match=said):
        environment(tmp_path, *names)


def test_a_file_that_is_not_called_one_of_nix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("{ }")
    with pytest.raises(InvalidRequest, match=r"own\.toml is no shell\.nix: name a file that ends with \.nix, or a directory"):
        environment(tmp_path / "own.toml")


def test_without_a_shell_nix_there_is_no_environment(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "shell.nix"):
        with pytest.raises(InvalidRequest, match=r"shell\.nix: there is no such file"):
            environment(path)
    with pytest.raises(InvalidRequest, match="the directory cannot be read"):
        environment(tmp_path / "nowhere" / "shell.nix")


def test_an_environment_of_too_many_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shell.nix").write_text("x" * 100)
    with pytest.raises(InvalidRequest, match="more than the maximum of 99 bytes"):
        read_environment(tmp_path, Bounds(request_bytes=99))
