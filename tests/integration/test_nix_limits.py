"""Limits of a build hold for evaluator and builders together; what a hostile shell.nix tries gives it nothing."""

from __future__ import annotations

import asyncio
import secrets
import time
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from cutor.model.limits import MIB
from cutor.model.outcome import classify
from tests.nix_builds import Builds, variables


def core_pattern() -> bytes:
    return Path("/proc/sys/kernel/core_pattern").read_bytes()


def shell(attributes: str) -> str:
    return f"{{ pkgs ? import <nixpkgs> {{ }} }}: pkgs.mkShell {{ {attributes} }}"


def builder(script: str) -> str:
    """Return a shell that needs a derivation which runs ``script`` in a builder, new every time."""
    return shell(
        f"packages = [ (pkgs.runCommand \"hostile-{secrets.token_hex(4)}\" {{ python = pkgs.python3; }} ''\n{script}\n'') ];"
    )


SPIN: Final = "while :; do :; done"
GROW: Final = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"
GROW_NIX: Final = "let l = builtins.genList (x: x) 100000000; in builtins.deepSeq l l"
SPIN_NIX: Final = (
    'builtins.foldl\' (a: b: builtins.seq (builtins.hashString "sha512" (toString b)) a) 0 (builtins.genList (x: x) 3000000)'
)


@pytest.mark.parametrize(
    ("text", "limits", "outcome", "message"),
    [
        (shell(f'shellHook = "{SPIN}";'), {"wall_time_ms": 1500}, "TLE_WALL", "took longer than 1500 ms"),
        (shell(f'shellHook = "{SPIN}";'), {"cpu_time_ms": 700}, "TLE_CPU", "used more than 700 ms of CPU time"),
        (shell('shellHook = "sleep 60";'), {"wall_time_ms": 1000}, "TLE_WALL", "took longer than 1000 ms"),
        (SPIN_NIX, {"cpu_time_ms": 700}, "TLE_CPU", "used more than 700 ms of CPU time"),
        (builder(SPIN), {"cpu_time_ms": 1000}, "TLE_CPU", "used more than 1000 ms of CPU time"),
        (builder("sleep 60"), {"wall_time_ms": 1500}, "TLE_WALL", "took longer than 1500 ms"),
        (GROW_NIX, {"memory_bytes": 256 * MIB}, "MLE", "needed more than 256 MiB of memory"),
        (builder(GROW), {"memory_bytes": 256 * MIB}, "MLE", "needed more than 256 MiB of memory"),
        (shell(f'shellHook = "{GROW}";'), {"memory_bytes": 256 * MIB}, "MLE", "needed more than 256 MiB of memory"),
        (builder("yes"), {"stderr_bytes": 100_000}, "OLE", "printed more than 100000 bytes to stderr"),
        (shell('shellHook = "yes";'), {"stdout_bytes": 50_000}, "OLE", "printed more than 50000 bytes to stdout"),
    ],
)
async def test_a_limit_ends_the_build_and_is_named(
    builds: Builds, text: str, limits: dict[str, int], outcome: str, message: str
) -> None:
    began = time.monotonic()
    failed = await builds.failed(text, **limits)
    assert classify(failed.report) == outcome, failed
    assert failed.message == message
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("limits", "outcome", "message"),
    [
        (
            {"open_files": 1},
            "RE",
            "the build ended with exit code 127; it printed last:\n/usr/bin/python3: ",
        ),
        ({"open_files": 8}, "RE", "error: [Errno 24] Too many open files"),
        ({"file_size_bytes": 1}, "FSE", "wrote a file of more than 1 byte"),
    ],
)
async def test_a_small_limit_of_the_evaluation_is_named(
    builds: Builds, limits: dict[str, int], outcome: str, message: str
) -> None:
    failed = await builds.failed(shell(""), **limits)
    assert classify(failed.report) == outcome
    assert failed.message.startswith(message), failed.message


async def test_of_a_log_that_is_too_long_the_end_is_kept(builds: Builds) -> None:
    failed = await builds.failed(builder("seq 1000000 2000000"), stderr_bytes=50_000)
    report = failed.report
    assert (classify(report), report.killed_by, len(report.stderr)) == ("OLE", "stderr", 50_000)
    assert report.stderr_bytes_total > 50_000
    assert b"will be built" not in report.stderr, "what Nix says first"
    numbers = [int(line) for line in report.stderr.replace(b"> ", b"").split()[1:-1] if line.isdigit() and len(line) == 7]
    assert numbers[-1] - numbers[0] == len(numbers) - 1, "one piece"


async def test_an_evaluation_that_the_kernel_ended_has_no_end_of_its_own(builds: Builds) -> None:
    failed = await builds.failed(GROW_NIX, memory_bytes=256 * MIB)
    assert (failed.report.exit_code, failed.report.signal_number) == (None, None)


async def test_a_builder_has_the_limits_of_a_process(builds: Builds) -> None:
    failed = await builds.failed(builder("head -c 1000000000 /dev/zero > $out"), file_size_bytes=10 * MIB)
    assert "File size limit exceeded" in failed.message
    assert classify(failed.report) == "RE"
    show = "ulimit -Sf; ulimit -Hf; ulimit -Sn; ulimit -Hn; ulimit -Sc; touch $out"
    for limits, shown in (
        ({"file_size_bytes": 10 * MIB, "open_files": 64}, (196_608, 196_608, 256, 256, 0)),  # what the daemon itself needs
        ({"file_size_bytes": 1024 * MIB, "open_files": 300}, (1_048_576, 1_048_576, 300, 300, 0)),
    ):
        report = await builds.build(builder(show), **limits)
        assert report.report.stderr.decode().split("...\n")[-1].split() == [str(number) for number in shown]


async def test_a_build_of_next_to_no_memory_is_over_its_limit(builds: Builds) -> None:
    failed = await builds.failed(builder("touch $out"), memory_bytes=1)
    assert (classify(failed.report), failed.message) == ("MLE", "needed more than 1 byte of memory")


async def test_a_hook_is_not_told_where_the_host_keeps_things(builds: Builds) -> None:
    report = await builds.build(shell('shellHook = "cat /proc/self/mountinfo";'))
    assert b" /nix/store " in report.report.stdout
    assert b"docker" not in report.report.stdout
    assert b"/var/lib" not in report.report.stdout


async def test_one_limit_is_shared_by_build_and_hook(builds: Builds) -> None:
    text = shell(
        f'shellHook = "sleep 1.2"; packages = [ (pkgs.runCommand "nap-{secrets.token_hex(4)}" {{ }} "sleep 1.2; touch $out") ];'
    )
    failed = await builds.failed(text, wall_time_ms=2200)
    assert classify(failed.report) == "TLE_WALL"
    assert failed.report.wall_time_ms is not None
    assert failed.report.wall_time_ms >= 2190


async def test_processes_are_bounded(builds: Builds) -> None:
    fork = "import os, time; [os.fork() or time.sleep(20) for _ in range(200)]"
    failed = await builds.failed(builder(f"$python/bin/python3 -c '{fork}'"), processes=40)
    assert "Resource temporarily unavailable" in failed.report.stderr.decode()
    assert classify(failed.report) == "RE"
    named = "the build was refused more than 40 processes and threads at one time; then it failed:\nerror: "
    assert failed.message.startswith(named), failed.message


async def test_processes_of_a_hook_are_bounded(builds: Builds) -> None:
    failed = await builds.failed(shell('shellHook = "for n in $(seq 100); do sleep 20 & done";'), processes=40)
    assert failed.message.startswith("the build was refused more than 40 processes and threads at one time"), failed.message


async def test_a_failure_that_no_limit_has_a_part_in_names_none(builds: Builds) -> None:
    failed = await builds.failed(builder("exit 3"), processes=40)
    assert "processes" not in failed.message


async def test_a_builder_that_fills_its_disk_hurts_itself_alone(builds: Builds) -> None:
    failed = await builds.failed(builder("head -c 400M /dev/zero > big; touch $out"), memory_bytes=256 * MIB)
    assert "No space left on device" in failed.message
    assert "(builders work in 192 MiB of memory: nix.build_directory_bytes, or three quarters of" in failed.message
    assert classify(failed.report) == "RE"


async def test_a_build_beside_a_hostile_one_is_unharmed(builds: Builds) -> None:
    hostile = builds.failed(builder(GROW), memory_bytes=256 * MIB)
    good = builds.built(shell('packages = [ pkgs.python3 ]; shellHook = "export OK=1";'))
    _, environment = await asyncio.gather(hostile, good)
    assert variables(environment)["OK"] == b"1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('builtins.readFile "/etc/shadow"', "error: access to absolute path '/etc/shadow' is forbidden"),
        ('builtins.toJSON (builtins.readDir "/nix/store")', "error: access to absolute path '/nix/store' is forbidden"),
        ('builtins.toJSON (builtins.readDir "/run/cutor/nix")', "error: access to absolute path '/run/cutor/nix' is forbidden"),
        ('import (builtins.fetchurl "http://169.254.169.254/latest")', "error: access to URI 'http://169.254.169.254/latest'"),
        ('builtins.exec [ "/usr/bin/id" ]', "error: attribute 'exec' missing"),
        (
            'derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh"; needs = derivation {'
            ' name = "open"; system = builtins.currentSystem; builder = "/bin/sh"; __noChroot = true; }; }',
            "has '__noChroot' set, but that's not allowed when 'sandbox' is 'true'",
        ),
    ],
)
async def test_what_an_evaluation_must_not_do(builds: Builds, text: str, message: str) -> None:
    failed = await builds.failed(text)
    assert message in failed.message


async def test_an_evaluation_reads_nothing_of_the_image_even_unrestricted(builds: Builds) -> None:
    builds.settings = replace(builds.settings, restrict_eval=False)
    tried = ("/etc/shadow", "/etc/hostname", "/nix/var/nix/db/db.sqlite", "/proc/1/environ", "/opt/cutor/bin/jail-init")
    for failed in await asyncio.gather(*(builds.failed(f'builtins.readFile "{path}"') for path in tried)):
        assert any(words in failed.message for words in ("does not exist", "No such file", "Permission denied")), failed.message


PROBE: Final = r"""
  attempt() { if ( eval "$2" ) >/dev/null 2>&1; then echo "$1: yes"; else echo "$1: no"; fi; }
  attempt core_pattern 'echo x > /proc/sys/kernel/core_pattern'
  attempt sysrq 'echo h > /proc/sysrq-trigger'
  attempt chmod-dependency 'chmod -R u+w "$python"'
  attempt write-dependency 'echo x > "$python/new"'
  attempt write-store 'echo x > /nix/store/new'
  attempt state 'ls /nix/var/nix'
  attempt socket 'ls /run/cutor'
  attempt init 'ls /opt/cutor/cutor'
  attempt list-store 'ls /nix/store'
  attempt root-files 'cat /etc/shadow /root/.profile'
  attempt mount 'mount -t tmpfs none /tmp'
  attempt other-processes 'test "$(ls -d /proc/[0-9]* | wc -l)" -gt 12'
  attempt network '(exec 3<>/dev/tcp/1.1.1.1/53)'
"""


async def test_a_hook_reaches_nothing(builds: Builds) -> None:
    before = core_pattern()
    report = await builds.build(shell(f"packages = [ pkgs.python3 ]; python = pkgs.python3; shellHook = ''{PROBE}'';"))
    said = dict(line.split(": ") for line in report.report.stdout.decode().splitlines())
    assert len(said) == PROBE.count("\n  attempt ")
    assert [name for name, reached in said.items() if reached == "yes"] == []
    assert core_pattern() == before


async def test_a_builder_reaches_nothing(builds: Builds) -> None:
    before = core_pattern()
    report = await builds.build(builder(f"{PROBE}\ntouch $out"))
    said = dict(line.split(": ") for line in report.report.stderr.decode().splitlines() if line.endswith((": yes", ": no")))
    reached = {name for name, answer in said.items() if answer == "yes"}
    assert len(said) == PROBE.count("\n  attempt ")
    assert reached <= {"write-store", "list-store"}, reached  # Nix gives each build a /nix/store of its own
    assert core_pattern() == before
    assert await builds.in_store("test -e /nix/store/new && echo there || true") == ""


async def test_the_store_is_consistent_after_a_build_was_killed(builds: Builds) -> None:
    name = f"cut-{secrets.token_hex(4)}"
    text = shell(f'packages = [ (pkgs.runCommand "{name}" {{ }} "mkdir $out; echo half > $out/file; sleep $naps") ];')
    failed = await builds.failed(text.replace("$naps", "60"), wall_time_ms=1500)
    assert classify(failed.report) == "TLE_WALL"
    environment = await builds.built(text.replace("$naps", "0"))
    assert any(path.endswith(name) for path in environment.closure)
