"""The endpoint of metrics over real sockets: what it answers, what it refuses, and that a role has one."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cutor.bus.connection import Bus
from cutor.bus.embedded import EmbeddedServer
from cutor.bus.topology import apply, default_text
from cutor.bus.topology_file import parse
from cutor.cli.checks.metrics import check_metrics
from cutor.config import Config
from cutor.journal.journal import Journal
from cutor.journal.stack_policy import publish_policy
from cutor.metrics import table
from cutor.metrics.endpoint import CONNECTIONS_AT_MOST, REQUEST_BYTES, Endpoint, EndpointTaken
from cutor.metrics.settings import MetricsSettings
from cutor.model.limits import Policy
from cutor.process.context import RoleContext
from cutor.process.exposing import addresses, exposing
from cutor.roles.loop import Loop
from cutor.stack.data import DataDirectory
from cutor.stack.leftovers import remove_leftovers
from tests.bare_stack import User
from tests.scripted_roles import Scripted, Waiting, build, request, until

PATIENCE_S = 180.0


class Served:
    """What an endpoint of a test says."""

    def __init__(self) -> None:
        self.serves = True
        self.asked = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def metrics(self) -> tuple[bytes, str]:
        self.asked += 1
        await self.go_on.wait()
        return b"# EOF\n", "application/openmetrics-text"


@pytest.fixture
async def served() -> AsyncIterator[tuple[Endpoint, Served]]:
    what = Served()
    async with Endpoint("127.0.0.1", 0, metrics=what.metrics, serves=lambda: what.serves) as endpoint:
        yield endpoint, what


async def say(endpoint: Endpoint, sent: bytes) -> bytes:
    """Send bytes, and return everything that comes until the other side closes."""
    host, _, port = endpoint.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(sent)
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_it_answers_a_scrape_and_closes(served: tuple[Endpoint, Served]) -> None:
    endpoint, _ = served
    answer = await say(
        endpoint, b"GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n"
    )
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text\r\nContent-Length: 6\r\n")
    assert body == b"# EOF\n", "one request a connection"


async def test_health_is_whether_the_role_serves(served: tuple[Endpoint, Served]) -> None:
    endpoint, what = served
    assert (await say(endpoint, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    what.serves = False
    assert (await say(endpoint, b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 1000000\r\n\r\nabc", 405),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", 405),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"GET http://x/metrics HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET  /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nX: " + b"x" * REQUEST_BYTES + b"\r\n\r\n", 431),
    ],
)
async def test_what_it_does_not_serve(served: tuple[Endpoint, Served], sent: bytes, status: int) -> None:
    endpoint, what = served
    assert (await say(endpoint, sent)).startswith(f"HTTP/1.1 {status} ".encode())
    assert what.asked == 0


async def test_one_that_hangs_up_early_harms_nobody(served: tuple[Endpoint, Served]) -> None:
    endpoint, _ = served
    host, _, port = endpoint.address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /met")
    writer.close()
    await writer.wait_closed()
    assert (await say(endpoint, b"GET /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_so_many_at_once_and_no_more(served: tuple[Endpoint, Served]) -> None:
    """Those that came first get their answer; one more is sent away, and comes again later."""
    endpoint, what = served
    what.go_on.clear()
    first = [asyncio.create_task(say(endpoint, b"GET /metrics HTTP/1.1\r\n\r\n")) for _ in range(CONNECTIONS_AT_MOST)]
    async with asyncio.timeout(PATIENCE_S):
        while what.asked < CONNECTIONS_AT_MOST:
            await asyncio.sleep(0.01)
    assert await say(endpoint, b"GET /healthz HTTP/1.1\r\n\r\n") == b""
    what.go_on.set()
    assert [answer[:12] for answer in await asyncio.gather(*first)] == [b"HTTP/1.1 200"] * CONNECTIONS_AT_MOST
    assert (await say(endpoint, b"GET /healthz HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_slow_request_is_given_up(served: tuple[Endpoint, Served], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutor.metrics.endpoint.REQUEST_S", 0.05)
    endpoint, _ = served
    assert await say(endpoint, b"GET /metrics HTTP/1.1\r\n") == b""


async def test_a_port_that_is_taken_is_said(served: tuple[Endpoint, Served]) -> None:
    endpoint, what = served
    host, _, port = endpoint.address.rpartition(":")
    with pytest.raises(EndpointTaken, match=port):
        await Endpoint(host, int(port), metrics=what.metrics, serves=lambda: True).__aenter__()


# -- of roles --------------------------------------------------------------------------------------------------------------


def scrape(address: str) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the samples of an endpoint by name and values of labels, in the order of the labels' names."""
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=PATIENCE_S) as answer:
        text = answer.read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {(one.name, tuple(one.labels[name] for name in sorted(one.labels))): one.value for one in samples}


async def test_a_role_counts_what_it_appends_and_tells_what_is_there(tmp_path: Path) -> None:
    """While one submission is at work and another one waits; after a port that is taken it works all the same."""
    async with await EmbeddedServer.start(tmp_path / "nats") as server, Bus.connect(server.url, name="test") as bus:
        await apply(bus, parse(default_text(), ["default"]))
        stop, ready = asyncio.Event(), asyncio.Event()
        context = RoleContext(server.url, "i", "w", Config(), ready.set, stop, data=tmp_path)
        journal = Journal(bus, context.measures.appended)
        await publish_policy(journal.bus, Policy())
        work = Waiting(build)
        async with exposing(context, "builder", tmp_path):
            loop = asyncio.create_task(Loop(context, journal, Scripted("builder", work), 1).run())
            submitted = [await journal.submit(request(name)) for name in ("a", "b")]
            await work.began.wait()
            address = addresses(tmp_path)["builder"]
            found = await asyncio.to_thread(scrape, address)
            assert found["cutor_queue_depth", ("builder", "default")] == 1
            assert found["cutor_queue_unacknowledged", ("builder", "default")] == 1
            assert (found["cutor_slots", ("busy",)], found["cutor_slots", ("free",)]) == (1, 0)
            assert found["cutor_leases_total", ("builder",)] == 1
            assert found["cutor_server_connected", ()] == 1
            assert found["cutor_data_free_bytes", ()] > 0
            work.go_on.set()
            for one in submitted:
                await until(journal, one.address, lambda state: state.status == "DEPENDENCIES_INSTALLED")
            found = await asyncio.to_thread(scrape, address)
            assert found["cutor_environment_builds_total", ("ok",)] == 2
            assert found["cutor_lease_wait_seconds_count", ("builder", "default")] == 2
            stop.set()
            await loop
        assert addresses(tmp_path) == {}
        assert context.measures.tally.numbers(table.QUEUE) == {}, "nobody knows it any more"


async def test_a_role_whose_port_is_taken_says_so_and_works(
    served: tuple[Endpoint, Served], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint, _ = served
    port = int(endpoint.address.rpartition(":")[2])
    config = Config(metrics=MetricsSettings(runner_port=port))
    context = RoleContext("", "i", "w", config, lambda: None, asyncio.Event(), data=tmp_path)
    async with exposing(context, "runner", tmp_path):
        assert addresses(tmp_path) == {}
    assert f"no metrics of this runner: it cannot listen on 127.0.0.1:{port}" in caplog.text


def test_a_stack_tells_where_its_metrics_are_and_takes_that_back(user: User) -> None:
    """By files that Prometheus reads; the projector's own metrics with them."""
    assert user.up(roles=["projector"]).returncode == 0
    file = user.stack.data / "metrics" / "projector.json"
    [target] = json.loads(file.read_text())
    assert target["labels"] == {
        "cutor_role": "projector",
        "cutor_instance": user.stack.instance,
        "cutor_worker": f"projector-{user.stack.instance}",
    }
    found = scrape(target["targets"][0])
    assert found["cutor_ready", ()] == 1
    assert found["cutor_projector_behind_messages", ("EVENTS",)] == 0
    assert found["cutor_stream_messages", ("DEADLETTERS",)] == 0
    assert found["cutor_jetstream_used_bytes", ()] >= 0
    doctor = json.loads(user.cutor("doctor", "--json").stdout)
    [finding] = [one for one in doctor if one["what"] == "metrics"]
    assert (finding["verdict"], finding["detail"]) == ("ok", f"projector http://{target['targets'][0]}/metrics")
    assert user.down().returncode == 0
    assert not file.exists()


def test_what_a_killed_life_left_is_forgotten_at_the_next_start(tmp_path: Path) -> None:
    left, other = tmp_path / "metrics" / "runner.json", tmp_path / "metrics" / "mine.json"
    left.parent.mkdir()
    for file in (left, other):
        file.write_text("[]")
    assert remove_leftovers(DataDirectory(tmp_path)) == []
    assert (left.exists(), other.exists()) == (False, True)


async def test_a_doctor_tells_of_an_endpoint_that_does_not_answer(served: tuple[Endpoint, Served], tmp_path: Path) -> None:
    endpoint, what = served
    file = tmp_path / "metrics" / "runner.json"
    file.parent.mkdir()
    file.write_text(json.dumps([{"targets": [endpoint.address]}]))
    assert (await check_metrics(MetricsSettings(), tmp_path)).verdict == "ok"
    what.serves = False
    finding = await check_metrics(MetricsSettings(), tmp_path)
    assert (finding.verdict, finding.detail) == ("warn", f"runner http://{endpoint.address}/metrics; not serving: runner")
    file.write_text('[{"targets": ["127.0.0.1:1"]}]')
    assert (await check_metrics(MetricsSettings(), tmp_path)).verdict == "warn"
    file.write_text("no json")
    assert "no role of this stack tells any" in (await check_metrics(MetricsSettings(), tmp_path)).detail
    assert "no role tells any" in (await check_metrics(MetricsSettings(enabled=False), tmp_path)).detail
