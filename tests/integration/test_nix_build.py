"""Environments built for real: Docker, Nix, nsjail, the offline package set."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from msgspec.structs import replace

from cutor.jail.inside.nsjail_args import check_path
from cutor.model.outcome import classify
from cutor.nix.report import Built
from tests.nix_builds import Builds, new_key, variables

PYTHON = "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 ]; }"


def shell(attributes: str) -> str:
    return f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ {attributes} }}"


async def test_a_python_shell(builds: Builds) -> None:
    environment = await builds.built(PYTHON)
    python = [path for path in environment.closure if "-python3-" in path]
    assert python
    assert f"{python[0]}/bin".encode() in variables(environment)["PATH"].split(b":")
    assert environment.derivation.endswith("-nix-shell.drv")
    assert environment.closure_bytes > 10_000_000
    for program, name in (
        (environment.programs.bash, "bash"),
        (environment.programs.sh, "sh"),
        (environment.programs.env, "env"),
    ):
        assert program.startswith(environment.closure)
        assert program.endswith(f"/bin/{name}")


async def test_a_second_build_builds_nothing_and_is_quick(builds: Builds) -> None:
    first = await builds.build(PYTHON)
    second = await builds.build(PYTHON)
    assert isinstance(first, Built)
    assert isinstance(second, Built)
    assert second.environment.variables == first.environment.variables
    assert second.environment.closure == first.environment.closure
    assert b"building" not in second.report.stderr
    assert second.report.wall_time_ms is not None
    assert second.report.wall_time_ms < 30_000


async def test_files_that_shell_nix_imports(builds: Builds) -> None:
    files = {
        "shell.nix": "import ./lib/shell.nix { text = builtins.readFile ./data.txt; }",
        "lib/shell.nix": "{ text }: (import <nixpkgs> { }).mkShell { inherit text; copied = ../data.txt; }",
        "data.txt": "two\nlines",
    }
    environment = await builds.built(files)
    assert variables(environment)["text"] == b"two\nlines"
    copied = variables(environment)["copied"].decode()
    assert copied in environment.closure


async def test_an_environment_that_brings_its_own_bash_where_there_is_no_nixpkgs(builds: Builds) -> None:
    builds.settings = replace(builds.settings, nix_path="nixpkgs=/packages/none", restrict_eval=False)
    environment = await builds.built('(import /packages/nixpkgs { }).mkShell { shellHook = "export A=$(command -v env)"; }')
    assert environment.programs.env.encode() == variables(environment)["A"]
    assert environment.programs.bash.startswith(environment.closure)
    failed = await builds.failed('derivation { name = "bare"; system = builtins.currentSystem; builder = "/none"; }')
    assert failed.message.startswith("neither the environment nor <nixpkgs> has bash and env")


def odd(hook: str) -> str:
    """Return a shell without <nixpkgs>, with programs at odd places of a package."""
    script = (
        "mkdir -p $out/b@d $out/directories/bash; ln -s ${pkgs.bash}/bin/bash $out/b@d/bash;"
        " printf '#!${pkgs.bash}/bin/bash' > $out/b@d/env; chmod +x $out/b@d/env"
    )
    return f"""let pkgs = import /packages/nixpkgs {{ }}; in pkgs.mkShell {{ inherit (pkgs) bash coreutils;
      package = pkgs.runCommand "odd" {{ }} "{script}"; shellHook = "{hook}"; }}"""


@pytest.mark.parametrize(
    "path",
    [
        "$coreutils/./bin:$bash/./bin/:$package/b@d",
        "$package/directories/:$coreutils/bin//:$bash//bin/.",
        "$coreutils/bin:$package/../\\${bash##*/}/bin",
        "$coreutils/bin:$package/b@d",
    ],
)
async def test_a_path_of_odd_but_legal_form(builds: Builds, path: str) -> None:
    builds.settings = replace(builds.settings, nix_path="nixpkgs=/packages/none", restrict_eval=False)
    environment = await builds.built(odd(f"export PATH={path}"))
    got = variables(environment)
    assert environment.programs.bash == f"{got['bash'].decode()}/bin/bash"
    assert environment.programs.env == f"{got['coreutils'].decode()}/bin/env"
    for program in (environment.programs.bash, environment.programs.sh, environment.programs.env):
        assert check_path(program).startswith(environment.closure)


async def test_a_program_that_no_jail_can_be_given_is_none(builds: Builds) -> None:
    builds.settings = replace(builds.settings, nix_path="nixpkgs=/packages/none", restrict_eval=False)
    failed = await builds.failed(odd("export PATH=$bash/bin:$package/b@d"))
    assert failed.message.startswith("neither the environment nor <nixpkgs> has bash and env: add bash and coreutils")
    assert "letters, digits" in failed.message


LONG = 'builtins.concatStringsSep "" (builtins.genList (_: "x") 190)'


async def test_output_paths_longer_than_a_pipe_holds(builds: Builds) -> None:
    """400 fixed outputs that are in the store already: nix-build only prints them, 100 KB."""
    text = f"""let
      content = builtins.hashFile "sha256" ./content;
      one = number: let name = "n${{toString number}}-" + {LONG}; in builtins.seq
        (builtins.path {{ path = ./content; inherit name; recursive = false; }})
        (derivation {{ inherit name; system = builtins.currentSystem; builder = "/none"; outputHashMode = "flat";
          outputHashAlgo = "sha256"; outputHash = content; }});
    in (import <nixpkgs> {{ }}).mkShell {{ passAsFile = [ "inputs" ]; inputs = map toString (builtins.genList one 400); }}"""
    report = await builds.build({"shell.nix": text, "content": secrets.token_hex(8)}, wall_time_ms=30_000)
    assert isinstance(report, Built), report
    assert len([path for path in report.environment.closure if path.endswith("xxx")]) == 400


def texts(count: int, name: str) -> str:
    return shell(
        f'passAsFile = [ "inputs" ]; inputs = builtins.genList (n: builtins.toFile ("t${{toString n}}-" + {name}) "") {count};'
    )


async def test_a_closure_of_long_names_fits(builds: Builds) -> None:
    environment = await builds.built(texts(4500, LONG))
    assert sum(map(len, environment.closure)) > 1 << 20
    assert len(environment.closure) > 4500


async def test_a_closure_over_the_bound_is_the_users_and_leaves_no_roots(builds: Builds) -> None:
    key = new_key()
    failed = await builds.failed(texts(10_100, '"x"'), key=key)
    assert failed.message.startswith("the environment has 101")
    assert failed.message.endswith("store paths; at most 10000 are supported")
    assert classify(failed.report) == "RE"
    assert await builds.in_store(f"ls -d /nix/var/nix/gcroots/cutor/{key} 2>/dev/null || true") == ""


async def test_a_shell_that_asks_whether_it_is_one(builds: Builds) -> None:
    environment = await builds.built(
        '{ pkgs ? import <nixpkgs> { }, inNixShell ? false }: pkgs.mkShell { asked = if inNixShell then "yes" else "no"; }'
    )
    assert variables(environment)["asked"] == b"yes"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3",
            "error: syntax error, unexpected end of file",
        ),
        (shell("packages = [ pkgs.nonesuch ];"), "error: attribute 'nonesuch' missing\nat /box/shell.nix:1:"),
        ("let x = x; in x", "error: infinite recursion encountered"),
        ("let f = x: f (x + 1); in f 1", "error: stack overflow"),
        ("42", "error: shell.nix must give one derivation, as mkShell does"),
        ("import <other>", "error: file 'other' was not found in the Nix search path"),
        (
            'import (fetchTarball "https://example.org/x.tar.gz")',
            "error: access to URI 'https://example.org/x.tar.gz' is forbidden",
        ),
        ('throw "this is mine"', "error: this is mine"),
    ],
)
async def test_an_evaluation_that_fails_says_what_nix_says(builds: Builds, text: str, message: str) -> None:
    failed = await builds.failed(text)
    assert failed.message.startswith(message), failed.message
    assert classify(failed.report) == "RE"
    assert message.partition("\n")[0].encode() in failed.report.stderr


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        (shell("text = builtins.readFile ./data/note.txt;"), "--environment-file or in `environment_files`"),
        ("import ./versions.nix", "--environment-file or in `environment_files`"),
        (shell("source = ./data;"), "--environment-file or in `environment_files`"),
        ("import ../common.nix", "--environment-file or in `environment_files`"),
        ('import (fetchTarball "https://example.org/x.tar.gz")', "stand in `nix.allowed_uris`"),
    ],
)
async def test_what_an_evaluation_cannot_see_is_told_with_what_to_do(builds: Builds, text: str, advice: str) -> None:
    failed = await builds.failed(text)
    assert advice in failed.message.splitlines()[-1], failed.message


async def test_a_derivation_that_fails_is_told_with_its_log(builds: Builds) -> None:
    mark = secrets.token_hex(8)
    failed = await builds.failed(shell(f'packages = [ (pkgs.runCommand "bad" {{ }} "echo {mark}; exit 3") ];'))
    assert "builder failed with exit code 3" in failed.message
    assert f"> {mark}" in failed.message
    assert classify(failed.report) == "RE"


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("exit 0", "the shellHook ended the shell before its variables were captured"),
        ("exec true", "the shellHook ended the shell before its variables were captured"),
        ("exit 3", "the shellHook ended with exit code 3"),
        ("exec 255>&- 1>&- 2>&-; exit 4", "the shellHook ended with exit code 4"),
        ("export BIG=$(printf %0140000d 0)", "the environment is too large to be passed to a program"),
        ("ln -s /etc/passwd /capture/variables; exit 0", "is not a file that can be read"),
    ],
)
async def test_a_hook_that_leaves_no_environment(builds: Builds, hook: str, message: str) -> None:
    failed = await builds.failed(shell(f"shellHook = ''echo seen; {hook}'';"))
    assert message in failed.message
    assert failed.report.stdout == b"seen\n"
    assert classify(failed.report) == "RE"


async def test_a_variable_of_the_derivation_that_is_too_large(builds: Builds) -> None:
    big = 'builtins.concatStringsSep "" (builtins.genList (_: "x") 140000)'
    failed = await builds.failed(shell(f"big = {big};"))
    assert failed.message.startswith("the variable big of the environment is 140005 bytes")


async def test_what_nix_prints_comes_while_it_builds(builds: Builds) -> None:
    pieces: list[bytes] = []
    mark = secrets.token_hex(8)
    script = f"for i in 1 2 3; do echo {mark} $i; sleep 0.4; done; touch $out"
    await builds.built(shell(f'packages = [ (pkgs.runCommand "slow" {{ }} "{script}") ];'), on_progress=pieces.append)
    assert len(pieces) >= 3
    assert all(f"{mark} {number}".encode() in b"".join(pieces) for number in (1, 2, 3))


async def test_a_built_environment_is_rooted_and_a_failed_one_is_not(builds: Builds) -> None:
    built, failed = new_key(), new_key()
    environment = await builds.built(PYTHON, key=built)
    await builds.build(PYTHON, key=built)  # the same key again: replaced, not doubled
    await builds.failed(shell('shellHook = "exit 1";'), key=failed)
    listing = await builds.in_store(
        f"cd /nix/var/nix/gcroots/cutor; ls; echo; readlink {built}/*; ls -A {failed} 2>/dev/null || true"
    )
    names, _, targets = listing.partition("\n\n")
    assert built in names.split()
    assert failed not in names.split()
    assert set(targets.split()) <= set(environment.closure)
    assert any("-python3-" in target for target in targets.split())
    assert environment.programs.bash.rsplit("/", 2)[0] in targets.split()
    assert await builds.in_store("shopt -s nullglob; echo /nix/var/nix/gcroots/cutor/.half*") == "\n"


async def test_builds_of_one_key_at_once(builds: Builds) -> None:
    key = new_key()
    reports = await asyncio.gather(*(builds.build(shell(f'number = "{number}";'), key=key) for number in range(3)))
    assert all(isinstance(report, Built) for report in reports)
    listing = await builds.in_store(f"ls -A /nix/var/nix/gcroots/cutor; readlink /nix/var/nix/gcroots/cutor/{key}/*")
    assert ".half-made-" not in listing


async def test_two_builds_of_the_same_thing_at_once(builds: Builds) -> None:
    mark = secrets.token_hex(8)
    text = shell(f'packages = [ (pkgs.runCommand "shared" {{ }} "echo {mark}; sleep 1; mkdir -p $out/bin") ];')
    reports = await asyncio.gather(builds.build(text), builds.build(text))
    environments = [report.environment for report in reports if isinstance(report, Built)]
    assert len(environments) == 2
    assert environments[0].variables == environments[1].variables
    assert sum(f"\n{mark}\n".encode() in report.report.stderr for report in reports) == 1, "built once, waited for by the other"


async def test_a_cancelled_build_leaves_nothing(builds: Builds) -> None:
    started = asyncio.Event()
    script = "echo started; sleep 60"
    task = asyncio.create_task(
        builds.build(
            shell(f'packages = [ (pkgs.runCommand "long-{secrets.token_hex(4)}" {{ }} "{script}") ];'),
            on_progress=lambda piece: started.set() if b"started" in piece else None,
        )
    )
    await asyncio.wait_for(started.wait(), 180)
    assert len(await builds.containers()) == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 180)
    assert await builds.containers() == []
    await builds.built(PYTHON)  # the store is as it was
