"""The captured variables against those of a real ``nix-shell --pure``, which a test container runs on the same store."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
import pytest

from cutor.jail.inside.protocol import FrameReader
from cutor.model.environments import unpack_variables
from cutor.nix.inside.shell import END_OF_CAPTURE
from cutor.nix.inside.variables import DROPPED
from cutor.nix.session import encode_job
from tests.nix_builds import LIMIT, Builds, new_key, variables
from tests.stores import builder_container

REFERENCE: Final = """
import os, sys
sys.path[0] = "/opt/cutor"
from cutor.jail.inside.cgroup import Cgroup
from cutor.jail.inside.channel import Program, pack_variables
from cutor.jail.inside.host_link import HostLink
from cutor.jail.inside.nsjail_args import Bind, nsjail_command
from cutor.jail.inside.stage import run_stage
from cutor.nix.inside import build_init, daemon, jails, namespace, shell, store
from cutor.nix.inside.files import read_file
from cutor.nix.inside.job import decode_job

def reference():
    link, cgroup = HostLink(), Cgroup()
    lock = store.hold_lock(lambda: None)
    job = decode_job(link.next())
    build_init.Build(job, link, cgroup, lock)._prepare()
    running = daemon.start(job.daemon_configuration, job.limits.file_size_bytes, job.limits.open_files)
    dump = f"exec {shell.DUMP_PROGRAM} -p -c {shell.quote(shell._DUMP)} dump /home/variables"
    command = ["/usr/bin/nix-shell", "--pure", "/box/shell.nix", *job.options, "--run", dump]
    given = daemon.CLIENT_VARIABLES | {"HOME": "/tmp", "NIX_PATH": job.nix_path, "NIX_CONFIG": f"cores = {job.cores}"}
    program = Program([word.encode() for word in command], pack_variables({n.encode(): v.encode() for n, v in given.items()}))
    jail = jails.evaluation_jail(job.policy, network=False)
    jail = jail._replace(mounts=(*jail.mounts, Bind("/opt/cutor/bin", "/opt/cutor/bin")))
    result = run_stage(nsjail_command(jail), program, job.limits, b"", host=link, cgroup=cgroup, run_as=build_init.JAILED)
    running.stop()
    block = read_file(f"{jails.HOME}/variables", 1 << 22) or b""
    link.send({"type": "reference", "report": result.header()}, [*result.body(), block])
    return 0

if "CUTOR_IN_NAMESPACE" in os.environ:
    sys.exit(reference())
os.environ["CUTOR_IN_NAMESPACE"] = "1"
sys.exit(namespace.run_in_namespace(lambda: os.execv(sys.executable, sys.orig_argv)))
"""
"""The build init's own pieces, with a real nix-shell in the first jail: beside the socket, as cutor never runs a hook."""


async def nix_shell(builds: Builds, text: str) -> dict[str, bytes]:
    """Return what the real nix-shell passes to a command, without what describes the shell, its directory called /tmp."""
    child = await builds.engine.start(builder_container(["/usr/bin/python3", "-S", "-E", "-c", REFERENCE], builds.settings))
    try:
        await child.send(encode_job(builds.settings, new_key(), {"shell.nix": text.encode()}, LIMIT))
        reader = FrameReader()
        while not (frames := reader.feed(data := await child.receive())):
            assert data, child.stderr_tail.decode()
    finally:
        await child.remove()
    report = msgspec.json.decode(frames[0].header)["report"]
    printed = report["stdout_bytes"] + report["stderr_bytes"]
    assert report["exit_code"] == 0, frames[0].body[:printed]
    block = frames[0].body[printed:].removesuffix(END_OF_CAPTURE + b"\0")
    found = {name.decode(): value for name, value in unpack_variables(block)}
    top = found["NIX_BUILD_TOP"]
    assert top.startswith(b"/tmp/")
    return {name: moved(value, top) for name, value in found.items() if name.encode() not in DROPPED}


def moved(value: bytes, top: bytes) -> bytes:
    """Return a value with nix-shell's own directory where cutor has it: files of attributes apart, everything else in /tmp."""
    return value.replace(top + b"/.attr", b"/attributes/.attr") if value != top else b"/tmp"


def shell(attributes: str) -> str:
    return f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ {attributes} }}"


EXPORTS: Final = r"""
  export LINES_="first
  second  with  spaces

  last" EQUALS="a=b==c" QUOTES="it's \"quoted\" \\ and \$dollar \`tick\`" UNICODE="grüße ☃ 日本" EMPTY=
  export BYTES=$'\xff\xfe\x01 end' TRAILING=$'newline\n' TAB=$'a\tb'
  greet() { echo "hello $1"; local x='a b'; }
  export -f greet
  export PATH="/first:$PATH:/last"
  not_exported=1
  unset SOURCE_DATE_EPOCH
"""

SHELLS: Final = {
    "packages": "packages = [ pkgs.python3 pkgs.gnugrep ]; buildInputs = [ pkgs.gnused ];",
    "attributes": 'name = "my-shell"; MULTI = "a\\nb = c"; list = [ "a" "b c" ]; yes = true; no = false; none = null; n = 7;',
    "exports": f"shellHook = ''{EXPORTS}'';",
    "hook changes the loader": 'packages = [ pkgs.python3 ]; shellHook = "export LD_LIBRARY_PATH=/none LD_PRELOAD=/none.so";',
    "hook empties PATH": 'shellHook = "export PATH=";',
    "hook unsets PATH": 'shellHook = "unset PATH";',
    "hook with BASH_ENV": 'shellHook = "export BASH_ENV=/box/shell.nix ENV=/box/shell.nix";',
    "hook with readonly and traps": (
        "shellHook = \"declare -rx FIXED=1; readonly PATH; trap 'echo bye' EXIT; trap 'true' DEBUG; set -e; export AFTER=2\";"
    ),
    "hook with strict modes": 'shellHook = "set -euo pipefail; export A=1";',
    "hook sees its shell": (
        'shellHook = "export SEEN=$IN_NIX_SHELL:$name:$out:$#:$PWD DEPTRACK=$dontAddDisableDepTrack OPTS=$(shopt -p nullglob)";'
    ),
    "hook sets locale": 'shellHook = "export LC_ALL=C.UTF-8 LANG=de_DE.UTF-8; export U=ü";',
    "hook sets IFS": 'shellHook = "export IFS=:; export A=b:c";',
    "structured attributes": '__structuredAttrs = true; words = [ "a b" "c" ]; env = { };',
    "attributes passed as files": 'passAsFile = [ "text" ]; text = "long"; other = "short";',
    "a plain derivation": 'shellHook = "export A=1";',
}


@pytest.mark.parametrize("name", SHELLS)
async def test_variables_are_those_of_nix_shell(builds: Builds, name: str) -> None:
    text = shell(SHELLS[name])
    if name == "a plain derivation":
        text = (
            'let pkgs = import <nixpkgs> { }; in derivation { name = "plain"; system = builtins.currentSystem;'
            ' builder = "${pkgs.coreutils}/bin/true"; A = "1"; shellHook = "export NEVER=1"; TMPDIR = "/mine"; }'
        )
    expected, environment = await asyncio.gather(nix_shell(builds, text), builds.built(text))
    assert variables(environment) == expected


async def test_values_are_what_the_hook_gave(builds: Builds) -> None:
    got = variables(await builds.built(shell(f"shellHook = ''{EXPORTS}'';")))
    assert got["LINES_"] == b"first\nsecond  with  spaces\n\nlast"  # Nix strips the common indentation
    assert got["EQUALS"] == b"a=b==c"
    assert got["QUOTES"] == b'it\'s "quoted" \\ and $dollar `tick`'
    assert got["UNICODE"] == "grüße ☃ 日本".encode()
    assert got["EMPTY"] == b""
    assert got["BYTES"] == b"\xff\xfe\x01 end"
    assert got["TRAILING"] == b"newline\n"
    assert got["PATH"].startswith(b"/first:/nix/store/")
    assert got["PATH"].endswith(b":/last")
    assert b"hello $1" in got["BASH_FUNC_greet%%"]
    assert "not_exported" not in got
    assert "SOURCE_DATE_EPOCH" not in got


async def test_the_hook_runs_once_and_prints_to_the_stage(builds: Builds) -> None:
    report = await builds.build(shell('shellHook = "echo to stdout; echo to stderr >&2";'))
    assert report.report.stdout == b"to stdout\n"
    assert report.report.stderr.endswith(b"to stderr\n")
    assert report.report.stderr.count(b"to stderr") == 1


async def test_nothing_of_the_image_or_of_cutor_leaks(builds: Builds) -> None:
    got = variables(await builds.built('derivation { name = "bare"; system = builtins.currentSystem; builder = "/none"; }'))
    assert set(got) == {
        *("HOME", "IN_NIX_SHELL", "NIX_BUILD_CORES", "NIX_BUILD_TOP", "NIX_STORE", "TEMP", "TEMPDIR", "TMP", "TMPDIR"),
        *("__ETC_PROFILE_SOURCED", "name", "system", "builder", "out"),
    }


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("exec 3>&- 4>&- 255>&- 0<&-; export A=1", "A"),
        ("exec >/dev/null 2>&1; export A=1", "A"),
        ("echo 'A=0' >&7 2>/dev/null; printf 'end of capture\\0'; export A=1", "A"),
        ("cd /tmp; umask 0777; export A=1", "A"),
        ("shopt -s expand_aliases; alias exec=false builtin=false; export A=1", "A"),
        ("(sleep 60; echo late) & export A=1", "A"),
        ("kill -TERM $$; trap : INT HUP; export A=1", "A"),
    ],
)
async def test_a_hook_that_does_odd_things_is_captured_all_the_same(builds: Builds, hook: str, name: str) -> None:
    got = variables(await builds.built(shell(f"shellHook = ''trap true TERM; {hook}'';")))
    assert got[name] == b"1"
