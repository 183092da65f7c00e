"""A runner's fetches: one at a time of an environment, and not again what was fetched meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from cutor.containers.engine import Engine
from cutor.containers.errors import SessionFault
from cutor.jail.job import EnvironmentMissing
from cutor.model.environments import EnvironmentBuilt, Programs
from cutor.model.events import Lease, Role
from cutor.nix.cache import CachePlace
from cutor.nix.cache_session import DirectoryMissing
from cutor.nix.session import NoRoomLeft
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import Away, Full, Refused, Room
from cutor.roles import cache_reach, fetching, known_leases, room
from cutor.roles.fetching import Fetching
from cutor.roles.room import StoreRoom
from cutor.roles.runner import RunStep
from cutor.roles.step import Arrival
from tests.unit.test_nix_cache import PUBLIC

ENGINE = cast("Engine", None)
KEY, OTHER = "a" * 64, "b" * 64
CACHE = NixSettings(cache_url="volume:v", cache_public_keys=(PUBLIC,))
MISSED = EnvironmentMissing("/nix/store/gone")


class Sessions:
    """Stands for store containers: counts who fetches at one time, and ends as it is told."""

    def __init__(self, endings: Sequence[Exception | None] = ()) -> None:
        self.endings = list(endings)
        self.fetched: list[str] = []
        self.probed = 0
        self.away = False
        self.tells = True
        """Whether a look sees that it is away."""
        self.asked_for = ""
        self.at_once: dict[str, int] = {}
        self.most = 0

    def __call__(self, *_: Any, **__: Any) -> Sessions:
        return self

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def fetch(self, place: CachePlace, keys: Sequence[str], key: str, closure: Sequence[str]) -> None:
        assert (place.source, list(keys), list(closure)) == ("v", [PUBLIC], ["/nix/store/x"])
        self.at_once[key] = self.at_once.get(key, 0) + 1
        self.most = max(self.most, *self.at_once.values())
        await asyncio.sleep(0)
        self.at_once[key] -= 1
        self.fetched.append(key)
        if self.endings and (ending := self.endings.pop(0)) is not None:
            raise ending
        if self.away:
            raise Away("unable to download 'http://cache/nix-cache-info': Could not connect to server")

    async def probe(self, _place: CachePlace, *, write: bool, path: str = "") -> None:
        assert not write
        self.probed += 1
        self.asked_for = path
        if self.away and self.tells:
            raise Away("it did not answer in time")


def environment(key: str = KEY) -> EnvironmentBuilt:
    return EnvironmentBuilt(
        key=key,
        derivation="d",
        closure=("/nix/store/x",),
        closure_bytes=1,
        variables="",
        programs=Programs(bash="b", sh="s", env="e"),
        worker="w",
    )


class Volume:
    """Stands for the store's volume: what is free on it, null where that cannot be seen; ``looks`` counts the looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free_bytes: int | None = 1 << 40) -> None:
        self.free_bytes = free_bytes
        self.size_bytes = 1 << 41
        self.looks = 0

        async def look(_room: StoreRoom) -> Room | None:
            self.looks += 1
            return None if self.free_bytes is None else Room(self.free_bytes, self.size_bytes)

        monkeypatch.setattr(StoreRoom, "look", look)


def made(monkeypatch: pytest.MonkeyPatch, *endings: Exception | None) -> tuple[Fetching, Sessions]:
    sessions = Sessions(endings)
    monkeypatch.setattr(fetching, "CacheSession", sessions)
    monkeypatch.setattr(cache_reach, "CacheSession", sessions)
    Volume(monkeypatch)
    return Fetching(ENGINE, CACHE, "one", None), sessions


async def test_without_a_cache_what_is_missed_is_lost() -> None:
    with pytest.raises(EnvironmentMissing) as caught:
        await Fetching(ENGINE, NixSettings(), "one", None).fetch(environment(), MISSED, time.monotonic())
    assert caught.value is MISSED


async def test_slots_that_miss_the_same_fetch_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch)
    looked_at = time.monotonic()
    await asyncio.gather(*(fetching.fetch(environment(key), MISSED, looked_at) for key in [KEY, OTHER] * 5))
    assert sorted(sessions.fetched) == [KEY, OTHER]
    await fetching.fetch(environment(), MISSED, time.monotonic())
    assert sessions.fetched.count(KEY) == 2, "who misses it after that has it fetched again"
    assert fetching._turns == {}


async def test_a_refusal_is_a_loss_with_its_reason_and_the_next_one_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch, Refused("lacks a signature"), None)
    looked_at = time.monotonic()
    first, second = await asyncio.gather(
        *(fetching.fetch(environment(), MISSED, looked_at) for _ in range(2)), return_exceptions=True
    )
    assert isinstance(first, EnvironmentMissing)
    assert first.path == "/nix/store/gone; fetching it failed: lacks a signature"
    assert second is None
    assert sessions.most == 1


async def test_who_trusts_other_keys_is_told_which_setting_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "cannot add path '/nix/store/x' because it lacks a signature by a trusted key"
    fetching, _ = made(monkeypatch, Refused(said))
    with pytest.raises(EnvironmentMissing) as lost:
        await fetching.fetch(environment(), MISSED, time.monotonic())
    assert f"fetching it failed: {said} (nix.cache_public_keys of the host that fetched it must hold" in lost.value.path
    assert "`cutor doctor`" in lost.value.path


async def test_a_directory_that_is_missing_is_a_cache_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    place = CachePlace("file:///cache", "directory", "/srv/c", "none")
    fetching, _ = made(monkeypatch, DirectoryMissing(place))
    with pytest.raises(Away, match=r"there is no directory /srv/c, .*`install -d "):
        await fetching.fetch(environment(), MISSED, time.monotonic())
    assert not await fetching.may_begin(KEY)


async def test_a_fault_of_the_machine_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, _ = made(monkeypatch, SessionFault("Docker is away"))
    with pytest.raises(SessionFault, match="Docker is away"):
        await fetching.fetch(environment(), MISSED, time.monotonic())
    assert fetching._turns == {}


async def test_who_is_cancelled_lets_the_next_one_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch)
    looked_at = time.monotonic()
    tasks = [asyncio.create_task(fetching.fetch(environment(), MISSED, looked_at)) for _ in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[0].cancelled()
    assert tasks[1].exception() is None
    assert sessions.fetched == [KEY]


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.roles.fetching.REMEMBERED", 2)
    fetching, _ = made(monkeypatch)
    for number in range(5):
        await fetching.fetch(environment(f"{number:064}"), MISSED, time.monotonic())
    assert len(fetching._fetched_at) == 2


NO_ROOM = CACHE.min_free_bytes - 1


async def test_nothing_is_fetched_into_a_store_without_room_and_only_what_found_none_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching, sessions = made(monkeypatch)
    volume = Volume(monkeypatch, NO_ROOM)
    with pytest.raises(NoRoomLeft, match=f"has {NO_ROOM} bytes free.*cutor gc"):
        await fetching.fetch(environment(), MISSED, time.monotonic())
    assert sessions.fetched == []
    assert (await fetching.may_begin(KEY), await fetching.may_begin(OTHER)) == (False, True)
    assert volume.looks == 1, "not at every delivery"
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    assert not await fetching.may_begin(KEY)
    volume.free_bytes = CACHE.min_free_bytes
    assert await fetching.may_begin(KEY)
    await fetching.fetch(environment(), MISSED, time.monotonic())
    assert sessions.fetched == [KEY]


MIN = CACHE.min_free_bytes


def large(key: str = KEY) -> EnvironmentBuilt:
    return msgspec.structs.replace(environment(key), closure_bytes=5 * MIN)


async def test_a_volume_that_a_fetch_fills_is_no_loss_and_is_looked_at_for_as_much_as_was_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching, _ = made(monkeypatch, Full("No space left on device", present_bytes=2 * MIN), None)
    volume = Volume(monkeypatch, 2 * MIN)
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    with pytest.raises(NoRoomLeft, match=f"wants {3 * MIN}"):
        await fetching.fetch(large(), MISSED, time.monotonic())
    assert not await fetching.may_begin(KEY)
    volume.free_bytes = 3 * MIN
    assert await fetching.may_begin(KEY)
    await fetching.fetch(large(), MISSED, time.monotonic())


async def test_what_the_cache_refuses_for_another_reason_is_a_loss_though_less_is_free_than_the_whole_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching, _ = made(monkeypatch, Refused("path '/nix/store/small' is not in the cache"))
    Volume(monkeypatch, 4 * MIN)
    with pytest.raises(EnvironmentMissing, match="small"):
        await fetching.fetch(large(), MISSED, time.monotonic())
    assert await fetching.may_begin(KEY)


async def test_each_environment_waits_for_the_room_that_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, _ = made(monkeypatch, *[Full("No space left on device", present_bytes=number * MIN) for number in (0, 3)])
    volume = Volume(monkeypatch, MIN)
    monkeypatch.setattr(room, "LOOK_EVERY_S", 0.0)
    for key in (KEY, OTHER):
        with pytest.raises(NoRoomLeft):
            await fetching.fetch(large(key), MISSED, time.monotonic())
    volume.free_bytes = 2 * MIN
    assert (await fetching.may_begin(KEY), await fetching.may_begin(OTHER)) == (False, True)
    volume.free_bytes = 5 * MIN
    assert await fetching.may_begin(KEY)


async def test_what_is_larger_than_the_volume_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, _ = made(monkeypatch, Full("No space left on device", present_bytes=0))
    Volume(monkeypatch, 2 * MIN).size_bytes = 4 * MIN
    with pytest.raises(NoRoomLeft, match="in all"):
        await fetching.fetch(large(), MISSED, time.monotonic())
    assert await fetching.may_begin(KEY), "each try counts, until it is parked with that reason"


async def test_a_wish_for_more_free_than_the_volume_has_is_the_hosts_and_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch)
    Volume(monkeypatch, MIN - 1).size_bytes = MIN - 1
    with pytest.raises(NoRoomLeft, match=f"wants {MIN}"):
        await fetching.fetch(environment(), MISSED, time.monotonic())
    assert not await fetching.may_begin(KEY)
    assert sessions.fetched == []


async def test_where_room_cannot_be_seen_the_fetch_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch, Refused("lacks a signature"))
    Volume(monkeypatch, None)
    with pytest.raises(EnvironmentMissing, match="lacks a signature"):
        await fetching.fetch(environment(), MISSED, time.monotonic())
    assert sessions.fetched == [KEY]


def lease(number: int, role: Role = "runner") -> Lease:
    return Lease(role=role, worker="another", token=f"t{number}", number=number)


async def looked(fetching: Fetching) -> None:
    """Wait until a look at the cache is over."""
    assert fetching._reach is not None
    assert fetching._reach._look is not None
    await fetching._reach._look


async def test_a_cache_that_does_not_answer_loses_nothing_and_costs_one_lease_however_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching, sessions = made(monkeypatch)
    monkeypatch.setattr(cache_reach, "LOOK_EVERY_S", 0.0)
    sessions.away = True
    async with fetching.following():
        with pytest.raises(Away, match="the cache does not answer: unable to download"):
            await fetching.fetch(environment(), MISSED, time.monotonic())
        for _ in range(3):
            assert not await fetching.may_begin(KEY, lease(1))
            await looked(fetching)
        assert await fetching.may_begin(OTHER), "what may be here already"
        with pytest.raises(Away, match="found just now"):
            await fetching.fetch(environment(OTHER), MISSED, time.monotonic())
        assert sessions.fetched == [KEY], "a slot waits for that no second time"
        assert sessions.asked_for == "/nix/store/x", "of itself a proxy may tell in its place"
        sessions.away = False
        assert not await fetching.may_begin(KEY)
        await looked(fetching)
        monkeypatch.setattr("cutor.roles.fetching.HELD_S", 0.0)
        assert (await fetching.may_begin(KEY), await fetching.may_begin(OTHER)) == (True, True)
        await fetching.fetch(environment(), MISSED, time.monotonic())


async def test_between_two_tries_of_a_cache_that_tells_and_does_not_give_is_time_whatever_a_look_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Or until it gave somebody something: else all leases were spent within seconds."""
    fetching, sessions = made(monkeypatch)
    monkeypatch.setattr(cache_reach, "LOOK_EVERY_S", 0.0)
    sessions.away, sessions.tells = True, False
    async with fetching.following():
        with pytest.raises(Away):
            await fetching.fetch(environment(), MISSED, time.monotonic())
        for number in range(1, 4):
            assert not await fetching.may_begin(KEY, lease(number))
            await looked(fetching)
        assert await fetching.may_begin(OTHER)
        sessions.away = False
        await fetching.fetch(environment(OTHER), MISSED, time.monotonic())
        assert await fetching.may_begin(KEY, lease(3))


async def test_a_runner_looks_at_the_cache_before_it_spends_a_lease_behind_another_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching, sessions = made(monkeypatch)
    sessions.away = True
    async with fetching.following():
        assert await fetching.may_begin(KEY), "nobody has tried"
        assert await fetching.may_begin(KEY, lease(1, "builder"))
        assert not await fetching.may_begin(KEY, lease(1))
        await looked(fetching)
        assert not await fetching.may_begin(KEY, lease(1)), "it does not answer"
        assert sessions.probed == 1
        monkeypatch.setattr("cutor.roles.fetching.HELD_S", 0.0)
        assert await fetching.may_begin(KEY, lease(1)), "this host may have the environment: it is not held for ever"


async def test_a_runner_whose_cache_answers_goes_on_behind_another_ones_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch, Refused("lacks a signature"))
    async with fetching.following():
        assert not await fetching.may_begin(KEY, lease(1)), "it is looked for"
        await looked(fetching)
        assert await fetching.may_begin(KEY, lease(1))
        with pytest.raises(EnvironmentMissing):
            await fetching.fetch(environment(), MISSED, time.monotonic())
        assert await fetching.may_begin(KEY, lease(2)), "a refusal is an answer"
    assert sessions.probed == 1


async def test_a_look_at_a_cache_that_hangs_is_beside_the_slots_and_ends_with_the_role(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching, sessions = made(monkeypatch)
    hanging = asyncio.Event()

    async def probe(_place: CachePlace, *, write: bool, path: str = "") -> None:
        hanging.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(sessions, "probe", probe)
    async with fetching.following():
        assert not await fetching.may_begin(KEY, lease(1))
        await hanging.wait()
        assert not await fetching.may_begin(KEY, lease(1))
        assert await fetching.may_begin(OTHER)
    assert fetching._reach is not None
    assert fetching._reach._look is not None
    assert fetching._reach._look.cancelled()


async def test_what_waits_for_a_fetch_leaves_turns_to_what_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands may wait for the cache, and each that comes again has a slot as long as it is looked at."""
    fetching, _ = made(monkeypatch, Away("no answer"))
    with pytest.raises(Away):
        await fetching.fetch(environment(), MISSED, time.monotonic())
    foreseen: list[str] = []
    step = cast("RunStep", SimpleNamespace(fetching=fetching, work="work", _uses=SimpleNamespace(foresee=foreseen.append)))

    def arrival(key: str) -> Arrival:
        return cast("Arrival", SimpleNamespace(state=SimpleNamespace(environment=SimpleNamespace(key=key), lease=None)))

    assert [await RunStep.approach(step, arrival(key)) for key in (KEY, OTHER)] == ["crowded", "work"]
    assert foreseen == [OTHER]


def test_leases_that_are_known_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_leases, "REMEMBERED", 2)
    leases = known_leases.KnownLeases("runner")
    first = leases.met_s(lease(1))
    assert leases.met_s(lease(1)) == first
    for number in (2, 3, 4):
        leases.met_s(lease(number))
    assert list(leases._met_s) == ["t3", "t4"]
    assert (leases.met_s(None), leases.met_s(lease(5, "builder"))) == (None, None)
