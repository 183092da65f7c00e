"""The Python client on a real server: submit in every form, read, watch, cancel; the same errors as the command line."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cutor import (
    BusUnreachable,
    Client,
    File,
    InvalidRequest,
    Request,
    SubmissionConflict,
    SubmissionUnknown,
    TestCase,
    WaitedTooLong,
)
from cutor.model.subjects import Address
from tests.bare_stack import SOURCES, User
from tests.unit.histories import finished

FILES = tuple(File(name=name, content=content) for name, content in SOURCES.items())
REQUEST = Request(files=FILES, test_cases=(TestCase(),))


def fresh() -> str:
    return secrets.token_hex(8)


async def test_a_request_in_every_form_is_the_same_submission(bare: User, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    for name, content in SOURCES.items():
        (box / name).write_text(content)
    document = {"files": [{"name": name, "content": content} for name, content in SOURCES.items()], "test_cases": [{}]}
    submission_id = fresh()
    async with Client(bare.stack.server) as client:
        receipts = [await client.submit(form, id=submission_id) for form in (REQUEST, document, box, str(box))]
    assert {receipt.id for receipt in receipts} == {submission_id}
    assert {receipt.tenant for receipt in receipts} == {"default"}
    assert {receipt.status for receipt in receipts} == {"SUBMITTED"}


async def test_an_id_is_made_up_where_there_is_none(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        one, two = await client.submit(REQUEST), await client.submit(REQUEST)
        assert one.id != two.id
        result = await client.result(one.id)
    assert (result.id, result.status, result.outcome, result.run) == (one.id, "SUBMITTED", None, ())


async def test_labels_are_added_to_those_of_the_request(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        receipt = await client.submit({**DOCUMENT, "labels": {"a": "1", "b": "1"}}, labels={"b": "2"})
        assert (await client.result(receipt.id)).labels == {"a": "1", "b": "2"}


DOCUMENT = {"files": [{"name": name, "content": content} for name, content in SOURCES.items()], "test_cases": [{}]}


async def test_many_submissions_through_one_client(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        receipts = await asyncio.gather(*(client.submit(REQUEST) for _ in range(50)))
    assert len({receipt.id for receipt in receipts}) == 50


async def test_watch_yields_every_event_until_the_terminal_one(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        receipt = await client.submit(REQUEST)

        async def watch() -> list[str]:
            return [update.kind async for update in client.watch(receipt.id)]

        watching = asyncio.create_task(watch())
        assert await client.cancel(receipt.id, reason="enough")
        assert await asyncio.wait_for(watching, 180) == ["submitted", "cancelled"]
        result = await client.result(receipt.id, wait=True)
    assert (result.status, result.outcome, result.message) == ("CANCELLED", "CANCELLED", "enough")


async def test_cancelling_what_has_ended_changes_nothing(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        receipt = await client.submit(REQUEST)
        assert await client.cancel(receipt.id)
        before = await client.journal.known(Address("default", receipt.id))
        assert not await client.cancel(receipt.id)
        assert await client.journal.known(Address("default", receipt.id)) == before


async def test_a_stray_event_does_not_end_the_wait(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        receipt = await client.submit(REQUEST)
        state = await client.journal.known(Address("default", receipt.id))
        stray = finished(number=9)
        await client.journal.settle(state, lambda state: stray if state.strays == 0 else None)
        assert (await client.journal.known(Address("default", receipt.id))).strays == 1
        with pytest.raises(WaitedTooLong, match="it goes on"):
            await client.result(receipt.id, wait=True, timeout_s=0.2)


async def test_errors_are_those_of_the_command_line(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        with pytest.raises(InvalidRequest, match=r"shell\.nix is missing"):
            await client.submit({"files": [], "test_cases": [{}]})
        with pytest.raises(InvalidRequest, match="cannot be read"):
            await client.submit(Path("/no/such/place"))
        with pytest.raises(SubmissionUnknown):
            await client.result(fresh())
        with pytest.raises(SubmissionUnknown):
            await client.result(fresh(), wait=True)
        with pytest.raises(SubmissionUnknown):
            await client.cancel(fresh())
        receipt = await client.submit(REQUEST)
        with pytest.raises(SubmissionConflict):
            await client.submit(REQUEST, id=receipt.id, labels={"other": "body"})
        with pytest.raises(InvalidRequest, match="id 'a b'"):
            await client.result("a b")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": {"a": 1}}, "labels"),
        ({"labels": None}, "labels: Expected `object`, got `null`"),
        ({"id": 5}, "id: Expected `str | null`, got `int`"),
        ({"tenant": 5}, "tenant: Expected `str`, got `int`"),
        ({"files": (File(name="a", content=b"x"),)}, "files[0].content: Expected `str`, got `bytes`"),  # type: ignore[arg-type]
        ({"test_cases": ("x",)}, "test_cases[0]: Expected `object`, got `str`"),
        ({"test_cases": (TestCase(args=(b"x",)),)}, "test_cases[0].args[0]: Expected `str`"),  # type: ignore[arg-type]
    ],
)
async def test_a_struct_of_wrong_types_is_an_invalid_request(bare: User, changes: dict[str, Any], said: str) -> None:
    async with Client(bare.stack.server) as client:
        for built in (msgspec.structs.replace(REQUEST, **changes), DOCUMENT | changes):
            with pytest.raises(InvalidRequest, match=r"^request: ") as error:
                await client.submit(built)
            assert said in str(error.value)


@pytest.mark.parametrize("given", [{"id": 5}, {"tenant": 5}, {"labels": {"a": 1}}, {"labels": ["a"]}, {"labels": 5}])
async def test_what_is_given_beside_the_request_is_checked_as_well(bare: User, given: dict[str, Any]) -> None:
    async with Client(bare.stack.server) as client:
        with pytest.raises(InvalidRequest, match=f"^request: {next(iter(given))}"):
            await client.submit(REQUEST, **given)


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"]], ids=repr)
async def test_an_id_or_tenant_of_another_kind_is_refused_by_every_call(bare: User, value: Any) -> None:
    async with Client(bare.stack.server) as client:
        for named, argument in (((value,), "id"), (("a", value), "tenant")):
            for call in (client.result(*named), client.cancel(*named), anext(client.watch(*named))):
                with pytest.raises(InvalidRequest, match=f"^{argument}: Expected `str`, got `{type(value).__name__}`$"):
                    await call


@pytest.mark.parametrize("value", [None, 5, b"request.json", ["request.json"], "a\0b", "a" * 5000, "", "/dev/null"], ids=ascii)
async def test_what_is_no_request_is_refused_in_one_line(bare: User, value: Any) -> None:
    async with Client(bare.stack.server) as client:
        with pytest.raises(InvalidRequest) as refused:
            await client.submit(value)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


async def test_an_unknown_id_is_unknown_however_short_the_wait(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        with pytest.raises(SubmissionUnknown):
            await client.result(fresh(), wait=True, timeout_s=0)
        for timeout_s in (-1, float("nan"), float("inf")):
            with pytest.raises(InvalidRequest, match=r"^timeout_s is "):
                await client.result(fresh(), wait=True, timeout_s=timeout_s)


async def test_what_has_ended_needs_no_time(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        receipt = await client.submit(REQUEST)
        with pytest.raises(WaitedTooLong, match="within 0 s; it goes on"):
            await client.result(receipt.id, wait=True, timeout_s=0)
        await client.cancel(receipt.id)
        assert (await client.result(receipt.id, wait=True, timeout_s=0)).status == "CANCELLED"


async def test_an_empty_id_is_no_missing_one(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        with pytest.raises(InvalidRequest, match="id ''"):
            await client.submit(REQUEST, id="")
        with pytest.raises(InvalidRequest, match="tenant ''"):
            await client.submit(REQUEST, tenant="")


async def test_the_policy_is_that_of_the_stack(bare: User) -> None:
    async with Client(bare.stack.server) as client:
        assert (await client.policy()).bounds.request_bytes == 65536


async def test_no_server_is_known_at_once() -> None:
    with pytest.raises(BusUnreachable, match=r"127\.0\.0\.1:1"):
        async with Client("nats://cutor:secret@127.0.0.1:1"):
            pass


async def test_a_client_is_used_inside_of_async_with() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client("nats://127.0.0.1:1").result("x")


async def test_it_finds_the_stack_as_the_command_line_does(bare: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", bare.stack.environment["XDG_STATE_HOME"])
    monkeypatch.setenv("XDG_CONFIG_HOME", bare.stack.environment["XDG_CONFIG_HOME"])
    monkeypatch.delenv("CUTOR_SERVER", raising=False)
    async with Client() as client:
        assert (await client.policy()).bounds.request_bytes == 65536
