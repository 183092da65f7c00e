"""Ten thousand bad requests: each is refused in one plain line that names the field, whatever door it came in by."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutor.cli.failures import exit_code_of
from cutor.cli.main import run
from cutor.client.submission_directory import read_directory
from cutor.errors import REFUSED
from cutor.journal.contents import Contents
from cutor.model.codec import encode
from cutor.model.errors import InvalidRequest
from cutor.model.events import Event, Lease, Rejected, Submitted
from cutor.model.limits import STAGE_KINDS, UNITS, Bounds, Policy
from cutor.model.messages import read_message
from cutor.model.request import Request, digest, parse_request, request_from
from cutor.model.request_checks import check_file_name, validate
from cutor.model.state import Stamp, initial
from cutor.model.subjects import Address, event_subject
from cutor.roles import builder
from tests.bare_stack import User
from tests.integration.test_cli_bad_input import events_in_stream
from tests.property.bad_requests import BREAKAGES, MUTATIONS, Bad, Breakage, Mutation, bad_request, dumps
from tests.property.good_requests import POLICY, good_request

WAYS: tuple[Mutation | Breakage, ...] = (*MUTATIONS, *BREAKAGES)
AT_LEAST = 10_000
MESSAGE_CHARACTERS = 400


def refusal(door: Callable[[], Request], policy: Policy = POLICY) -> str:
    """Return why a request is refused, by nothing but an `InvalidRequest` with exit code 2 and one plain line."""
    try:
        validate(door(), policy, "made-up")
    except InvalidRequest as error:
        assert type(error) is InvalidRequest
        assert exit_code_of(error) == REFUSED
        return plain_line(str(error))
    raise AssertionError("it was accepted")


def plain_line(message: str) -> str:
    """Check that a terminal shows a message as it is, in a few lines at the most."""
    assert message.isprintable(), ascii(message[:1000])
    assert message.strip()
    assert len(message) <= MESSAGE_CHARACTERS, (len(message), message[:1000])
    return message


def refused_at_every_door(bad: Bad) -> int:
    """Check that each door that such a request fits through refuses it for one of its mutations; return how many there are."""
    refused = 0
    if (raw := bad.raw) is not None:
        assert refusal(lambda: parse_request(raw)).startswith(bad.beginnings)
        refused += 1
    if (document := bad.document) is not None:
        assert refusal(lambda: request_from(document)).startswith(bad.beginnings)
        refused += 1
    return refused


def nth(number: int) -> Bad:
    """Return the bad request of a number; every way to be bad has its turn."""
    return bad_request(Random(number), WAYS[number % len(WAYS)])


def test_what_the_bad_ones_are_made_of_is_good() -> None:
    """Else they could be refused for what nobody did to them."""
    for number in range(500):
        document = good_request(Random(number))
        valid = validate(parse_request(json.dumps(document).encode()), POLICY, "made-up")
        assert digest(validate(request_from(document), POLICY, "made-up")) == digest(valid)


def test_ten_thousand_bad_requests_are_refused_each_in_one_line_that_names_the_field() -> None:
    seen: Counter[str] = Counter()
    different: set[bytes] = set()
    limits: set[tuple[str, ...]] = set()
    refused = number = 0
    while len(different) < AT_LEAST:
        bad = nth(number)
        try:
            refused += refused_at_every_door(bad)
        except BaseException as error:
            error.add_note(f"the bad request of number {number}: {', '.join(bad.mutations)}")
            raise
        seen.update(bad.mutations)
        if bad.raw is not None:
            different.add(bad.raw)
        limits |= {found.groups() for text in bad.beginnings if (found := re.search(r"limits\.(\w+)\.(\w+)", text))}
        number += 1
    assert refused > 1.5 * AT_LEAST
    assert set(seen) == {way.name for way in WAYS}
    assert min(seen.values()) >= AT_LEAST / len(WAYS) / 2, seen
    assert limits == {(kind, name) for kind in STAGE_KINDS for name in UNITS}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.sampled_from(WAYS))
def test_bad_requests_are_refused_and_one_that_is_not_is_shrunk(random: Random, way: Mutation | Breakage) -> None:
    refused_at_every_door(bad_request(random, way))


@pytest.mark.parametrize(
    "document", [[], (), None, 5, "x", b"x", [{"files": []}], range(3), Policy(), Request, object(), {1: 2}]
)
def test_what_is_no_mapping_of_fields_is_refused(document: Any) -> None:
    assert refusal(lambda: request_from(document)).startswith("request: ")


def test_a_long_list_of_tenants_is_not_told_in_full() -> None:
    policy = Policy(tenants={f"{n:032d}": 1 for n in range(1000)})
    message = refusal(lambda: request_from(good_request(Random(1)) | {"tenant": "nobody"}), policy)
    assert message.startswith(f"tenant 'nobody' is not declared; this stack has: {0:032d}, {1:032d}, ")
    assert message.endswith(" and 995 more")


def test_no_directory_or_file_is_longer_than_a_file_system_takes() -> None:
    """However long a path the deployer allows: the box could not hold it, and that would be no fault of the submission."""
    check_file_name("/".join(["é" * 127] * 9), 4000)
    for name in ("é" * 128, "a/" + "b" * 256 + "/c"):
        with pytest.raises(InvalidRequest, match="has a segment of 256 bytes; the maximum is 255"):
            check_file_name(name, 4000)


@pytest.mark.parametrize(
    "settings",
    [
        b"max = " + b"9" * 5000,
        b"[limits.run]\nwall_time_ms = 0x" + b"f" * 5000,
        b"labels = " + b"[" * 5000,
        b'"\\u001b[2J" = 1',
        b'id = "\\u001b[2J"',
        b"x" * 5000 + b" = 1",
        b"[[test_cases]]\n[[test_cases]]\nargs = 2020-13-45",
        b"\xff",
        b"\0",
    ],
)
def test_the_settings_of_a_directory_are_refused_in_one_line_too(settings: bytes, tmp_path: Path) -> None:
    for name, content in {"shell.nix": b"", "cutor-run.sh": b"", "submission.toml": settings}.items():
        (tmp_path / name).write_bytes(content)
    refusal(lambda: read_directory(tmp_path, POLICY.bounds))


ADDRESS = Address("default", "a")
LEASE = Lease(role="builder", worker="w", token="t", number=1)
REFERENCES = (
    {"sha256": "\x1b" * 999, "size_bytes": -1, "chunks": 0},
    {"sha256": "0" * 64, "size_bytes": 10**4000, "chunks": 1},
)


def stored(random: Random, document: Any) -> Any:
    """Return a request as `submitted` holds it, as far as it is one; now and then with a reference to no body."""

    def content(text: Any, encoding: Any) -> Any:
        return {"body": random.choice(REFERENCES)} if random.random() < 0.05 else {"data": text, "encoding": encoding}

    def changed(item: Any, fields: tuple[str, ...]) -> Any:
        if not isinstance(item, dict):
            return item
        encoding = item.get("encoding", "utf8")
        return item | {field: content(item[field], encoding) for field in fields if item.get(field) is not None}

    fields = {"files": ("content",), "test_cases": ("input", "expected_output")}
    lists = {name: document[name] for name in fields if isinstance(document.get(name), list)}
    return document | {name: [changed(item, fields[name]) for item in items] for name, items in lists.items()}


def test_a_builder_rejects_every_bad_request_that_a_producer_published_himself() -> None:
    """He did not ask a client whether it is good. What is stored says no digest of the request: none of them is accepted."""
    answered: Counter[str] = Counter()
    for number in range(3000):
        bad, random = nth(number), Random(number)
        if bad.document is None:
            body = bad.raw or b""
        elif bad.raw is None:
            continue
        else:
            event = {"kind": "submitted", "request": stored(random, bad.document), "digest": "0" * 64}
            body = dumps(event).encode()
        rejected = rejection(body)
        encode(rejected)
        plain_line(rejected.message)
        answered[rejected.message.partition(":")[0]] += 1
    assert {"files", "test_cases[0].args", "the first event of the submission cannot be read"} <= set(answered)
    assert answered.total() > 2000


def rejection(body: bytes) -> Rejected:
    """Return what a builder appends after the lease, for a first event with this body."""
    message = read_message(event_subject(ADDRESS, "submitted"), body)
    assert isinstance(message, Submitted)
    state = initial(ADDRESS, message, Stamp(1, 1))
    reported: list[Event] = []

    async def report(event: Event) -> None:
        reported.append(event)

    contents = Contents(cast("Any", None))  # nothing that is referred to here is fetched
    journal = SimpleNamespace(contents=contents)
    with pytest.raises(InvalidRequest) as refused:
        builder._checked_request(cast("Any", journal), POLICY, state).send(None)  # it waits for nothing
    job = SimpleNamespace(lease=LEASE, report=report)
    with pytest.raises(StopIteration) as done:
        builder._reject(str(refused.value), cast("Any", job)).send(None)
    assert done.value.value is None
    (rejected,) = reported
    assert isinstance(rejected, Rejected)
    return rejected


def test_the_command_refuses_bad_requests_and_nothing_is_appended(
    bare: User, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In this process and on a real server, whose policy is not that of the other tests: some requests are good there."""
    policy = Policy(bounds=Bounds(request_bytes=65536))
    before, refused = events_in_stream(bare), 0
    for number in range(400):
        raw = nth(number).raw
        if not raw or is_good(raw, policy):
            continue
        message = refusal(lambda raw=raw: parse_request(raw), policy)  # type: ignore[misc]
        as_json = ["--json"] if number % 2 else []
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        assert run(["--server", bare.stack.server, "submit", "-", *as_json]) == REFUSED
        said = capsys.readouterr()
        assert said.err == f"cutor: {message}\n"
        documents = [json.loads(line) for line in said.out.splitlines()]
        assert documents == ([{"error": {"message": message, "exit_code": REFUSED}}] if as_json else [])
        refused += 1
    assert refused >= 200
    assert events_in_stream(bare) == before


def test_what_is_no_request_is_refused_before_anybody_looks_for_a_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = [number for number in range(400) if WAYS[number % len(WAYS)] in BREAKAGES]
    for raw in (nth(number).raw for number in numbers):
        if raw:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
            assert run(["--server", "nats://127.0.0.1:1", "submit", "-"]) == REFUSED
            assert capsys.readouterr().err.startswith("cutor: request: ")
    assert len(numbers) > 50


def is_good(raw: bytes, policy: Policy) -> bool:
    """Whether a request is good under another policy than that it was made for."""
    try:
        validate(parse_request(raw), policy, "made-up")
    except InvalidRequest:
        return False
    return True
