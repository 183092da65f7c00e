"""What is asked of the kernel, and when. Files stand for its own; that it frees what it is asked for, a thread plays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cutor.containers import surplus as surplus_module
from cutor.containers.control_group import PLACES
from cutor.containers.surplus import SURPLUS_BYTES, Surplus
from cutor.model.limits import MIB

ID = "5f" * 32
V1 = next(place for place in PLACES if place.directory.startswith("memory/"))
V2 = next(place for place in PLACES if not place.directory.startswith("memory/"))
HELD_BYTES = 7 * MIB
UNASKED = "nothing was asked"


class Group:
    """The files of a group at one of Docker's places."""

    def __init__(self, root: Path, place: tuple[str, str, str] = V1, cache_bytes: int = 0) -> None:
        self._directory = root / place[0].format(ID)
        self._directory.mkdir(parents=True)
        self._usage = self._directory / place[2]
        version_1 = place == V1
        self.reclaim = self._directory / ("memory.force_empty" if version_1 else "memory.reclaim")
        self.reclaim.write_text(UNASKED)
        prefix = "total_" if version_1 else ""
        text = f"slab 1\n{prefix}active_file {cache_bytes // 2}\n{prefix}inactive_file {cache_bytes // 2}\n"
        (self._directory / "memory.stat").write_text(text)

    def uses(self, memory_bytes: int) -> None:
        self._usage.write_text(f"{memory_bytes}\n")


async def asked(group: Group, found: Surplus, freed_to_bytes: int) -> str:
    """Return what was asked for; once it was, the group holds no more than this."""
    taking = asyncio.create_task(found.take_back(HELD_BYTES))
    while not taking.done() and group.reclaim.read_text() == UNASKED:
        await asyncio.sleep(0.001)
    group.uses(freed_to_bytes)
    await taking
    return group.reclaim.read_text()


@pytest.mark.parametrize("place", [V1, V2], ids=["v1", "v2"])
async def test_what_is_held_beyond_what_is_known_is_asked_for_and_waited_for(
    tmp_path: Path, place: tuple[str, str, str]
) -> None:
    group = Group(tmp_path, place)
    group.uses(HELD_BYTES + 60 * MIB)
    found = Surplus.find(ID, tmp_path)
    assert found is not None
    assert await asked(group, found, HELD_BYTES + MIB) == str(60 * MIB)


@pytest.mark.parametrize(
    ("more_bytes", "cache_bytes"), [(SURPLUS_BYTES, 0), (60 * MIB, 58 * MIB)], ids=["little", "page cache"]
)
async def test_nothing_is_asked_for_where_there_is_little_or_page_cache(
    tmp_path: Path, more_bytes: int, cache_bytes: int
) -> None:
    group = Group(tmp_path, V1, cache_bytes)
    group.uses(HELD_BYTES + more_bytes)
    found = Surplus.find(ID, tmp_path)
    assert found is not None
    await found.take_back(HELD_BYTES)
    assert group.reclaim.read_text() == UNASKED


async def test_what_stays_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surplus_module, "TAKE_BACK_S", 0.3)
    group = Group(tmp_path)
    group.uses(HELD_BYTES + 60 * MIB)
    found = Surplus.find(ID, tmp_path)
    assert found is not None
    assert await found.take_back(HELD_BYTES) == 60 * MIB
    group.reclaim.write_text(UNASKED)
    assert await found.take_back(HELD_BYTES) == 60 * MIB
    assert group.reclaim.read_text() == UNASKED
    group.uses(HELD_BYTES + 80 * MIB)
    assert await asked(group, found, HELD_BYTES + 61 * MIB) == str(80 * MIB)


async def test_what_stayed_is_asked_for_again_once_it_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surplus_module, "TAKE_BACK_S", 0.3)
    group = Group(tmp_path)
    group.uses(HELD_BYTES + 60 * MIB)
    found = Surplus.find(ID, tmp_path)
    assert found is not None
    assert await found.take_back(HELD_BYTES)
    group.reclaim.write_text(UNASKED)
    found.forget()
    assert await asked(group, found, HELD_BYTES + MIB) == str(60 * MIB)
    assert await found.take_back(HELD_BYTES) == 0


async def test_a_container_that_is_gone_is_nobody_to_ask(tmp_path: Path) -> None:
    group = Group(tmp_path)
    found = Surplus.find(ID, tmp_path)
    assert found is not None
    await found.take_back(HELD_BYTES)  # its usage can't be read
    assert group.reclaim.read_text() == UNASKED


def test_there_is_none_where_the_group_is_elsewhere(tmp_path: Path) -> None:
    assert Surplus.find(ID, tmp_path) is None
