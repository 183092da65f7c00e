"""Every user of `deploy/nats/cluster/accounts.conf` does its work on the real cluster, and nothing else.

Roles, producers and people are programs of their own, each with the credential of its user; builder and runner start real
containers.
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from cutor.bus.connection import Bus
from cutor.bus.errors import BusError, NotPermitted
from cutor.bus.waiting import NoAnswer, NoResponders
from tests import commands
from tests.bare_stack import one_line, request
from tests.cluster import NODES, DeployedCluster, start_deployed
from tests.live_stack import EXAMPLES, surroundings

UNTRUSTED: Final = ("producer", "analyst", "physics")
PEOPLE: Final = ("admin", "operator", *UNTRUSTED)
ROLES: Final = ("builder", "runner", "projector")
EVERYBODY: Final = (*PEOPLE, *ROLES, "archiver")
STREAMS: Final = ("EVENTS", "BODIES", "ENVIRONMENTS", "STACK", "PARKED", "DEADLETTERS")
KINDS: Final = (
    *("submitted", "leased", "cache-built", "cache-lost", "compiled", "ran", "finished", "cancelled"),
    *("rejected", "parked", "cleaned", "anything"),
)


class Site:
    """The cluster, and a home directory for each of its users."""

    def __init__(self, cluster: DeployedCluster, home: Path) -> None:
        self.cluster = cluster
        self.home = home
        self.roles: list[subprocess.Popen[bytes]] = []

    def environment(self, user: str) -> dict[str, str]:
        """What a user of the how-to has: the address in CUTOR_SERVER, the CA in CUTOR_TLS_CA, and a configuration."""
        home = surroundings(self.home / user)
        config = Path(home["XDG_CONFIG_HOME"]) / "cutor" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text("[server]\nreplicas = 3\n")
        return home | {"CUTOR_SERVER": self.cluster.url(user).partition("?")[0], "CUTOR_TLS_CA": str(self.cluster.ca)}

    def cutor(self, user: str, *args: str, stdin: bytes = b"", timeout_s: float = 180) -> subprocess.CompletedProcess[str]:
        """Run a command as a user."""
        return commands.decoded(commands.run(args, self.environment(user), stdin=stdin, timeout_s=timeout_s))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Builder, runner and projector, each under its own user."""
        for role in ROLES:
            with (self.home / f"{role}.log").open("wb") as log:
                command = [sys.executable, "-m", "cutor", role]
                self.roles.append(subprocess.Popen(command, env=self.environment(role), stdout=log, stderr=log))
        try:
            yield
        finally:
            for process in self.roles:
                process.terminate()
            ended = [process.wait(180) for process in self.roles]
            self.roles.clear()
            assert ended == [0] * len(ROLES)

    def violations(self, user: str) -> list[str]:
        """What the three servers logged about a user."""
        lines = [line for node in range(NODES) for line in self.cluster.log(node).read_text().splitlines()]
        return [line for line in lines if "Violation" in line and re.search(rf"user:{user}\b", line)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with start_deployed(physics=True) as cluster:
        there = Site(cluster, tmp_path_factory.mktemp("site"))
        applied = there.cutor("admin", "streams", "apply")
        assert applied.returncode == 0, applied.stderr
        yield there


def wait_for(log: Path, pattern: str) -> None:
    """Wait until a log says something."""
    deadline = time.monotonic() + 180
    while not re.search(pattern, log.read_text(), re.IGNORECASE):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def fresh() -> str:
    return secrets.token_hex(8)


# -- what each may -------------------------------------------------------------------------------------------------------


def test_every_user_does_its_work_on_real_submissions(site: Site) -> None:
    """From set-up to views; no server has anything to complain about anybody."""
    with site.running():
        for number, example in enumerate(("python-three-tests", "shell-hook", "compile-error")):
            done = site.cutor(
                "producer", "submit", str(EXAMPLES / example), "--id", f"good{number}", "--wait", "--timeout", "150"
            )
            assert done.returncode == (1 if example == "compile-error" else 0), (done.stdout, done.stderr)
        assert site.cutor("producer", "submit", str(EXAMPLES / "endless-loop"), "--id", "endless").returncode == 0
        assert "is cancelled" in site.cutor("producer", "cancel", "endless").stdout
        large = request(test_cases=[{"input": "x" * 300_000}])
        sent = site.cutor("operator", "submit", "-", "--id", "large", "--wait", "--timeout", "150", stdin=large)
        assert sent.returncode in {0, 1}, sent.stderr
        assert "default/good0 OK" in site.cutor("producer", "status", "good0").stdout
        assert "finished" in site.cutor("producer", "watch", "good0").stdout
        assert "cache-built" in site.cutor("producer", "events", "good0").stdout
        asked = site.cutor("analyst", "query", "SELECT outcome FROM submissions WHERE id = 'good0'", "--format", "json")
        assert '"OK"' in asked.stdout, asked.stderr
        assert "finished" in site.cutor("analyst", "watch", "good0").stdout
        assert json.loads(site.cutor("analyst", "status", "good2", "--json").stdout)["outcome"] == "COMPILE_ERROR"
        assert "good2" in site.cutor("operator", "events", "--last", "100").stdout
        assert site.cutor("operator", "parked", "list").returncode == 0
        [environment, *_] = json.loads(site.cutor("operator", "env", "list", "--json").stdout)
        assert "is pinned" in site.cutor("operator", "env", "pin", environment["key"]).stdout
        assert site.cutor("operator", "gc", "--dry-run", "--all").returncode == 0
        for user in ("operator", "admin"):
            seen = json.loads(site.cutor(user, "top", "--json").stdout)
            assert {worker["role"] for worker in seen["workers"]} == {*ROLES}
        doctor = site.cutor("admin", "doctor")
        assert "FAIL" not in doctor.stdout, doctor.stdout
        backup = site.cutor("admin", "streams", "backup", str(site.home / "backup"))
        assert backup.returncode == 0, backup.stderr
    assert [violation for user in EVERYBODY for violation in site.violations(user)] == []


def test_who_may_submit_may_build_ahead_and_an_operator_may_pin_it(site: Site) -> None:
    """What a producer may not know of it is left out, and what it may not do is said, once it is built."""
    source = str(EXAMPLES / "python-three-tests")
    with site.running():
        built = site.cutor("producer", "env", "build", source, "--timeout", "150", "--pin")
        assert built.returncode == 3, (built.stdout, built.stderr)
        words = [line.split()[0] for line in built.stdout.splitlines()]
        assert words == ["environment", "derivation", "built", "submission"], "without its size and a pin"
        assert "cutor: it is not pinned: " in built.stderr
        assert "it is not pinned" in built.stderr
        assert re.search(r"does not let the user 'producer' publish to \S*(cutor\.env\.|ENVIRONMENTS)", built.stderr)
        pinned = site.cutor("operator", "env", "build", source, "--timeout", "150", "--pin")
        assert pinned.returncode == 0, (pinned.stdout, pinned.stderr)
        assert "pinned      yes" in pinned.stdout


async def consumers(site: Site) -> set[str]:
    """Names of the consumers of EVENTS; one of a reader that has gone stays for a while."""
    async with Bus.connect(site.cluster.url("admin"), name="test") as bus:
        return {*(await bus.api.call("consumers of EVENTS", "CONSUMER.NAMES.EVENTS", {}))["consumers"]}


async def test_a_producer_waits_without_any_consumer(site: Site) -> None:
    before = await consumers(site)
    async with Bus.connect(site.cluster.url("producer"), name="test") as bus:
        await append(bus, identity := fresh(), "submitted", 0)
        subjects = f"cutor.ev.default.{identity}.>", f"cutor.ev.default.{identity}.submitted"
        async with asyncio.timeout(180):
            async for stored in bus.follow(*subjects, patience_s=60):
                if stored.subject.endswith("cancelled"):
                    break
                assert await consumers(site) <= before
                await append(bus, identity, "cancelled", stored.sequence)


# -- what nobody may, and what others may not ----------------------------------------------------------------------------

MAY_APPEND: Final = {
    "admin": set(),
    "operator": {"submitted", "cancelled"},
    "producer": {"submitted", "cancelled"},
    "analyst": set(),
    "physics": set(),
    "builder": {"leased", "cache-built", "finished", "rejected", "parked", "cleaned"},
    "runner": {"leased", "compiled", "ran", "finished", "cache-lost", "parked", "cleaned"},
    "projector": set(),
    "archiver": set(),
}
MAY_WRITE: Final = {
    "cutor.env.key": {"builder", "operator"},
    "cutor.body.abc.0": {"operator", "producer", "physics", "builder", "runner", "archiver"},
    "cutor.stack.policy": {"admin"},
    "cutor.stack.bodies": {"admin", "archiver"},
    "cutor.dead.message.EVENTS.1": {"projector", "builder", "runner"},
    "cutor.dead.message.ENVIRONMENTS.1": {"projector"},
    "cutor.dead.parked.default.x": {"operator"},
    "cutor.progress.default.x": {"builder"},
    "cutor.stats.builder.x": {"builder"},
    "cutor.stats.runner.x": {"runner"},
    "cutor.stats.projector.x": {"projector"},
}


async def append(bus: Bus, identity: str, kind: str, expected: int) -> int:
    appended = await bus.append(
        f"cutor.ev.default.{identity}.{kind}",
        b"{}",
        message_id=f"{identity}/{kind}",
        fence=f"cutor.ev.default.{identity}.>",
        expected_sequence=expected,
    )
    return appended.sequence


async def permitted(bus: Bus, subject: str, body: bytes = b"") -> bool:
    """Whether a user may publish to a subject: one that may hears an answer, or none; one that may not is told at once.

    Twice nothing, with all that was sent handled in between, is none: a busy server may take its time for the first refusal.
    """
    for _ in range(2):
        try:
            await bus.link.ask(subject, body, until=asyncio.get_running_loop().time() + 2)
        except NotPermitted as error:
            assert subject in str(error)
            return False
        except NoAnswer:
            await bus.flush(180)
        except NoResponders:
            return True
        else:
            return True
    return True


@pytest.mark.parametrize("user", EVERYBODY)
async def test_which_events_a_user_may_append(site: Site, user: str) -> None:
    async with Bus.connect(site.cluster.url(user), name="test") as bus:
        may = set()
        for kind in KINDS:
            try:
                await append(bus, f"{user}-{fresh()}", kind, 0)
            except NotPermitted as error:
                assert f"does not let the user '{user}' publish to cutor.ev.default." in str(error)
            else:
                may.add(kind)
        assert may == MAY_APPEND[user]


@pytest.mark.parametrize("subject", MAY_WRITE)
async def test_who_may_write_what_else_the_streams_hold(site: Site, subject: str) -> None:
    may = set()
    for user in EVERYBODY:
        async with Bus.connect(site.cluster.url(user), name="test") as bus:
            if await permitted(bus, subject, b'{"not": "an event"}'):
                may.add(user)
    assert may == MAY_WRITE[subject]
    if subject == "cutor.stack.policy":
        assert site.cutor("admin", "streams", "apply").returncode == 0, "the policy is what it was"


@pytest.mark.parametrize("user", PEOPLE)
async def test_who_follows_submissions_hears_what_their_builds_print(site: Site, user: str) -> None:
    """The producer of one tenant those of that tenant alone."""
    theirs = f"cutor.progress.{'physics' if user == 'physics' else 'default'}.{fresh()}"
    url, of_builder = site.cluster.url(user), site.cluster.url("builder")
    async with Bus.connect(url, name="test") as bus, Bus.connect(of_builder, name="test") as builder:
        async with asyncio.timeout(180), bus.subscribe(theirs) as notices:
            heard = asyncio.ensure_future(anext(aiter(notices)))
            while not heard.done():  # of a cluster, each node learns of a subscription in its own time
                await builder.notify(theirs, b"piece")
                await asyncio.wait({heard}, timeout=0.2)
            assert (await heard).body == b"piece"
        if user == "physics":
            with pytest.raises(NotPermitted):
                async with bus.subscribe(f"cutor.progress.other.{fresh()}"):
                    pass


async def test_builders_and_runners_hear_what_others_build_and_no_stranger_does(site: Site) -> None:
    hearing = set()
    for user in EVERYBODY:
        async with Bus.connect(site.cluster.url(user), name="test") as bus:
            try:
                async with bus.subscribe("cutor.env.key"):
                    hearing.add(user)
            except NotPermitted:
                continue
    assert {"builder", "runner"} <= hearing
    assert not hearing & {*UNTRUSTED, "projector"}


@pytest.mark.parametrize("user", EVERYBODY)
async def test_nobody_may_delete_or_empty_a_stream_or_delete_a_message(site: Site, user: str) -> None:
    """The archiver alone may have EVENTS and BODIES let go of what is sealed: tests/contract/test_archiver_account.py."""
    before = {}
    async with Bus.connect(site.cluster.url(user), name="test") as bus, Bus.connect(site.cluster.url(), name="test") as admin:
        for stream in STREAMS:
            before[stream] = (await admin.stream_info(stream))["state"]["messages"]
            for request, body in (("DELETE", b""), ("PURGE", b"{}"), ("MSG.DELETE", b'{"seq": 1}')):
                if (user, request) == ("archiver", "PURGE") and stream in ("EVENTS", "BODIES"):
                    continue
                assert not await permitted(bus, f"$JS.API.STREAM.{request}.{stream}", body)
            assert (await admin.stream_info(stream))["state"]["messages"] >= before[stream]


MANAGING: Final = (
    *("STREAM.CREATE.MINE", "STREAM.UPDATE.EVENTS", "STREAM.SNAPSHOT.EVENTS", "STREAM.RESTORE.MINE", "STREAM.LIST"),
    *("STREAM.LEADER.STEPDOWN.EVENTS", "STREAM.PEER.REMOVE.EVENTS", "CONSUMER.LEADER.STEPDOWN.EVENTS.builder-default"),
    *("CONSUMER.PAUSE.EVENTS.builder-default", "CONSUMER.RESET.EVENTS.builder-default", "CONSUMER.CREATE.EVENTS"),
    *("CONSUMER.UNPIN.EVENTS.builder-default", "CONSUMER.DURABLE.CREATE.EVENTS.builder-default"),
    "CONSUMER.CREATE.EVENTS.builder-default.cutor.ev.default.*.submitted",
)
OF_CONSUMERS: Final = (
    *("CONSUMER.CREATE.EVENTS.builder-default", "CONSUMER.DELETE.EVENTS.builder-default"),
    *("CONSUMER.MSG.NEXT.EVENTS.builder-default", "CONSUMER.MSG.NEXT.EVENTS.runner-default"),
)


@pytest.mark.parametrize("user", [user for user in EVERYBODY if user != "admin"])
async def test_only_the_admin_manages_streams_and_consumers(site: Site, user: str) -> None:
    async with Bus.connect(site.cluster.url(user), name="test") as bus:
        assert [request for request in MANAGING if await permitted(bus, f"$JS.API.{request}", b"{}")] == []


@pytest.mark.parametrize("user", [*UNTRUSTED, "builder", "runner"])
async def test_who_reads_single_submissions_reaches_no_consumer_but_ones_own(site: Site, user: str) -> None:
    """Neither made nor deleted, pulled from or acknowledged for: what is queued for a role reaches that role alone."""
    own = {f"CONSUMER.MSG.NEXT.EVENTS.{user}-default"}
    async with Bus.connect(site.cluster.url(user), name="test") as bus:
        reached = {request for request in OF_CONSUMERS if await permitted(bus, f"$JS.API.{request}", b'{"no_wait": true}')}
        assert reached == own & set(OF_CONSUMERS)
        acknowledged = [
            role for role in ("builder", "runner") if await permitted(bus, f"$JS.ACK.EVENTS.{role}-default.1.1.1.1.0", b"+ACK")
        ]
        assert acknowledged == [role for role in ("builder", "runner") if role == user]


@pytest.mark.parametrize("user", EVERYBODY)
async def test_nobody_reads_the_answers_to_others(site: Site, user: str) -> None:
    for other in (*(f"_INBOX.{name}.>" for name in EVERYBODY if name != user), "_INBOX.>", ">", "$JS.ACK.>", "$JS.API.>"):
        async with Bus.connect(site.cluster.url(user), name="test") as bus:
            with pytest.raises(NotPermitted, match=f"does not let the user '{user}' subscribe to "):
                async with bus.subscribe(other):
                    pass


@pytest.mark.parametrize("user", EVERYBODY)
async def test_nobody_answers_in_the_name_of_the_server(site: Site, user: str) -> None:
    """Into an inbox only the server writes, and the projector to whom it was asked by."""
    async with Bus.connect(site.cluster.url(user), name="test") as bus:
        for inbox in ("_INBOX.admin.x.1", "_INBOX.producer.x.1", f"_INBOX.{user}.x.1"):
            assert not await permitted(bus, inbox, b"{}")


async def test_only_people_who_may_ask_in_sql_and_only_the_projector_answers(site: Site) -> None:
    asking, serving = set(), set()
    for user in EVERYBODY:
        async with Bus.connect(site.cluster.url(user), name="test") as bus:
            if await permitted(bus, "cutor.query", b"{}"):
                asking.add(user)
            try:
                async with bus.subscribe("cutor.query"):
                    serving.add(user)
            except NotPermitted:
                continue
    assert (asking, serving) == ({"admin", "operator", "analyst"}, {"projector"})


async def test_who_may_ask_in_sql_may_take_the_views_away(site: Site) -> None:
    asking = set()
    for user in EVERYBODY:
        async with Bus.connect(site.cluster.url(user), name="test") as bus:
            if await permitted(bus, "cutor.projector.snapshot", b"{}"):
                asking.add(user)
    assert asking == {"admin", "operator", "analyst"}


async def test_only_who_looks_after_the_stack_may_have_the_views_made_anew(site: Site) -> None:
    asking, serving = set(), set()
    for user in EVERYBODY:
        async with Bus.connect(site.cluster.url(user), name="test") as bus:
            if await permitted(bus, "cutor.projector.rebuild", b"{}"):
                asking.add(user)
            try:
                async with bus.subscribe("cutor.projector.rebuild.*"):
                    serving.add(user)
            except NotPermitted:
                continue
    assert (asking, serving) == ({"admin", "operator"}, {"projector"})


async def test_a_producer_forges_nothing_by_headers(site: Site) -> None:
    """What a header could do to a stream, the stream's own settings refuse."""
    async with Bus.connect(site.cluster.url("producer"), name="test") as bus:
        identity = fresh()
        await append(bus, identity, "submitted", 0)
        for header in ({"Nats-Rollup": "all"}, {"Nats-Rollup": "sub"}, {"Nats-TTL": "1s"}, {"Nats-Schedule": "@every 1s"}):
            subject = f"cutor.ev.default.{identity}.submitted"
            answer = await bus.link.ask(subject, b"x", until=asyncio.get_running_loop().time() + 10, headers=header)
            assert b'"error"' in answer.data, header
        assert len(await bus.history(f"cutor.ev.default.{identity}.>", f"cutor.ev.default.{identity}.submitted")) == 1


async def test_a_wrong_password_and_no_password_are_refused(site: Site) -> None:
    url = site.cluster.url("producer", nodes=[0])
    for address in (re.sub(r"//producer:[0-9a-f]+@", "//producer:wrong@", url), re.sub(r"//[^@]+@", "//", url)):
        with pytest.raises(BusError, match="refuses the credential"):
            async with Bus.connect(address, name="test"):
                pass


def test_a_refusal_is_one_line_of_the_command(site: Site) -> None:
    submitted = one_line(site.cutor("analyst", "submit", "-", "--id", "denied", stdin=request()), 3)
    assert "does not let the user 'analyst' publish to cutor.ev.default.denied.submitted" in submitted
    assert "does not let the user 'producer' subscribe to cutor.stats." in one_line(site.cutor("producer", "top", "--once"), 3)
    for command in (("events",), ("query", "SELECT 1"), ("streams", "apply"), ("parked", "list")):
        assert "does not let the user 'producer' publish to " in one_line(site.cutor("producer", *command), 3)


def test_a_role_with_the_wrong_credential_says_so(site: Site) -> None:
    """A runner with a builder's credential: it cannot pull, and its log says why."""
    environment = site.environment("runner") | {"CUTOR_SERVER": site.environment("builder")["CUTOR_SERVER"]}
    log = site.home / "wrong.log"
    with log.open("wb") as opened:
        command = [sys.executable, "-m", "cutor", "runner", "--data", str(site.home / "wrong")]
        process = subprocess.Popen(command, env=environment, stdout=opened, stderr=opened)
    try:
        wait_for(log, r"does not let the user 'builder' publish to \$js\.api\.consumer\.msg\.next")
    finally:
        process.terminate()
        assert process.wait(180) == 0
