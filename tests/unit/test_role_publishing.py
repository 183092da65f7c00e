"""A builder's publications: a cache that fails is left alone, holds up no build, and gets later what it missed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from cutor.config import Config
from cutor.containers.engine import Engine
from cutor.containers.errors import SessionFault
from cutor.model.environments import Programs
from cutor.model.events import Lease, Role, StoredRequest
from cutor.model.state import Submission
from cutor.model.subjects import Address
from cutor.nix.cache import CachePlace
from cutor.nix.cache_session import DirectoryMissing
from cutor.nix.report import Built, BuiltEnvironment
from cutor.nix.settings import NixSettings
from cutor.nix.store_session import Away, GaveWay, Gone, Refused
from cutor.roles import cache_reach, known_leases
from cutor.roles import publishing as module
from cutor.roles.builder import BuildStep, Remembered
from cutor.roles.places import Places
from cutor.roles.publishing import NotPublished, Publishing
from cutor.roles.step import Arrival, LeasedStep, PutOff, StepFault
from tests.unit.test_nix_cache import SECRET

if TYPE_CHECKING:
    from cutor.journal.journal import Journal
    from cutor.model.limits import Policy
    from cutor.process.context import RoleContext
    from cutor.roles.claims import Claim
    from cutor.roles.private import PrivateEnvironments

ENGINE = cast("Engine", None)
PATIENCE_S = 180.0


class Cache:
    """Stands for store containers that publish: fails while it takes nothing, and always for what is ``broken``; may hang.

    Who looks has an answer, unless it is ``silent``, too.
    """

    def __init__(self) -> None:
        self.away = False
        self.silent = False
        self.looks = 0
        self.docker_fails = False
        self.missing = False
        self.gone: set[str] = set()
        self.ways_given = 0
        self.broken: set[str] = set()
        self.tried: list[str] = []
        self.published: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    def __call__(self, *_: Any, **__: Any) -> Cache:
        return self

    async def __aenter__(self) -> Cache:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def probe(self, place: CachePlace, *, write: bool, **_: Any) -> None:
        assert (place.source, write) == ("v", False), "that a volume can be written to nobody can see"
        self.looks += 1
        if self.silent:
            raise Away("no answer")

    async def publish(self, place: CachePlace, secret: str, closure: Sequence[str]) -> None:
        assert (place.source, secret) == ("v", SECRET)
        (path,) = closure
        self.tried.append(path)
        await self.goes_on.wait()
        if self.away or self.silent or path in self.broken:
            raise Refused("the cache does not answer")
        if path in self.gone:
            raise Gone("it is not in the store any more")
        if self.missing:
            raise DirectoryMissing(CachePlace("file:///cache", "directory", "/srv/c", "none"))
        if self.ways_given:
            self.ways_given -= 1
            raise GaveWay("somebody waits to be alone with the store")
        if self.docker_fails:
            raise SessionFault("Docker is away")
        self.published.append(path)

    async def until(self, published: set[str]) -> None:
        """Wait until the cache has all of these."""
        async with asyncio.timeout(PATIENCE_S):
            while not published <= set(self.published):
                await asyncio.sleep(0.005)


def built(name: str) -> BuiltEnvironment:
    programs = Programs(bash="b", sh="s", env="e")
    return BuiltEnvironment(key=name * 64, derivation="d", closure=(name,), closure_bytes=1, variables=(), programs=programs)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Cache:
    cache = Cache()
    for where in (module, cache_reach):
        monkeypatch.setattr(where, "CacheSession", cache)
    monkeypatch.setattr(module, "PAUSE_S", 0.2)  # the first one: more than a busy machine takes from one line to the next
    monkeypatch.setattr(module, "PAUSE_MAX_S", 0.02)
    return cache


@pytest.fixture
def publishing(cache: Cache, tmp_path: Path) -> Publishing:
    file = tmp_path / "key"
    file.touch(0o600)
    file.write_text(SECRET)
    settings = NixSettings(cache_url="volume:v", cache_secret_key_file=str(file))
    return Publishing(ENGINE, settings, "one", None)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_without_a_cache_nothing_is_published(cache: Cache) -> None:
    publishing = Publishing(ENGINE, NixSettings(), "one", None)
    await publishing.publish(built("a"))
    assert (cache.tried, publishing.takes_time()) == ([], False)


async def test_after_one_failure_the_cache_is_left_alone_and_gets_later_what_it_missed(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.away = True
    for name in "abc":
        await publishing.publish(built(name))
    assert cache.tried == ["a"], "the builds behind it try nothing"
    assert not publishing.takes_time()
    assert len(warnings(caplog)) == 1
    async with publishing.following():
        async with asyncio.timeout(PATIENCE_S):
            while len(cache.tried) < 8:
                await asyncio.sleep(0.005)
        assert len(warnings(caplog)) == 1, "it is said once"
        cache.away = False
        await cache.until({"a", "b", "c"})
    await publishing.publish(built("d"))
    assert sorted(cache.published) == ["a", "b", "c", "d"]
    assert len(warnings(caplog)) == 1


async def test_what_is_not_published_in_the_end_is_said(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.away = True
    async with publishing.following():
        for name in "ab":
            await publishing.publish(built(name))
    (_, last) = warnings(caplog)
    assert f"{'a' * 12}" in last
    assert f"{'b' * 12}" in last


async def test_what_is_not_to_be_kept_is_not_published_later(cache: Cache, publishing: Publishing) -> None:
    cache.away = True
    await publishing.publish(built("a"), kept=False)
    await publishing.publish(built("b"))
    cache.away = False
    async with publishing.following():
        await cache.until({"b"})
        await publishing.publish(built("c"))
    assert cache.published == ["b", "c"]


async def test_one_that_fails_where_others_do_not_is_given_up_and_keeps_none_back(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.broken = {"a"}
    async with publishing.following():
        await publishing.publish(built("a"))
        for number in range(1000):
            if publishing._left.keys() == set() and cache.published:
                break
            await publishing.publish(built(chr(ord("b") + number % 20)))
            await asyncio.sleep(0.03)
    assert publishing._left == {}
    assert set(cache.published) >= {"b", "c"}
    assert cache.tried.count("a") >= module.FAILURES
    assert sum("which takes others" in one for one in warnings(caplog)) == 1


async def test_copies_that_hang_are_a_few_and_what_waits_beside_the_builds_is_bounded(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BESIDE_AT_MOST", 6)
    cache.goes_on.clear()
    cache.away = True
    tasks = []
    for name in "abcdef":
        assert publishing.takes_time()
        tasks.append(asyncio.create_task(publishing.publish(built(name))))
        await asyncio.sleep(0)
    assert not publishing.takes_time()
    await asyncio.sleep(0.01)
    assert len(cache.tried) == module.AT_ONCE
    cache.goes_on.set()
    await asyncio.gather(*tasks)
    assert len(cache.tried) == module.AT_ONCE, "who waited for a turn tries nothing once the cache has failed"


async def test_what_is_to_be_published_later_is_bounded(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 2)
    cache.away = True
    for name in "abcd":
        await publishing.publish(built(name))
    assert [key[0] for key in publishing._left] == ["c", "d"]
    assert sum("too many" in one for one in warnings(caplog)) == 2


async def test_after_the_pause_any_build_is_the_probe_also_where_nothing_is_left_for_later(
    cache: Cache, publishing: Publishing
) -> None:
    cache.away = True
    async with publishing.following():
        await publishing.publish(built("a"), kept=False)
        assert publishing.away
        cache.away = False
        async with asyncio.timeout(PATIENCE_S):
            while publishing.away:
                await asyncio.sleep(0.005)
        assert publishing.takes_time()
        await publishing.publish(built("b"), kept=False)
    assert cache.tried == ["a", "b"]
    assert cache.published == ["b"]


async def test_what_a_runner_missed_is_tried_in_any_case_and_not_said_to_be_built_without(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 3600.0)
    cache.away = True
    await publishing.publish(built("a"))
    with pytest.raises(NotPublished, match=r"a runner missed.*does not answer"):
        await publishing.publish(built("b"), missed=True)
    assert publishing.away
    assert (publishing.takes_time(), publishing.takes_time(missed=True)) == (False, True), "off the slot"
    assert sorted(key[0] for key in publishing._left) == ["a", "b"]
    cache.away = False
    await publishing.publish(built("b"), missed=True)
    assert cache.published == ["b"]
    assert not publishing.away, "the cache takes something again: so it is there for all"


async def test_a_failure_of_docker_says_nothing_about_the_cache(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.docker_fails = True
    await publishing.publish(built("a"))
    assert not publishing.away
    with pytest.raises(NotPublished, match="Docker is away"):
        await publishing.publish(built("b"), missed=True)
    assert len(warnings(caplog)) == 1
    cache.docker_fails = False
    async with publishing.following():
        await cache.until({"a", "b"})


async def test_a_directory_that_is_missing_is_left_alone_and_said_with_what_to_do(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.missing = True
    await publishing.publish(built("a"))
    (said,) = warnings(caplog)
    assert "there is no directory /srv/c" in said
    assert "`install -d -m 755 -o 200000 -g 200000 /srv/c`" in said
    assert publishing.away


async def test_what_a_collection_took_meanwhile_is_left_for_nobody_and_no_failure(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.away = True
    await publishing.publish(built("a"))
    cache.away, cache.gone = False, {"a", "b"}
    async with publishing.following():
        async with asyncio.timeout(PATIENCE_S):
            while publishing._left:
                await asyncio.sleep(0.005)
    await publishing.publish(built("b"))
    assert (cache.tried, publishing._left, publishing.away) == (["a", "a", "b"], {}, False)
    assert len(warnings(caplog)) == 1, "the first failure"


async def test_who_waits_to_be_alone_with_the_store_is_given_way_to_and_the_copy_begins_again(
    cache: Cache, publishing: Publishing, caplog: pytest.LogCaptureFixture
) -> None:
    cache.ways_given = module.WAYS_GIVEN
    await publishing.publish(built("a"))
    assert cache.published == ["a"]
    assert warnings(caplog) == []
    cache.ways_given = 1 + module.WAYS_GIVEN
    await publishing.publish(built("b"))
    assert not publishing.away
    assert [key[0] for key in publishing._left] == ["b"], "later, and the cache is not to blame"


async def test_what_fails_at_one_time_lengthens_the_pause_once(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 3600.0)
    monkeypatch.setattr(module, "PAUSE_MAX_S", 7200.0)
    cache.away = True
    cache.goes_on.clear()
    tasks = [asyncio.create_task(publishing.publish(built(name))) for name in "abc"]
    await asyncio.sleep(0.01)
    cache.goes_on.set()
    await asyncio.gather(*tasks)
    assert cache.tried == ["a", "b", "c"]
    assert publishing._pause_s == 3600.0


def submission(losses: int) -> Submission:
    return Submission(
        address=Address("default", "s"),
        status="SUBMITTED",
        request=StoredRequest(files=(), test_cases=()),
        digest="",
        submitted_ns=1,
        last_sequence=1,
        last_ns=1,
        step_sequence=1,
        environment_losses=losses,
    )


async def nothing() -> None:
    """No environment stands."""


async def held_back() -> PutOff:
    """Nobody waits for it."""
    return "crowded"


def step(cache_at: Publishing) -> BuildStep:
    context = SimpleNamespace(config=Config(), instance="one", data=None, worker="w", server="")
    made = BuildStep(cast("RoleContext", context), ENGINE, cast("PrivateEnvironments", None))
    made.publishing = cache_at
    return made


async def looked(publishing: Publishing) -> None:
    """Have the cache looked at, where that was not done lately, and wait for the end of it."""
    assert publishing._reach is not None
    publishing._reach.answers(publishing._refused_s)
    if publishing._reach._look is not None:
        await publishing._reach._look


def arrived(state: Submission) -> Arrival:
    """Return as much of an arrival as tells of a submission."""
    return cast("Arrival", SimpleNamespace(state=state, journal=SimpleNamespace(bus=None)))


async def test_a_builder_does_not_promise_again_what_a_runner_missed_and_the_cache_does_not_take(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 3600.0)
    cache.away = True
    builder, lost = step(publishing), submission(losses=1)
    claim = cast("Claim", SimpleNamespace(standing=nothing, held_back=held_back))
    monkeypatch.setattr(builder, "standing", SimpleNamespace(find=lambda _bus, _key: nothing()))
    assert await builder._standing(claim, arrived(lost), "k") is None, "the cache is well, as far as is known"
    lease = Lease(role="builder", worker="w", token="t", number=2)
    leased = LeasedStep(cast("Journal", None), cast("Policy", None), lost, lease)
    with pytest.raises(StepFault, match="does not answer"):
        await builder._record(leased, "a" * 64, Built(report=cast("Any", None), environment=built("a")), private=False)
    assert not leased.place.has_slot, "the try was off the slot"
    assert await builder._standing(claim, arrived(lost), "k") == "crowded", "no lease is spent while the cache is left alone"
    assert await builder._standing(claim, arrived(submission(losses=0)), "k") is None, "who lost nothing builds"
    monkeypatch.setattr(publishing, "_held_until_s", time.monotonic())
    assert publishing.away
    await looked(publishing)
    assert await builder._standing(claim, arrived(lost), "k") is None, "tries are bounded by leases, not held back for ever"
    with pytest.raises(StepFault):
        await builder._record(leased, "a" * 64, Built(report=cast("Any", None), environment=built("a")), private=False)
    assert await builder._standing(claim, arrived(lost), "k") == "crowded"
    cache.away = False
    await publishing.publish(built("b"), missed=True)
    assert await builder._standing(claim, arrived(lost), "k") is None, "the cache takes something again"


async def test_who_is_held_back_is_not_read_again_for_that(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it count as a try that it is looked whether it may."""
    monkeypatch.setattr(module, "PAUSE_S", 3600.0)
    cache.away, read = True, list[str]()

    async def again(*_: object, **__: object) -> None:
        """Nothing else puts it off."""

    async def look(arrival: Arrival) -> PutOff:
        read.append(arrival.state.address.id)
        return "crowded"

    claim = SimpleNamespace(put_off_again=again, standing=nothing, held_back=held_back)
    monkeypatch.setattr("cutor.roles.builder.Claim", lambda *_: claim)
    builder, lost = step(publishing), submission(losses=1)
    monkeypatch.setattr(builder, "_look", look)
    arrival = Arrival(
        cast("Journal", SimpleNamespace(bus=None)), cast("Policy", None), lost, "t", Places(1, looks=True).looking()
    )
    for was_read in (["s"], ["s", "s"], ["s", "s"]):
        assert await builder.approach(arrival) == "crowded"
        assert read == was_read
        builder._put_off[lost.step_sequence] = Remembered("k", cache=True)
        if len(read) == 2:
            with pytest.raises(NotPublished):
                await publishing.publish(built("a"), missed=True)


class Clock:
    """Stands for the monotonic clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        for where in (module, known_leases, cache_reach):
            monkeypatch.setattr(where, "time", SimpleNamespace(monotonic=lambda: self.now_s))


def lease(number: int, role: Role = "builder", of: str = "s") -> Lease:
    return Lease(role=role, worker="w", token=f"{of}{number}", number=number)


@pytest.mark.parametrize(("silent", "away_s"), [(False, 50.0), (True, 900.0)])
@pytest.mark.parametrize("pause_s", [1.0, 10.0])
@pytest.mark.parametrize("builders", [1, 3, 5, 40])
async def test_a_cache_that_is_away_for_a_while_parks_nobody_however_many_builders_there_are(
    builders: int,
    pause_s: float,
    silent: bool,
    away_s: float,
    cache: Cache,
    publishing: Publishing,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The submission goes from builder to builder, as deliveries do; three leases are all that it has. It comes to each of
    them seldom, where they are many or it is put off for long; all the same one of them tries again.

    What answers, and takes nothing, is tried now and then; what does not answer is waited for.
    """
    clock = Clock(monkeypatch)
    monkeypatch.setattr(module, "PAUSE_S", 5.0)
    monkeypatch.setattr(module, "PAUSE_MAX_S", 30.0)
    all_builders = [publishing] + [Publishing(ENGINE, publishing._settings, "one", None) for _ in range(builders - 1)]
    cache.away, newest, began_s = True, lease(1, "runner"), clock.now_s
    for number in range(1000):
        clock.now_s += pause_s
        cache.away = clock.now_s - began_s < away_s
        cache.silent = silent and cache.away
        builder = all_builders[number % builders]
        if not builder.may_try(newest):
            await asyncio.sleep(0)
            continue
        newest = lease(1 if newest.role == "runner" else newest.number + 1)
        assert newest.number <= 3
        try:
            await builder.publish(built("a"), missed=True)
        except NotPublished:
            continue
        return
    raise AssertionError("it waits for ever")


async def test_while_the_cache_fails_one_submission_at_a_time_spends_a_lease(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(module, "PAUSE_S", 5.0)
    monkeypatch.setattr(module, "PAUSE_MAX_S", 30.0)
    others = [lease(1, "runner", of) for of in "bcdef"]
    assert all(map(publishing.may_try, others)), "the cache is well, as far as is known"
    cache.away = True
    with pytest.raises(NotPublished):
        await publishing.publish(built("a"), missed=True)
    assert not any(map(publishing.may_try, others))
    clock.now_s += 5.0
    await looked(publishing)
    assert [*map(publishing.may_try, others)] == [True, False, False, False, False]
    clock.now_s += 5.0
    assert sum(map(publishing.may_try, others)) == 1, "though the one before told nothing"
    assert not publishing.may_try(lease(1)), "behind a lease of a builder is more time"
    cache.away = False
    clock.now_s += 1.0
    await publishing.publish(built("a"), missed=True)
    assert all(map(publishing.may_try, [*others, lease(1)])), "the cache takes something"


async def test_where_nothing_is_published_nothing_is_waited_for() -> None:
    publishing = Publishing(ENGINE, NixSettings(), "one", None)
    assert publishing.may_try(lease(1))


async def test_what_a_cache_refuses_for_its_own_sake_keeps_nobody_from_it_again(
    cache: Cache, publishing: Publishing, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(module, "PAUSE_S", 5.0)
    cache.broken = {"a"}
    with pytest.raises(NotPublished):
        await publishing.publish(built("a"), missed=True)
    assert publishing.away, "nobody knows yet"
    clock.now_s += 5.0
    await publishing.publish(built("b"), missed=True)
    for _ in range(3):
        with pytest.raises(NotPublished):
            await publishing.publish(built("a"), missed=True)
        assert not publishing.away
        assert publishing.may_try(lease(1, "runner", "c"))
        await publishing.publish(built("c"))
    assert sorted(key[0] for key in publishing._left) == ["a"]
