"""A runner whose containers serve several submissions: which serves which, as its log tells; what is seen of the last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cutor import Client
from cutor.containers.engine import Engine
from cutor.model.subjects import Address
from cutor.nix.settings import NixSettings
from tests import served
from tests.bare_stack import User
from tests.integration.live_submissions import PATIENCE_S, cleaned, document, printed, until
from tests.live_stack import PATIENT
from tests.queues import taken_up
from tests.stores import section

CONFIG: Final = """
[builder]
slots = 1
[runner]
slots = 1
uid_base = 530000
submissions_per_container = 3
[tenants]
default = 1
flood = 1
"""
QUEUED: Final = 6
LEAVES: Final = """
mkdir /tmp/left /dev/shm/left left; echo secret > left/A; chmod 000 left /tmp/left
(trap '' TERM; while :; do sleep 1; done) > /dev/null 2>&1 &
exit 3
"""
LOOKS: Final = 'echo /tmp/* /dev/shm/* * /proc/[0-9]*; exec 3< "$0"'
SEEN: Final = "/tmp/* /dev/shm/* cutor-run.sh shell.nix /proc/1 /proc/2"


@pytest.fixture(scope="module")
def reusing(tmp_path_factory: pytest.TempPathFactory, nix_settings: NixSettings) -> Iterator[User]:
    """A stack whose runner has one slot; its uids and port are its own."""
    user = User(tmp_path_factory.mktemp("reusing"))
    config = user.home / "config.toml"
    config.write_text(CONFIG + section(nix_settings) + PATIENT)
    started = user.up("--config", str(config), roles=("builder", "runner", "projector"))
    assert started.returncode == 0, started.stderr
    try:
        yield user
        assert user.down().returncode == 0
    finally:
        user.down()


async def served_in(user: User, client: Client, script: str, **more: Any) -> tuple[str, str, str]:
    """Hand a submission in; return how it ended, what it printed, and in which container that was, once it is cleaned."""
    identity = (await client.submit(document(script, **more))).id
    ended = await client.result(identity, wait=True, timeout_s=PATIENCE_S)
    await cleaned(client, identity)
    (name,) = served.named(user.stack.data, identity)
    return str(ended.run[0].outcome), printed(ended.run[0].stdout).decode(), name


async def test_a_container_serves_so_many_submissions_and_no_more(reusing: User) -> None:
    async with Client(reusing.stack.server) as client:
        found = [await served_in(reusing, client, script) for script in (LEAVES, LOOKS, LEAVES, LOOKS, LOOKS)]
    names = [name for _, _, name in found]
    assert [(outcome, text.strip()) for outcome, text, _ in found] == [
        ("RE", ""),
        ("OK", SEEN),
        ("RE", ""),
        ("OK", SEEN),
        ("OK", SEEN),
    ]
    assert names[0] == names[1] == names[2]
    assert names[0] not in names[3:]
    async with Engine.connect() as engine:
        assert names[0] not in {one.name for one in await engine.list(reusing.stack.instance)}


@pytest.mark.parametrize(
    ("script", "limits", "outcome"),
    [
        ("sleep 30", {"wall_time_ms": 200, "cpu_time_ms": 100}, "TLE_WALL"),
        ("exec yes", {"stdout_bytes": 1000}, "OLE"),
        ("exec python3 -c 'bytearray(1 << 30)'", {}, "MLE"),
    ],
)
async def test_a_container_in_which_a_program_was_killed_serves_no_other(
    reusing: User, script: str, limits: dict[str, int], outcome: str
) -> None:
    async with Client(reusing.stack.server) as client:
        ended, _, killed_in = await served_in(reusing, client, script, limits={"run": limits})
        assert ended == outcome
        assert (await served_in(reusing, client, LOOKS))[2] != killed_in


async def test_a_container_whose_submission_was_cancelled_serves_no_other(reusing: User) -> None:
    async with Client(reusing.stack.server) as client:
        identity = (await client.submit(document("echo begun; sleep 60"))).id
        async with asyncio.timeout(PATIENCE_S):
            while not (names := served.named(reusing.stack.data, identity)):
                await asyncio.sleep(0.05)
        await client.cancel(identity)
        await cleaned(client, identity)
        assert (await served_in(reusing, client, LOOKS))[2] not in names


async def test_a_single_submission_has_a_turn_before_another_tenants_queue_is_through(reusing: User) -> None:
    """The one slot is held until all of them wait for the runner, so nothing depends on who is quick."""
    async with Client(reusing.stack.server) as client:

        async def waiting(address: Address) -> None:
            async def built() -> bool | None:
                state = await client.journal.state(address)
                return True if state is not None and state.environment is not None else None

            await until(built)

        holds = (await client.submit(document("sleep 1000", limits={"run": {"wall_time_ms": 600_000}}))).id
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not served.named(reusing.stack.data, holds):
                    await asyncio.sleep(0.05)
            queued = [Address("flood", (await client.submit(document("true", tenant="flood"))).id) for _ in range(QUEUED)]
            single = Address("default", (await client.submit(document("true"))).id)
            for one in (*queued, single):
                await waiting(one)
        finally:
            held = await client.cancel(holds)
        assert held, "it had the slot until all of them waited"
        for one in (*queued, single):
            assert (await client.result(one.id, one.tenant, wait=True, timeout_s=PATIENCE_S)).outcome == "OK"
        leased = await taken_up(client.journal.bus, "runner")
        order = [one for one in dict.fromkeys(leased) if one in {*queued, single}]
        assert order.index(single) <= 2, order
