"""Where set-up takes packages from: the machine's own sources, read and never changed."""

from pathlib import Path

import pytest

from cutor.setup.apt import (
    Package,
    Source,
    debian_mirror,
    machine_sources,
    options,
    parse_deb822_sources,
    parse_one_line_sources,
    parse_print_uris,
    release_sources,
    sources_file,
    status_file,
)
from cutor.setup.console import SetupError

MAIN = Source("http://mirror.example/debian", "bookworm", ("main",))
SECURITY = Source("http://mirror.example/debian-security", "bookworm-security", ("main", "contrib"))
UPDATES = Source("http://mirror.example/debian", "bookworm-updates", ("main",))
THIRD_PARTY = Source("https://packages.example/tool", "bookworm", ("main",))
CLOUD = Source("https://packages.example/apt", "cloud-sdk-bookworm", ("main",))


def test_one_line_sources_with_options_and_comments() -> None:
    text = """
# deb http://commented.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://a.example/debian bookworm main contrib # note
deb-src http://a.example/debian bookworm main
deb http://b.example/debian-security bookworm-security main
deb broken
"""
    assert parse_one_line_sources(text) == [
        Source("http://a.example/debian", "bookworm", ("main", "contrib")),
        Source("http://b.example/debian-security", "bookworm-security", ("main",)),
    ]


def test_deb822_sources_with_lists_comments_and_continuation_lines() -> None:
    text = """# a comment
Types: deb deb-src
URIs: http://a.example/debian
Suites: bookworm bookworm-updates
Components: main
 contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb-src
URIs: http://a.example/debian
Suites: bookworm

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
"""
    assert parse_deb822_sources(text) == [
        Source("http://a.example/debian", "bookworm", ("main", "contrib")),
        Source("http://a.example/debian", "bookworm-updates", ("main", "contrib")),
    ]


def test_machine_sources_reads_both_formats_and_no_other_file(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text("deb http://a.example/debian bookworm main\n")
    (parts / "b.list").write_text("deb http://b.example/debian bookworm main\n")
    (parts / "c.sources").write_text("Types: deb\nURIs: http://c.example/debian\nSuites: bookworm\nComponents: main\n")
    (parts / "d.list.save").write_text("deb http://d.example/debian bookworm main\n")
    assert [source.uri[7] for source in machine_sources(tmp_path)] == ["a", "b", "c"]


def test_machine_without_sources_list(tmp_path: Path) -> None:
    assert machine_sources(tmp_path) == []


@pytest.mark.parametrize("order", [[THIRD_PARTY, CLOUD, SECURITY, MAIN], [MAIN, THIRD_PARTY], [SECURITY, MAIN]])
def test_mirror_is_the_archive_itself_whatever_the_order(order: list[Source]) -> None:
    assert debian_mirror(order, None, "bookworm") == MAIN.uri


def test_mirror_setting_wins() -> None:
    assert debian_mirror([MAIN], "http://mine.example/debian", "bookworm") == "http://mine.example/debian"


def test_no_mirror_is_one_clear_line() -> None:
    with pytest.raises(SetupError, match=r"^no mirror of Debian bookworm .* set CUTOR_DEBIAN_MIRROR to the address of one$"):
        debian_mirror([CLOUD, SECURITY], None, "bookworm")


def test_release_takes_updates_and_security_of_the_machine_but_no_other_component() -> None:
    found = release_sources([SECURITY, CLOUD, UPDATES, MAIN], None, "bookworm")
    assert found == [MAIN, Source(SECURITY.uri, "bookworm-security", ("main",)), UPDATES]


def test_sources_file_reads_back() -> None:
    text = sources_file([MAIN, SECURITY], Path("/keys.gpg"))
    assert parse_deb822_sources(text) == [MAIN, SECURITY]
    assert text.count("Signed-By: /keys.gpg") == 2


def test_every_path_apt_writes_to_is_ours() -> None:
    given = dict(option.removeprefix("--option=").split("=", 1) for option in options(Path("/ours")))
    for name in ("Dir::State::lists", "Dir::State::status", "Dir::Cache", "Dir::Etc::sourcelist", "Dir::Etc::sourceparts"):
        assert given[name].startswith("/ours/")


def test_assumed_packages_satisfy_any_lower_bound() -> None:
    text = status_file(["dpkg", "passwd"])
    assert text.count("Version: 999:999\n") == 2
    assert "Package: passwd\nStatus: install ok installed\n" in text


def test_print_uris_gives_versions_with_their_epoch() -> None:
    output = """Reading package lists...
'http://m.example/pool/main/a/attr/libattr1_2.6.0-1_amd64.deb' libattr1_1%3a2.6.0-1_amd64.deb 24676 MD5Sum:5de6
'http://m.example/pool/main/b/bash/bash-static_5.3-4_amd64.deb' bash-static_5.3-4_amd64.deb 1269964 MD5Sum:cd99
"""
    assert parse_print_uris(output) == [
        Package("libattr1", "1:2.6.0-1", "libattr1_1%3a2.6.0-1_amd64.deb"),
        Package("bash-static", "5.3-4", "bash-static_5.3-4_amd64.deb"),
    ]
