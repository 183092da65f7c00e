"""A runner of many slots may open the files of all its containers; what its host does not allow is said."""

from __future__ import annotations

import resource

import pytest

from cutor.roles.open_files import BESIDE, EACH, allow_files_of


class Limits:
    """The limits of a process that is not this one."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def set(self, _which: int, wanted: tuple[int, int]) -> None:
        self.now = wanted


@pytest.mark.parametrize(
    ("soft", "hard", "containers", "allowed", "said"),
    [
        (1024, 524_288, 6, 1024, False),
        (1024, 524_288, 384, BESIDE + EACH * 384, False),
        (1024, 1500, 384, 1500, True),
        (20_000, 20_000, 384, 20_000, False),
    ],
)
def test_as_many_as_its_containers_need(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    soft: int,
    hard: int,
    containers: int,
    allowed: int,
    said: bool,
) -> None:
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits.now)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    allow_files_of(containers)
    assert limits.now == (allowed, hard)
    assert ("raise ulimit -n" in caplog.text) == said
