"""What doctor says of control groups: trees of directories as hosts of either version have them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cutor.cli.checks import examination, machine
from cutor.config import parse
from cutor.containers import control_group

V2_OF_DEBIAN_12 = "cpuset cpu io memory hugetlb pids rdma misc\n"
V2_WITHOUT_MEMORY = "cpuset cpu io pids\n"  # as kernels that are started with cgroup_disable=memory
V1 = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids", "systemd")


def version_2(root: Path, controllers: str) -> Path:
    (root / "cgroup.controllers").write_text(controllers)
    return root


def version_1(root: Path, *controllers: str) -> Path:
    for name in controllers:
        (root / name).mkdir()
    return root


def said(root: Path) -> tuple[str, str]:
    finding = machine.check_control_groups(root)
    return finding.verdict, finding.detail


def kernel(monkeypatch: pytest.MonkeyPatch, release: str, uid: int = 0) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", release, "#1", "x86_64")))
    monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.mark.parametrize(
    ("release", "uid", "expected"),
    [
        ("6.12.41+deb13-amd64", 0, "version 2; a runner of this user knows the memory peak of every stage"),
        ("7.0.1", 0, "version 2; a runner of this user knows the memory peak of every stage"),
        ("6.1.0-37-amd64", 0, "Linux 6.1.0-37-amd64 can't set them back"),
        ("6.12.41+deb13-amd64", 1000, "only root may set them back"),
    ],
)
def test_version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str, uid: int, expected: str) -> None:
    kernel(monkeypatch, release, uid)
    verdict, detail = said(version_2(tmp_path, V2_OF_DEBIAN_12))
    assert verdict == "ok"
    assert detail.startswith("version 2")
    assert detail.endswith(expected)


def test_version_1_and_hybrid(tmp_path: Path) -> None:
    root = version_1(tmp_path, *V1)
    (root / "unified").mkdir()
    version_2(root / "unified", "")
    (root / "memory" / "memory.max_usage_in_bytes").write_text("0\n")
    assert said(root) == ("ok", "version 1; a runner of this user knows the memory peak of every stage")


@pytest.mark.parametrize(
    ("controllers", "expected"),
    [
        (V2_WITHOUT_MEMORY, "version 2, without memory"),
        ("memory\n", "version 2, without cpu, pids"),
        ("", "version 2, without cpu, memory, pids"),
    ],
)
def test_controllers_that_version_2_lacks_are_named(tmp_path: Path, controllers: str, expected: str) -> None:
    assert said(version_2(tmp_path, controllers)) == ("fail", expected)


def test_controllers_that_version_1_lacks_are_named(tmp_path: Path) -> None:
    assert said(version_1(tmp_path, "cpu", "memory")) == ("fail", "version 1, without cpuacct, pids")


def test_a_host_without_control_groups(tmp_path: Path) -> None:
    assert said(tmp_path / "nothing") == ("fail", "version 1, without cpu, cpuacct, memory, pids")


def test_who_may_not_write_has_no_watermark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = version_1(tmp_path, "memory") / "memory" / "memory.max_usage_in_bytes"
    counter.write_text("0\n")
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (counter, os.W_OK))
    assert control_group.hindrance(tmp_path) == "only root may set them back"


def test_an_edited_configuration_is_another_one_and_a_pinned_image_is_not() -> None:
    own = parse(b"[runner]\nslots = 1\n", "own.toml")
    pinned = parse(b"[runner]\nslots = 1\n[docker]\nimage = 'cutor-child:0123456789abcdef'\n", "stack.toml")
    assert not examination.is_edited(own, pinned)
    assert examination.is_edited(parse(b"", "own.toml"), pinned)
    assert examination.is_edited(parse(b"[runner]\nslots = 1\n[docker]\nhost = 'unix:///x'\n", "own.toml"), pinned)
