"""Control group counters of both versions, from text as kernels write it, and from directories laid out as theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutor.jail.inside.cgroup import (
    FILES,
    Cgroup,
    CgroupError,
    parse_cpu_ns,
    parse_field,
    parse_number,
    parse_oom_kills,
    parse_quota_cpus,
)

V2_CPU_STAT = b"""usage_usec 1234567
user_usec 1000000
system_usec 234567
core_sched.force_idle_usec 0
nr_periods 12
nr_throttled 3
throttled_usec 45678
nr_bursts 0
burst_usec 0
"""
V2_MEMORY_EVENTS = b"low 0\nhigh 0\nmax 42\noom 3\noom_kill 2\noom_group_kill 0\n"
V1_OOM_CONTROL = b"oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"
V2_MEMORY_STAT = b"""anon 200000
file 500000
kernel 90000
shmem 100000
file_mapped 4096
inactive_anon 300000
active_anon 0
inactive_file 100000
active_file 300000
unevictable 0
slab_reclaimable 50000
"""
V1_MEMORY_STAT = b"""cache 500000
rss 200000
shmem 100000
inactive_file 1
active_file 2
total_cache 500000
total_rss 250000
total_shmem 110000
total_inactive_file 100000
total_active_file 300000
"""

V2 = {
    "cgroup.controllers": b"cpuset cpu io memory pids\n",
    "cpu.stat": V2_CPU_STAT,
    "memory.events": V2_MEMORY_EVENTS,
    "pids.current": b"3\n",
    "pids.events": b"max 9\n",
    "memory.current": b"1048576\n",
    "memory.peak": b"2097152\n",
    "memory.stat": V2_MEMORY_STAT,
    "cpu.max": b"150000 100000\n",
}
V1 = {
    "cpuacct/cpuacct.usage": b"1234567890\n",
    "memory/memory.oom_control": V1_OOM_CONTROL,
    "pids/pids.current": b"3\n",
    "pids/pids.events": b"max 8\n",
    "memory/memory.usage_in_bytes": b"1048576\n",
    "memory/memory.max_usage_in_bytes": b"2097152\n",
    "memory/memory.stat": V1_MEMORY_STAT,
    "cpu/cpu.cfs_quota_us": b"150000\n",
}


def lay_out(root: Path, files: dict[str, bytes]) -> str:
    """Write a control group's files; return the root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return str(root)


def test_version_2(tmp_path: Path) -> None:
    cgroup = Cgroup(lay_out(tmp_path, V2))
    assert cgroup.version == "v2"
    assert (cgroup.cpu_ns(), cgroup.oom_kills(), cgroup.tasks()) == (1_234_567_000, 2, 3)
    assert (cgroup.memory_bytes(), cgroup.memory_peak_bytes(), cgroup.quota_cpus) == (1 << 20, 2 << 20, 1.5)


def test_version_1_and_a_hybrid_tree_without_controllers(tmp_path: Path) -> None:
    cgroup = Cgroup(lay_out(tmp_path, V1 | {"cgroup.controllers": b"\n"}))
    assert cgroup.version == "v1"
    assert (cgroup.cpu_ns(), cgroup.oom_kills(), cgroup.tasks()) == (1_234_567_890, 7, 3)
    assert (cgroup.memory_bytes(), cgroup.memory_peak_bytes(), cgroup.quota_cpus) == (1 << 20, 2 << 20, 1.5)


USAGE = 1 << 20


@pytest.mark.parametrize(
    ("files", "expected", "rests"),
    [
        (V1, 0, USAGE - 400_000),
        (V1, USAGE, USAGE - 400_000),
        (V2, 0, USAGE - 450_000),
        (V2, USAGE - 430_000, USAGE - 430_000),  # some of the kernel's own is that of files in memory
        (V2, USAGE, USAGE - 400_000),
    ],
)
def test_what_rests_is_all_but_what_the_kernel_can_take_back(
    tmp_path: Path, files: dict[str, bytes], expected: int, rests: int
) -> None:
    assert Cgroup(lay_out(tmp_path, files)).resting_bytes(expected) == rests


def test_what_processes_and_files_in_memory_hold(tmp_path: Path) -> None:
    assert Cgroup(lay_out(tmp_path / "1", V1)).held_bytes() == 360_000  # those of groups beneath included
    assert Cgroup(lay_out(tmp_path / "2", V2)).held_bytes() == 300_000


def test_refused_processes_are_the_kernels_count(tmp_path: Path) -> None:
    assert Cgroup(lay_out(tmp_path / "1", V1)).refused_tasks() == 8
    assert Cgroup(lay_out(tmp_path / "2", V2)).refused_tasks() == 9


def test_counters_are_read_anew_each_time(tmp_path: Path) -> None:
    cgroup = Cgroup(lay_out(tmp_path, V1))
    (tmp_path / "pids/pids.current").write_bytes(b"12\n")
    assert cgroup.tasks() == 12


def test_a_kernel_without_a_watermark_gives_none(tmp_path: Path) -> None:
    assert (
        Cgroup(lay_out(tmp_path, {name: text for name, text in V2.items() if name != "memory.peak"})).memory_peak_bytes()
        is None
    )


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_what_is_missing_is_named(tmp_path: Path, version: str) -> None:
    files, needed = (V1, FILES["v1"]) if version == "v1" else (V2, FILES["v2"])
    for name in (needed.cpu, needed.oom, needed.tasks, needed.usage, needed.stat, needed.quota):
        root = tmp_path / name.replace("/", "-")
        with pytest.raises(CgroupError, match=f"the control group has no {name}"):
            Cgroup(lay_out(root, {kept: text for kept, text in files.items() if kept != name}))


@pytest.mark.parametrize("text", [b"", b"max\n", b"-1\n", b"1 2\n", b"0x10", b"1.5"])
def test_what_is_no_number_is_an_error(text: bytes) -> None:
    with pytest.raises(CgroupError, match="not a number"):
        parse_number(text)


def test_fields_are_whole_words() -> None:
    assert parse_field(b"oom 3\noom_kill 2\n", b"oom_kill") == 2
    assert parse_oom_kills(V1_OOM_CONTROL) == 7
    with pytest.raises(CgroupError, match="no field oom_kill"):
        parse_oom_kills(b"oom_kill_disable 0\nunder_oom 0\n")


def test_quotas() -> None:
    assert parse_quota_cpus("v1", b"-1\n") is None
    assert parse_quota_cpus("v1", b"50000\n") == 0.5
    assert parse_quota_cpus("v2", b"max 100000\n") is None
    assert parse_quota_cpus("v2", b"200000 50000\n") == 4
    assert parse_cpu_ns("v2", V2_CPU_STAT) == 1_234_567_000
