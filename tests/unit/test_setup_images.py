"""The child image's inputs, read and digested without an engine."""

import io
import tarfile
from pathlib import Path

import pytest

from cutor.config import made_image
from cutor.setup import rootfs
from cutor.setup.base_image import check_nix_version, nix_version, recipe_digest
from cutor.setup.child_image import (
    KEPT,
    Item,
    inputs_digest,
    layer,
    name_of,
    parse_contents,
    protocol_version,
    read_files,
    superseded,
)
from cutor.setup.console import SetupError
from cutor.setup.docker_api import Image
from cutor.setup.rootfs import RootFileSystem, certificate_bundle, keep_useful, merged_path
from cutor.setup.steps import name_in

FILES = [("/opt/cutor/a.py", 0o644, b"a"), ("/etc/nix/nix.conf", 0o644, b"x")]


def test_contents_with_comments_and_blank_lines() -> None:
    text = "# head\n\ncutor/a.py   /opt/cutor/a.py  # why\n\tcutor/setup/image/nix.conf\t/etc/nix/nix.conf\n"
    assert parse_contents(text) == [
        Item(Path("cutor/a.py"), "/opt/cutor/a.py"),
        Item(Path("cutor/setup/image/nix.conf"), "/etc/nix/nix.conf"),
    ]


@pytest.mark.parametrize("line", ["only-one", "a b c", "a relative/destination", "a /opt/../etc/passwd"])
def test_bad_contents_line_is_named(line: str) -> None:
    with pytest.raises(SetupError, match=r"contents\.txt, line 2"):
        parse_contents(f"# head\n{line}\n")


def test_missing_source_is_named(tmp_path: Path) -> None:
    (tmp_path / "cutor/setup/image").mkdir(parents=True)
    (tmp_path / "cutor/setup/image/contents.txt").write_text("cutor/gone.py /opt/cutor/gone.py\n")
    with pytest.raises(SetupError, match=r"lists cutor/gone\.py, which is missing"):
        read_files(tmp_path)


def test_executable_bit_is_kept(tmp_path: Path) -> None:
    (tmp_path / "cutor/setup/image").mkdir(parents=True)
    (tmp_path / "cutor/setup/image/contents.txt").write_text("run /opt/run\nread /opt/read\n")
    (tmp_path / "run").write_text("#!")
    (tmp_path / "run").chmod(0o700)
    (tmp_path / "read").write_text("")
    (tmp_path / "read").chmod(0o600)
    assert [(path, mode) for path, mode, _ in read_files(tmp_path)] == [("/opt/run", 0o755), ("/opt/read", 0o644)]


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("PROTOCOL_VERSION = 3\n", "3"),
        ("import x\nPROTOCOL_VERSION: Final = 12  # why\n", "12"),
        ("PROTOCOL_VERSION: typing.Final[int] = 4\n", "4"),
        ("OTHER_PROTOCOL_VERSION = 3\n", None),
        ("", None),
    ],
)
def test_protocol_version(text: str, version: str | None) -> None:
    assert protocol_version(text) == version


def test_digest_covers_base_places_modes_contents_and_commands_but_not_order() -> None:
    reference = inputs_digest("base", FILES, ["cc"])
    assert inputs_digest("base", FILES[::-1], ["cc"]) == reference
    changed = [
        inputs_digest("other", FILES, ["cc"]),
        inputs_digest("base", FILES[:1], ["cc"]),
        inputs_digest("base", [("/opt/cutor/b.py", 0o644, b"a"), FILES[1]], ["cc"]),
        inputs_digest("base", [("/opt/cutor/a.py", 0o755, b"a"), FILES[1]], ["cc"]),
        inputs_digest("base", [("/opt/cutor/a.py", 0o644, b"b"), FILES[1]], ["cc"]),
        inputs_digest("base", FILES, ["cc", "-O2"]),
    ]
    assert len({reference, *changed}) == len(changed) + 1


def test_layer_has_directories_before_files_and_root_as_owner() -> None:
    with tarfile.open(fileobj=io.BytesIO(layer(FILES))) as tar:
        members = tar.getmembers()
    assert [m.name for m in members] == ["etc", "etc/nix", "opt", "opt/cutor", "etc/nix/nix.conf", "opt/cutor/a.py"]
    assert {(m.uid, m.gid, m.mtime) for m in members} == {(0, 0, 0)}


@pytest.mark.parametrize(
    ("path", "merged"),
    [
        ("./usr/bin/bash", "usr/bin/bash"),
        ("./bin/bash", "usr/bin/bash"),
        ("./lib64/ld-linux-x86-64.so.2", "usr/lib64/ld-linux-x86-64.so.2"),
        ("./lib", ""),
        ("./", ""),
        (".", ""),
        ("./etc/passwd", "etc/passwd"),
        ("./libexec/x", "libexec/x"),
    ],
)
def test_merged_path(path: str, merged: str) -> None:
    assert merged_path(path) == merged


def test_documentation_is_left_out() -> None:
    assert keep_useful("usr/share/doc/bash/README") is None
    assert keep_useful("usr/share/documents") == "usr/share/documents"


def test_root_file_system_keeps_the_first_of_two_entries() -> None:
    output = io.BytesIO()
    root = RootFileSystem(output)
    root.file("etc/hosts", b"first")
    root.file("etc/hosts", b"second")
    root.link("usr/bin/sh", "bash")
    root.close()
    with tarfile.open(fileobj=io.BytesIO(output.getvalue())) as tar:
        hosts = tar.extractfile("etc/hosts")
        assert hosts is not None
        assert hosts.read() == b"first"
        assert tar.getmember("lib64").linkname == "usr/lib64"
        assert tar.getmember("usr/bin/sh").linkname == "bash"


def test_build_users_are_members_of_their_group() -> None:
    files = rootfs.accounts()
    builders = [line.split(":") for line in files["etc/passwd"].splitlines() if line.startswith("nixbld")]
    assert [fields[2:4] for fields in builders] == [[str(30000 + n), "30000"] for n in range(1, 9)]
    group = next(line for line in files["etc/group"].splitlines() if line.startswith("nixbld:"))
    assert group == f"nixbld:x:30000:{','.join(fields[0] for fields in builders)}"


def test_certificates_in_a_fixed_order_each_ended_by_a_newline() -> None:
    files = {"b.crt": b"B", "a.crt": b"A\n\n", "README": b"no"}
    assert certificate_bundle(files) == b"A\nB\n"


def test_nix_version() -> None:
    assert nix_version("some warning\nnix (Nix) 2.34.8\n") == (2, 34, 8)
    with pytest.raises(SetupError, match="prints no version"):
        nix_version("bash: nix: command not found")


@pytest.mark.parametrize("version", [(2, 34, 5), (2, 34, 10), (2, 35, 0), (3, 0, 0)])
def test_safe_nix(version: tuple[int, ...]) -> None:
    check_nix_version(version)


@pytest.mark.parametrize("version", [(2, 34, 4), (2, 33, 9), (1, 99, 99)])
def test_unsafe_nix_is_refused(version: tuple[int, ...]) -> None:
    with pytest.raises(SetupError, match=r"older than 2\.34\.5"):
        check_nix_version(version)


def test_another_nsjail_is_another_base() -> None:
    assert recipe_digest("0.3.0") != recipe_digest("0.3.1")


def test_the_name_of_an_image_is_one_that_cutor_takes(tmp_path: Path) -> None:
    (tmp_path / "note").write_text(name := name_of(inputs_digest("base", FILES, ["cc"])))
    assert made_image(tmp_path / "note") == name


def test_the_newest_images_stay_and_those_that_have_a_reason() -> None:
    def image(number: int, *more: str) -> Image:
        return Image((f"cutor-child:{number:016x}", *more), number, {})

    newest = [image(number) for number in range(100, 100 + KEPT)]
    old = [image(1), image(2), image(3, "cutor-child:latest")]
    assert superseded([*old, *newest], own=old[1].names[0]) == [old[0].names[0]]
    assert superseded(newest, own="") == []


def test_a_set_up_has_one_name_for_ever(tmp_path: Path) -> None:
    names = []
    for damage in ("", "", "nonsense"):
        with (tmp_path / "lock").open("a+") as lock:
            names.append(name_in(lock))
        if damage:
            (tmp_path / "lock").write_text(damage)
    assert names[0] == names[1] == names[2]
    with (tmp_path / "lock").open("a+") as lock:
        assert len(name_in(lock)) == 12
