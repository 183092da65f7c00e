"""The offline package set's choice of archives and its digests."""

import base64
import hashlib

import pytest

from cutor.setup.apt import Package
from cutor.setup.debian_set import DEBIAN_NAMES, Archive, Chosen, divide, from_json, store_name, to_json, upstream_version
from cutor.setup.package_set import contents_digest, nar_digest, recipe_digest

LIBC = Package("libc6", "2.36-9", "libc6_2.36-9_amd64.deb")
SED = Package("sed", "4.9-1", "sed_4.9-1_amd64.deb")


def archive(package: Package) -> Archive:
    return Archive(package.file_name, hashlib.sha256(package.name.encode()).hexdigest(), package.file_name)


@pytest.mark.parametrize(
    ("version", "upstream"),
    [("4.9-1", "4.9"), ("4:12.2.0-3", "12.2.0"), ("1.34+dfsg-1.2+deb12u1", "1.34+dfsg"), ("5.4.4", "5.4.4")],
)
def test_upstream_version(version: str, upstream: str) -> None:
    assert upstream_version(version) == upstream


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("sed_4.9-1_amd64.deb", "sed_4.9-1_amd64.deb"),
        ("zlib1g_1%3a1.2.13.dfsg-1_amd64.deb", "zlib1g_1-1.2.13.dfsg-1_amd64.deb"),
        ("x_1~rc1_all.deb", "x_1-rc1_all.deb"),
        ("libstdc++6_12_amd64.deb", "libstdc++6_12_amd64.deb"),
    ],
)
def test_names_that_the_store_accepts(file_name: str, name: str) -> None:
    assert store_name(file_name) == name


def test_the_runtime_is_in_no_other_package() -> None:
    plan = {"runtime": [LIBC], "gnused": [LIBC, SED]}
    chosen = divide(plan, {package.file_name: archive(package) for package in (LIBC, SED)})
    assert chosen == {"runtime": Chosen("2.36", (archive(LIBC),)), "gnused": Chosen("4.9", (archive(SED),))}


def test_listing_reads_back() -> None:
    chosen = {"gnused": Chosen("4.9", (archive(SED),))}
    assert from_json(to_json(chosen)) == chosen


def test_nar_digest_equals_that_of_nix() -> None:
    # nix-hash --type sha256 --sri of an executable file that holds "hello\n"
    assert base64.b64encode(bytes.fromhex(nar_digest(b"hello\n"))).decode() == "ZUNgOdP5PKGajb8cYLFXOe1Y9T8UuNNyrMGzUVMwEPo="


def test_contents_digest_covers_small_files_and_archives() -> None:
    chosen = {"gnused": Chosen("4.9", (archive(SED),))}
    other = {"gnused": Chosen("4.9", (archive(LIBC),))}
    digests = {
        contents_digest({"default.nix": b"1"}, chosen),
        contents_digest({"default.nix": b"2"}, chosen),
        contents_digest({"lib.nix": b"1"}, chosen),
        contents_digest({"default.nix": b"1"}, other),
    }
    assert len(digests) == 4


def test_recipe_digest_covers_names_and_contents() -> None:
    assert len({recipe_digest(files) for files in ({"a": b"bc"}, {"ab": b"c"}, {"a": b"b"}, {})}) == 4


def test_the_set_holds_what_the_documentation_promises() -> None:
    promised = {"bash", "coreutils", "gnugrep", "gnused", "gawk", "findutils", "diffutils", "gnutar", "gzip"}
    assert promised | {"gnumake", "python3", "gcc", "nodejs", "lua"} <= set(DEBIAN_NAMES)
