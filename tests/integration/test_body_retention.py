"""Bodies expire once nobody refers to them; what somebody comes to refer to in any moment of that is there."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cutor.bus import horizon
from cutor.bus.bodies import CHUNK_BYTES, Bodies, generation_salt, reference_of
from cutor.bus.connection import Bus
from cutor.bus.errors import BodyMissing, BusUnreachable
from cutor.bus.horizon import Horizon
from cutor.bus.topology import apply
from cutor.cli.archive_expire import _expire
from cutor.cli.output import StatusLine
from cutor.journal.contents import Contents
from cutor.journal.journal import Journal
from cutor.journal.parked import ParkedSubmissions
from cutor.journal.stack_policy import publish_policy
from cutor.model.codec import encode
from cutor.model.environments import EnvironmentRemoved
from cutor.model.events import Parked
from cutor.model.limits import Policy
from cutor.model.rejudgement import Rejudged
from cutor.model.subjects import BODIES, Address, environment_subject
from cutor.operations.rejudging import Rejudging
from cutor.process.measures import Measures
from cutor.projections.archive import segment_file
from cutor.projections.archive.archiver import Rounds
from cutor.projections.archive.body_retention import announce, plan
from cutor.projections.archive.errors import ArchiveDamaged, ArchiveUnusable
from cutor.projections.archive.measuring import Sealed as Measured
from cutor.projections.archive.mending import mend
from cutor.projections.archive.place import Archive
from cutor.projections.archive.references import References, references_in
from cutor.projections.archive.retention import Expiry, RetentionRefused, expire
from cutor.projections.archive.sealed import Sealed
from cutor.projections.archive.sealed_bodies import SealedBodies
from cutor.projections.archive.sealing import state_of
from cutor.projections.settings import ArchiveSettings
from cutor.roles.builder import _checked_request
from tests.fault.proxy import Proxy
from tests.integration.letting_go import BRIEF, let_go, seal_everything
from tests.integration.projecting import FINISHED, happen
from tests.nats_server import OwnServer
from tests.scripted_roles import request
from tests.unit.histories import SUBMITTED, leased

AGE_S = 0.3
LARGE = "#" * 100_000
GOLDEN = Path(__file__).parents[1] / "golden"


class Store:
    """A server whose bodies a test lets go of."""

    def __init__(self, server: OwnServer, bus: Bus, directory: Path) -> None:
        self.server = server
        self.bus = bus
        self.journal = Journal(bus)
        self.directory = directory
        self.archive = Archive(directory)

    async def submit(self, name: str, run: str = LARGE) -> Address:
        return (await self.journal.submit(request(name, run))).address

    async def end(self, address: Address, *events: object) -> None:
        """Have the rest of a life happen to a submission: it finishes, or what is given."""
        state = await self.journal.known(address)
        await happen(self.bus, address.id, *(events or FINISHED[1:]), after=state.last_sequence)  # type: ignore[arg-type]

    async def aged(self) -> None:
        """Wait until all bodies are of the age, by the server's clock."""
        newest = await self.bus.last(BODIES, "cutor.body.>", consistent=True)
        assert newest
        while (await state_of(self.bus, BODIES)).now_ns < newest.time_ns + int(AGE_S * 1.2e9):
            await asyncio.sleep(0.02)

    async def anchor(self) -> None:
        """Store what nobody refers to: the last one that is sealed stays."""
        await Bodies(self.bus).put(os.urandom(16))

    async def said(self) -> None:
        """Seal, and say what is to go, until that is settled."""
        await self.anchor()
        await seal_everything(self.bus, self.directory)
        await self.aged()
        for _ in range(2):
            await announce(self.bus, AGE_S, grace_s=0)

    async def planned(self, references: References | None = None) -> Expiry:
        return await plan(self.bus, self.archive, AGE_S, references or References())

    async def expire(self, expiry: Expiry) -> int:
        return await expire(self.server.url, self.bus, self.archive, expiry)

    async def missing(self, *addresses: Address) -> list[Address]:
        """Return those of which the stream has not all contents."""
        found = []
        for address in addresses:
            state = await self.journal.known(address)
            loaded = await asyncio.gather(self.journal.contents.load_request(address, state.request), return_exceptions=True)
            found += [address for one in loaded if isinstance(one, Exception)]
        return found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    server = OwnServer(tmp_path / "nats")
    await server.start()
    try:
        async with Bus.connect(server.url, name="test") as bus:
            await apply(bus, BRIEF)
            await publish_policy(bus, Policy())
            yield Store(server, bus, tmp_path / "archive")
    finally:
        await server.kill()


async def first(bus: Bus) -> int:
    return (await state_of(bus, BODIES)).first


async def test_what_nobody_refers_to_goes_and_stays_in_the_archive(store: Store) -> None:
    address = await store.submit("s")
    two = await Bodies(store.bus).put(os.urandom(CHUNK_BYTES + 1))
    await store.end(address)
    await store.said()
    expiry = await store.planned()
    assert (expiry.first, expiry.last, expiry.held_by, expiry.stream) == (1, 3, None, BODIES)
    assert await store.expire(expiry) == 4
    assert await store.missing(address) == [address]
    sealed = Journal(store.bus, sealed=Sealed(store.directory))
    loaded = await sealed.contents.load_request(address, (await sealed.known(address)).request)
    assert loaded.files["cutor-run.sh"] == LARGE.encode()
    assert len(await Bodies(store.bus, Sealed(store.directory)).get(two)) == CHUNK_BYTES + 1
    again = await store.submit("again")
    assert await store.missing(again) == [], "it is stored again, under its usual name"
    assert (await store.journal.known(again)).request == (await store.journal.known(address)).request


async def test_nothing_goes_that_is_young_or_not_sealed_or_not_announced_for_long(store: Store) -> None:
    await store.end(await store.submit("s"))
    await store.anchor()
    assert (await announce(store.bus, 3600, grace_s=0)).until == 0
    await store.aged()
    assert (await store.planned()).held_by == "what comes after 0 is not sealed"
    await seal_everything(store.bus, store.directory)
    assert await announce(store.bus, AGE_S, grace_s=0) == Horizon(until=2, settled=0)
    refused = await store.planned()
    assert (refused.messages, refused.held_by) == (0, "what comes after 0 is to be announced for an hour before it goes")
    assert await announce(store.bus, AGE_S) == Horizon(until=2, settled=0), "that was not an hour ago"
    assert (await store.planned()).messages == 0
    await announce(store.bus, AGE_S, grace_s=0)
    assert (await store.planned()).messages == 1
    assert (await plan(store.bus, store.archive, 3600, References())).messages == 0
    await store.bus.publish(horizon.SUBJECT, b"no horizon")
    assert (await store.planned()).messages == 0


@pytest.mark.parametrize("life", ["queued", "leased", "parked", "forged end"])
async def test_what_a_submission_refers_to_stays_until_it_has_ended(store: Store, life: str) -> None:
    await store.end(await store.submit("ended", LARGE + "1"))
    await store.aged()
    address = await store.submit("s")
    parked = Parked(role="builder", message="m", stage="dependencies")
    if life in ("leased", "parked"):
        await store.end(address, leased("builder"), *([parked] if life == "parked" else []))
    if life == "forged end":
        await store.bus.publish("cutor.ev.default.s.finished", encode(FINISHED[-2]))
    await store.said()
    references = References()
    expiry = await store.planned(references)
    assert (expiry.last, expiry.held_by) == (1, "the submission default/s refers to what 2 is of")
    assert await store.expire(expiry) == 2
    assert await store.missing(address) == []
    if life == "parked":
        await ParkedSubmissions(store.journal).drop(address)
    else:
        await store.end(address, *FINISHED[2 if life == "leased" else 1 :])
    assert (await store.planned(references)).last == 2, "what was read is gone on with"
    assert (await store.planned()).last == 2, "and read anew it is the same"


async def test_what_an_environment_refers_to_stays_as_long_as_it_stands(store: Store) -> None:
    content = await Contents(Bodies(store.bus)).pack(b"V=" + b"x" * 100_000 + b"\0")
    built = msgspec.json.decode((GOLDEN / "env-built.v1.json").read_bytes())
    built["variables"] = msgspec.to_builtins(content)
    await store.bus.publish(environment_subject(built["key"]), msgspec.json.encode(built))
    await store.said()
    expiry = await store.planned()
    assert (expiry.messages, expiry.held_by) == (0, f"the environment {built['key']} refers to what 1 is of")
    removed = EnvironmentRemoved(key=built["key"], reason="collected")
    await store.bus.publish(environment_subject(built["key"]), encode(removed))
    assert (await store.planned()).messages == 1


async def test_what_is_to_go_is_stored_anew_by_whoever_hands_it_in_and_once(store: Store) -> None:
    old = await store.submit("old")
    await store.said()
    one, other = await asyncio.gather(store.submit("one"), store.submit("other"))
    contents = [(await store.journal.known(address)).request.files[1].content.body for address in (old, one, other)]
    digest = reference_of(LARGE.encode()).sha256
    assert [ref.salt if ref else "" for ref in contents] == [None, *[generation_salt(digest, 1)] * 2]
    assert (await state_of(store.bus, BODIES)).last == 3
    await store.end(old)
    await store.expire(await store.planned())
    assert await first(store.bus) == 2
    assert await store.missing(one, other) == []


async def test_an_event_between_look_and_going_has_its_contents_back(store: Store) -> None:
    """Its producer stored them long ago, and slept since: no horizon reached it."""
    ended = await store.submit("ended")
    stored = (await store.journal.known(ended)).request
    await store.end(ended)
    await store.said()
    references = References()
    expiry = await store.planned(references)
    wanted = (await store.journal.known(ended)).digest
    late = (await store.journal.resubmit(Address("default", "late"), stored, wanted, "ended")).address
    await store.expire(expiry)
    assert await store.missing(late) == [late]
    with pytest.raises(BodyMissing):  # and not the end of it
        await _checked_request(store.journal, Policy(), await store.journal.known(late))
    assert await mend(store.bus, store.archive, references) == 1
    assert await store.missing(late) == []
    await _checked_request(store.journal, Policy(), await store.journal.known(late))
    assert await mend(store.bus, store.archive, References()) == 0
    slept = (await store.journal.resubmit(Address("default", "slept"), stored, wanted, "ended")).address
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    assert await mend(store.bus, store.archive, References()) == 1, "also by another life, whenever it comes to it"
    assert await store.missing(late, slept) == []


async def test_who_hands_in_again_stores_again_what_has_gone(store: Store) -> None:
    ended, parked = await store.submit("ended"), await store.submit("parked", LARGE + "1")
    await store.end(ended)
    await store.end(parked, leased("builder"), Parked(role="builder", message="m", stage="dependencies"))
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    await horizon.tell(store.bus, Horizon(until=2, settled=2))
    journal = Journal(store.bus, sealed=Sealed(store.directory))
    done: list[Rejudged] = []
    await Rejudging(journal, "n").submit([ended], done.append)
    assert [(one.action, one.why) for one in done] == [("submitted", None)]
    retry = await ParkedSubmissions(journal).retry(parked)
    new = [Address("default", one) for one in ("ended-rejudge-n", retry.submission)]
    assert await store.missing(*new) == []
    refused: list[Rejudged] = []
    await Rejudging(store.journal, "m").submit([ended], refused.append)
    assert await store.missing(Address("default", "ended-rejudge-m")) == []


async def test_a_limit_of_the_deployers_own_is_refused(store: Store) -> None:
    config = (await store.bus.stream_info(BODIES))["config"]
    await store.bus.api.call(BODIES, f"STREAM.UPDATE.{BODIES}", {**config, "max_age": 3600 * 10**9})
    with pytest.raises(RetentionRefused, match="BODIES has a max_age of its own"):
        await store.planned()
    with pytest.raises(RetentionRefused, match="BODIES has a max_age of its own"):
        await announce(store.bus, AGE_S, grace_s=0)
    assert (await horizon.told(store.bus)).time_ns == 0, "where nothing may go, nobody stores anything twice"


async def test_an_archiver_does_it_by_itself(store: Store) -> None:
    await store.end(await store.submit("s"))
    await seal_everything(store.bus, store.directory)
    settings = ArchiveSettings(directory=str(store.directory), retain_bodies_days=1)
    rounds = Rounds(store.server.url, store.bus, store.archive, settings, Measured(Measures()))
    assert await rounds.one() == ()
    assert await store.bus.last(BODIES, "cutor.body.>", consistent=True), "nothing is a day old"
    late = await store.submit("late")
    await let_go(store.bus, BODIES)
    assert await rounds.one() == ()
    assert await store.missing(late) == [], "and puts back what is referred to"
    await let_go(store.bus, BODIES)
    config = (await store.bus.stream_info(BODIES))["config"]
    await store.bus.api.call(BODIES, f"STREAM.UPDATE.{BODIES}", {**config, "max_age": 3600 * 10**9})
    assert any("max_age of its own" in one for one in await rounds.one())
    assert await store.missing(late) == [], "also where nothing may go"


async def test_rounds_read_once_which_content_is_in_which_file(store: Store) -> None:
    await store.submit("s")
    await seal_everything(store.bus, store.directory)
    await store.submit("late", LARGE + "1")
    await seal_everything(store.bus, store.directory)
    settings = ArchiveSettings(directory=str(store.directory), retain_bodies_days=1)
    rounds = Rounds(store.server.url, store.bus, store.archive, settings, Measured(Measures()))
    assert await rounds.one() == ()
    file = min((store.directory / BODIES).glob("*.parquet"))
    file.rename(file.with_suffix(".hidden"))
    assert await rounds.one() == (), "it is not read again"


async def test_too_little_memory_for_the_names_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    late = await store.submit("late")
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    with monkeypatch.context() as patch:
        patch.setattr(segment_file, "MEMORY_BYTES", 1 << 16)
        little = SealedBodies(store.archive)
    with pytest.raises(ArchiveUnusable, match="no room for it in memory"):
        await mend(store.bus, store.archive, References(), little)
    assert await mend(store.bus, store.archive, References()) == 1
    assert await store.missing(late) == []


async def test_names_of_an_archive_that_another_has_taken_the_place_of_are_forgotten(store: Store) -> None:
    await store.submit("s")
    await seal_everything(store.bus, store.directory)
    sealed, subject = SealedBodies(store.archive), f"cutor.body.{reference_of(LARGE.encode()).sha256}.0"
    assert list(sealed.chunks([subject])) == [subject]
    store.directory.rename(store.directory.with_name("lost"))
    assert sealed.before([subject.split(".")[2]], 1 << 40) == []


async def test_producers_and_expiry_at_one_time_lose_nothing(store: Store) -> None:
    """The grace is none, so that every race that it keeps apart happens; what is live has its contents in the end."""
    order, turns, gone = random.Random(6), asyncio.Semaphore(8), 0
    live: list[Address] = []

    async def produce(name: str) -> None:
        for number in range(15):
            await turns.acquire()
            producer = Journal(store.bus)  # which knows no horizon of before
            wanted = request(f"{name}{number}", LARGE + str(order.randrange(4)))
            live.append((await producer.submit(wanted)).address)

    producing, references = asyncio.gather(*(produce(name) for name in "abcd")), References()
    while not producing.done():
        await seal_everything(store.bus, store.directory)
        await announce(store.bus, 0.2, grace_s=0)
        expiry = await plan(store.bus, store.archive, 0.2, references)
        gone += expiry.messages
        await store.expire(expiry)
        await mend(store.bus, store.archive, references)
        for address in live[:-6]:
            await store.end(address)
            live.remove(address)
        for _ in range(8):
            turns.release()
    await producing
    await mend(store.bus, store.archive, references)
    assert gone > 0
    assert len(live) >= 6
    assert await store.missing(*live) == []


def test_references_are_found_wherever_they_stand() -> None:
    digest = "a" * 64
    body = {"sha256": digest, "size_bytes": 1, "chunks": 1}
    event = msgspec.json.encode({"kind": "x", "deep": [{"er": {"body": body}}], "lies": {"body": body | {"chunks": 9}}})
    assert [ref.sha256 for ref in references_in(event)] == [digest]
    assert references_in(b'"sha256"' + b"[" * 100_000) == references_in(b"{}") == frozenset()
    assert references_in(encode(SUBMITTED)) == frozenset()


async def test_a_decision_about_another_submission_of_the_same_id_lets_nothing_go(store: Store) -> None:
    """Its record stays, and its events are gone from the stream: the id is free."""
    parked = (leased("builder"), Parked(role="builder", message="m", stage="dependencies"))
    address = await store.submit("s", "true")
    await store.end(address, *parked)
    await ParkedSubmissions(store.journal).drop(address)
    await let_go(store.bus, "EVENTS")
    assert await store.submit("s") == address
    await store.end(address, *parked)
    await store.said()
    expiry = await store.planned()
    assert (expiry.messages, expiry.held_by) == (0, "the submission default/s refers to what 1 is of")
    waiting = ParkedSubmissions(store.journal)
    assert [one.id for one in (await waiting.list()).found] == ["s"]
    assert (await waiting.show(address)).parked.decision is None
    assert (await waiting.drop(address)).new
    assert (await waiting.list()).found == []
    assert [one.decision is not None for one in (await waiting.list(everything=True)).found] == [True]
    assert (await store.planned()).messages == 1


async def test_what_an_environment_of_a_newer_version_refers_to_stays(store: Store) -> None:
    await publish_policy(store.journal.bus, msgspec.structs.replace(Policy(), versions={"env-built": 9}))
    content = await Contents(Bodies(store.bus)).pack(b"V=" + b"x" * 100_000 + b"\0")
    built = msgspec.json.decode((GOLDEN / "env-built.v1.json").read_bytes())
    built |= {"variables": msgspec.to_builtins(content), "version": 9}
    await store.bus.publish(environment_subject(built["key"]), msgspec.json.encode(built))
    await store.said()
    expiry = await store.planned()
    assert (expiry.messages, expiry.held_by) == (0, f"the environment {built['key']} refers to what 1 is of")
    await let_go(store.bus, BODIES)
    assert await mend(store.bus, store.archive, References()) == 1


async def test_what_is_put_back_is_the_content_and_not_what_came_in_its_place(store: Store) -> None:
    """Whoever may write bodies wrote something else under a name that had gone, and that was sealed, and went, too."""
    data = os.urandom(CHUNK_BYTES + 1).hex()[: CHUNK_BYTES + 1]
    address = await store.submit("s", data)
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    digest = reference_of(data.encode()).sha256
    await store.bus.publish(f"cutor.body.{digest}.0", b"something else")
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    assert await mend(store.bus, store.archive, References()) == 2
    assert await store.missing(address) == []


async def test_a_segment_that_cannot_be_read_is_told_and_hinders_no_other(store: Store) -> None:
    lost = await store.submit("lost")
    await seal_everything(store.bus, store.directory)
    whole = await store.submit("whole", LARGE + "1")
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    file = min((store.directory / BODIES).glob("*.parquet"))
    hidden = file.rename(file.with_suffix(".hidden"))
    references, sealed = References(), SealedBodies(store.archive)
    with pytest.raises(ArchiveDamaged, match=f"{file}: it cannot be read"):
        await mend(store.bus, store.archive, references, sealed)
    assert await store.missing(lost, whole) == [lost]
    hidden.rename(file)
    assert await mend(store.bus, store.archive, references, sealed) == 1, "it is looked at again"
    assert await store.missing(lost, whole) == []


async def test_by_hand_too_what_is_referred_to_is_put_back_where_nobody_heard_of_the_going(store: Store) -> None:
    late = await store.submit("late")
    await seal_everything(store.bus, store.directory)
    await let_go(store.bus, BODIES)
    await store.end(await store.submit("ended", LARGE + "1"))
    await store.said()
    began = await first(store.bus)
    async with Proxy(store.server.port) as proxy:
        trap = proxy.cut_after(rb"STREAM\.PURGE")
        with pytest.raises(BusUnreachable), StatusLine() as line:
            await _expire(proxy.url(store.server.url), store.archive, BODIES, AGE_S, line, announced=False, most=None)
        assert trap.sprung.is_set()
    assert await first(store.bus) > began
    assert await store.missing(late) == []
