"""What the host finds in a container, from recorded files of both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from cutor.containers.occupancy import Occupancy

LAYOUTS = {
    "v1": ("pids/docker/c", "memory/docker/c", "cache 9\nrss 1\ntotal_rss {}\ntotal_shmem 100\n"),
    "v2": ("docker/c", "docker/c", "anon {}\nfile 9\nshmem 100\n"),
    "v2 by systemd": ("system.slice/docker-c.scope", "system.slice/docker-c.scope", "anon {}\nshmem 100\n"),
}


def lay_out(root: Path, layout: str, tasks: int, anonymous: int) -> None:
    """Write the files of a container ``c`` as a kernel has them."""
    tasks_place, memory_place, stat = LAYOUTS[layout]
    for place in (tasks_place, memory_place):
        (root / place).mkdir(parents=True, exist_ok=True)
    (root / tasks_place / "pids.current").write_text(f"{tasks}\n")
    (root / memory_place / "memory.stat").write_text(stat.format(anonymous))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_more_than_was_there_is_found(layout: str, tmp_path: Path) -> None:
    lay_out(tmp_path, layout, 2, 1000)
    occupancy = Occupancy.find("c", tmp_path)
    assert occupancy is not None
    occupancy.remember()
    lay_out(tmp_path, layout, 3, 1500)
    assert occupancy.found(3, 500) == ""
    assert occupancy.found(2, 500) == "3 tasks, where 2 are cutor's own"
    assert occupancy.found(3, 499) == "1600 bytes are held, 1100 were before its first submission"
    occupancy.close()


def test_what_cannot_be_read_is_no_empty_container(tmp_path: Path) -> None:
    lay_out(tmp_path, "v2", 2, 1000)
    occupancy = Occupancy.find("c", tmp_path)
    assert occupancy is not None
    occupancy.remember()
    (tmp_path / "docker/c/pids.current").write_text("max\n")
    assert occupancy.found(3, 500) == "its control group can't be read: not a number: b'max'"
    occupancy.close()


def test_a_container_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    assert Occupancy.find("c", tmp_path) is None
