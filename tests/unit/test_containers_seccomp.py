"""The table of system calls and the two policies made from it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from cutor.containers.seccomp import (
    ABSENT,
    ALLOWED,
    ATTRIBUTES,
    DENIED,
    JAIL,
    SOCKET_FILTERS,
    container_profile,
    names,
    program_policy,
)

HEADER = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
NEWER_THAN_THE_HEADER = {
    *("futex_wake", "futex_wait", "futex_requeue", "fchmodat2", "map_shadow_stack", "mseal"),
    *("cachestat", "statmount", "listmount", "open_tree_attr", "file_getattr", "file_setattr"),
    *("lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules"),
    *("setxattrat", "getxattrat", "listxattrat", "removexattrat"),
}
FILTERED_BY_ARGUMENT = {"socket", "socketpair", "personality", "ioctl", "fcntl"}
UNNAMED = {
    *("_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old", "get_kernel_syms", "get_thread_area"),
    *("getpmsg", "nfsservctl", "putpmsg", "query_module", "security", "set_thread_area", "tuxcall", "vserver"),
}
"""Neither allowed nor named as denied: gone from kernels, never there, or of another mode: the default refuses them."""


def rules(profile: str) -> list[dict[str, object]]:
    found = json.loads(profile)["syscalls"]
    assert isinstance(found, list)
    return found


def test_no_name_is_in_two_tables_and_none_twice_in_one() -> None:
    tables = [names(ALLOWED), names(DENIED), JAIL.split(), ABSENT.split(), list(FILTERED_BY_ARGUMENT)]
    together = [name for table in tables for name in table]
    assert len(together) == len(set(together))
    for table in (ALLOWED, DENIED):
        assert sum(len(group.split()) for group in table.values()) == len(names(table))


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed on this machine")
def test_every_name_is_a_system_call_and_every_system_call_has_an_answer() -> None:
    known = set(re.findall(r"__NR_(\w+)", HEADER.read_text())) | NEWER_THAN_THE_HEADER
    named = {*names(ALLOWED), *names(DENIED), *JAIL.split(), *ABSENT.split(), *FILTERED_BY_ARGUMENT}
    assert named - known == set()
    assert known - named == UNNAMED


def test_the_container_allows_what_jails_need_and_refuses_the_rest() -> None:
    profile = json.loads(container_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    actions = {name: rule["action"] for rule in profile["syscalls"] if "args" not in rule for name in rule["names"]}
    assert {actions[name] for name in ("read", "execve", "clone3", "mount", "unshare", "pivot_root")} == {"SCMP_ACT_ALLOW"}
    assert actions["io_uring_setup"] == "SCMP_ACT_ERRNO"
    assert set(names(DENIED)).isdisjoint(actions), "what the default refuses needs no rule"
    assert FILTERED_BY_ARGUMENT.isdisjoint(actions)


@pytest.mark.parametrize(
    ("number", "allowed"),
    [
        *((0x5412, False), (0x5413, True), (0x5401, True), (0x1_0000_5412, False), (0xFFFF_FFFF_0000_5412, False), (0, True)),
        *((0x8004_5430, True), (0xC020_660B, True), (0x2000_5412, True), (0xFFFF_FFFF_8004_5412, True)),
    ],
)
def test_a_terminal_can_not_be_typed_into_whatever_the_high_bits_say(number: int, allowed: bool) -> None:
    found = [rule["args"][0] for rule in rules(container_profile()) if rule["names"] == ["ioctl"]]  # type: ignore[index]
    assert any(number & argument["value"] == argument["valueTwo"] for argument in found) is allowed


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [((1, 1, 0), True), ((2, 1, 0), True), ((10, 2, 0), True), ((16, 3, 0), True), ((16, 3, 9), False), ((17, 3, 0), False)],
)
def test_only_four_kinds_of_socket_can_be_made(arguments: tuple[int, int, int], allowed: bool) -> None:
    found = [rule["args"] for rule in rules(container_profile()) if rule["names"] == ["socket"]]
    assert any(all(arguments[one["index"]] == one["value"] for one in args) for args in found) is allowed  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        *((37, False), (38, False), (36, False), (6, True), (7, True), (31, True), (35, True), (40, False), (1023, False)),
        *((1024, True), (1031, True), (1038, True), (2048, False), (0x1_0000_0025, False), (0xFFFF_FFFF_0000_0407, True)),
    ],
)
def test_locks_of_open_files_can_not_be_made_whatever_the_high_bits_say(command: int, allowed: bool) -> None:
    found = [rule["args"][0] for rule in rules(container_profile()) if rule["names"] == ["fcntl"]]  # type: ignore[index]
    assert any(command & argument["value"] == argument["valueTwo"] for argument in found) is allowed
    assert "ERRNO(22) { fcntl { (cmd & 0xfffffffc) == 0x24 || " in program_policy()


def test_the_program_leaves_no_hint_on_a_file() -> None:
    hints = "(cmd & 0xffffffff) == 0x40c || (cmd & 0xffffffff) == 0x40e"
    assert f" || {hints} }}, prctl {{ (option & 0xffffffff) == 22 }} }}" in program_policy()


def test_the_program_sets_no_attributes_and_no_socket_filters_and_has_no_netlink() -> None:
    policy = program_policy()
    assert "ERRNO(97) { socket { !(family == 1 || family == 2 || family == 10) } }" in policy
    assert "ERRNO(0) { sync }" in policy
    assert "prlimit64 { (pid & 0xffffffff) == 1 }" in policy
    huge = "mmap { (flags & 0x40000) != 0 }, shmget { (shmflg & 0x800) != 0 }, memfd_create { (flags & 0x4) != 0 }"
    assert f"ERRNO(12) {{ {huge} }}" in policy
    assert "ERRNO(95) { setxattr, lsetxattr, fsetxattr }" in policy
    assert all(f"(optname & 0xffffffff) == {option}" in policy for option in SOCKET_FILTERS)
    allowed = {name for rule in rules(container_profile()) if "args" not in rule for name in rule["names"]}  # type: ignore[attr-defined]
    assert set(ATTRIBUTES.split()) <= allowed, "the init itself asks whether the box keeps attributes"


def test_the_architecture_is_the_engines_own_and_no_other() -> None:
    assert set(json.loads(container_profile())) == {"defaultAction", "syscalls"}


def test_the_programs_policy_takes_the_jail_calls_away_again() -> None:
    policy = program_policy()
    denied = policy.partition("}")[0]
    for name in ("mount", "umount", "pivot_root", "chroot", "unshare", "setns", "ptrace", "sethostname"):
        assert re.search(rf"\b{name}\b", denied), name
    assert "clone_flags & 0x7e020000" in policy
    assert re.search(r"ERRNO\(38\) \{[^}]*\bclone3\b", policy)
    assert policy.endswith("DEFAULT ALLOW")


def test_nsjail_can_compile_the_programs_policy() -> None:
    nsjail = Path(__import__("nsjail").__file__).parent / "bin" / "nsjail"
    # an empty command line ends after the policy was compiled, before anything is cloned
    done = subprocess.run(
        [
            nsjail,
            "-Mo",
            "-q",
            "--seccomp_string",
            program_policy(),
            "--chroot",
            "/",
            "--disable_clone_newuser",
            "--",
            "/nothing",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Could not compile policy" not in done.stderr
    broken = subprocess.run(
        [nsjail, "-Mo", "-q", "--seccomp_string", "NONSENSE {", "--", "/x"], capture_output=True, text=True, check=False
    )
    assert "Could not compile policy" in broken.stderr
