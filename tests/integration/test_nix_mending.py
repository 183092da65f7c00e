"""Store paths that Nix's database promises and the disk lacks: the next build brings them back, or says what is wrong.

The tests delete by hand, in the copy of the store that this run of tests has: each leaves it whole.
"""

from __future__ import annotations

import asyncio
import secrets

import pytest

from cutor.containers.errors import SessionFault
from tests.nix_builds import Builds, variables

SHELL = """
{ pkgs ? import <nixpkgs> { } }:
let made = pkgs.runCommand "made-@" { } "mkdir $out; echo @ > $out/token"; in
pkgs.mkShell { MADE = made; SOURCE = ./notes.txt; shellHook = "read -r TOKEN < ${made}/token; export TOKEN"; }
"""
FOREVER = """
import os, sys
sys.path.insert(0, "/opt/cutor")
from cutor.nix.inside.store import hold_lock
hold_lock(lambda: None)
print("held", flush=True)
sys.stdin.read()
"""
NIX = "NIX_REMOTE=local HOME=/tmp"


def sources(token: str) -> dict[str, str]:
    """Return an environment that nobody else has."""
    return {"shell.nix": SHELL.replace("@", token), "notes.txt": f"notes of {token}"}


async def built(builds: Builds, token: str) -> dict[str, str]:
    """Build it, and return what its variables say; its closure is on the disk."""
    environment = await builds.built(sources(token))
    assert await builds.in_store(f"for path in {' '.join(environment.closure)}; do [ -e $path ] || echo $path; done") == ""
    found = {name: value.decode() for name, value in variables(environment).items()}
    assert found["TOKEN"] == token
    return found


async def delete(builds: Builds, *patterns: str) -> list[str]:
    """Delete store paths by hand; return them."""
    names = " ".join(f"/nix/store/{pattern}" for pattern in patterns)
    script = f"for path in {names}; do [ -h $path ] || chmod -R u+w $path; rm -rf $path; echo $path; done"
    deleted = (await builds.in_store(script)).split()
    assert deleted
    assert not [path for path in deleted if "*" in path], "nothing of that name was there"
    return deleted


@pytest.mark.parametrize(
    "patterns",
    [
        ("*-made-{}",),
        ("*-made-{}", "*-made-{}.drv"),
        ("*-notes.txt", "*-nix-shell.drv"),
        ("*-bash-5*[0-9]",),  # of the package set: everything refers to it
        ("*-bash-5*[0-9]", "*-runtime-*[0-9]", "*-stdenv-offline"),  # one needs the other to be made
        ("*-bash-5*[0-9]", "*-bash-5*.drv", "*-setup.sh", "*-build.sh", "*-made-{}"),
        ("*-coreutils_*.deb", "*-coreutils-[0-9]*"),
        ("*.drv",),
    ],
)
async def test_what_was_deleted_by_hand_comes_back_with_the_next_build(builds: Builds, patterns: tuple[str, ...]) -> None:
    token = f"t{secrets.token_hex(4)}"
    before = await built(builds, token)
    await delete(builds, *(pattern.format(token) for pattern in patterns))
    assert await built(builds, token) == before
    assert b"disappeared" not in (await builds.in_store(f"export {NIX}; nix-store --verify 2>&1")).encode()


async def test_an_environment_that_is_new_is_built_where_the_package_set_lost_its_shell(builds: Builds) -> None:
    """Its build fails by itself: a failure is not believed before the store has been looked at."""
    await delete(builds, "*-bash-5*[0-9]")
    await built(builds, f"t{secrets.token_hex(4)}")


async def test_a_failure_of_the_submission_stays_one(builds: Builds) -> None:
    await delete(builds, "*-lua-*[0-9]")
    failed = await builds.failed("{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.nothing-of-that-name ]; }")
    assert "nothing-of-that-name" in failed.message


async def test_what_cannot_be_repaired_goes_with_all_that_refers_to_it_and_is_made_anew(own_store: Builds) -> None:
    """The evaluation that would bring back its derivation fails by itself."""
    builds = own_store
    before = await built(builds, token := f"t{secrets.token_hex(4)}")
    await delete(builds, "*-bash-5*[0-9]", "*-bash-5*.drv")
    await builds.failed('{ pkgs ? import <nixpkgs> { } }: throw "no"')
    assert await builds.in_store("shopt -s nullglob; echo /nix/store/*-stdenv-offline") == "\n"
    assert await built(builds, token) == before


async def test_what_vanishes_whenever_it_was_made_is_a_fault_that_says_what_is_missing_and_what_to_do(builds: Builds) -> None:
    await built(builds, token := f"t{secrets.token_hex(4)}")
    (path,) = await delete(builds, f"*-made-{token}")
    vandal = f"echo begun; while :; do if [ -e {path} ]; then chmod -R u+w {path}; rm -rf {path}; fi; done"
    async with builds.holding(["/usr/bin/bash", "-c", vandal]) as child:
        assert await child.receive() == b"begun\n"
        with pytest.raises(SessionFault) as caught:
            await builds.built(sources(token))
    assert "\n" not in str(caught.value)
    assert path in str(caught.value) or "nix-build" in str(caught.value)


async def test_a_build_that_mends_waits_for_others_and_others_wait_for_it(builds: Builds) -> None:
    token = f"t{secrets.token_hex(4)}"
    before = await built(builds, token)
    await delete(builds, f"*-made-{token}")
    async with builds.holding(["/usr/bin/python3", "-S", "-E", "-c", FOREVER]) as other:
        assert await other.receive() == b"held\n"
        mending = asyncio.create_task(built(builds, token))
        done, _ = await asyncio.wait({mending}, timeout=4)
        assert not done, "the store was mended under another build"
        later = asyncio.create_task(built(builds, f"t{secrets.token_hex(4)}"))
        done, _ = await asyncio.wait({later}, timeout=2)
        assert not done, "a build began before the store was mended"
        await other.close_stdin()
        assert await mending == before
        await later


async def test_several_builds_that_find_the_same_loss_all_end_well(builds: Builds) -> None:
    token = f"t{secrets.token_hex(4)}"
    before = await built(builds, token)
    await delete(builds, f"*-made-{token}", "*-bash-5*[0-9]")
    assert await asyncio.gather(*(built(builds, token) for _ in range(3))) == [before] * 3
