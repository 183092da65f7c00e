"""Frames under every cut, and under hostile bytes: whole frames come out whole, anything else is a `ProtocolError`."""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
from itertools import pairwise
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutor.jail.inside import channel
from cutor.jail.inside.host_link import HostLink
from cutor.jail.inside.measure import KilledBy, Limits, Output, Seen, conclude, cpu_wait_ns
from cutor.jail.inside.protocol import Frame, FrameReader, ProtocolError, decode_header, encode
from cutor.jail.report import Report, decode_frame, report_of
from cutor.model.limits import DEFAULT_LIMITS, Limit
from cutor.model.outcome import classify

LIMIT: Limit = DEFAULT_LIMITS.run.default

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
headers = st.dictionaries(st.text(max_size=10), json_values, max_size=5).map(lambda fields: {**fields, "type": "x"})
frames = st.lists(st.tuples(headers, st.binary(max_size=200)), max_size=6)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """Return ``data`` in pieces."""
    edges = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(frames, st.lists(st.integers(min_value=0), max_size=20))
def test_frames_survive_every_cut(sent: list[tuple[dict[str, object], bytes]], places: list[int]) -> None:
    reader = FrameReader()
    data = b"".join(encode(header, body) for header, body in sent)
    got = [frame for piece in cut(data, places) for frame in reader.feed(piece)]
    assert [(decode_header(frame.header), frame.body) for frame in got] == sent
    assert reader.pending_bytes == 0


@given(st.binary(max_size=400), st.lists(st.integers(min_value=0), max_size=10))
def test_hostile_bytes_give_frames_within_the_bounds_or_an_error(data: bytes, places: list[int]) -> None:
    reader = FrameReader(max_header_bytes=50, max_body_bytes=50)
    try:
        for piece in cut(data, places):
            for frame in reader.feed(piece):
                assert len(frame.header) <= 50
                assert len(frame.body) <= 50
            assert reader.pending_bytes <= 8 + 100 + len(piece)
    except ProtocolError:
        pass


@pytest.mark.parametrize(("header_bytes", "body_bytes"), [(51, 0), (0, 51), (2**32 - 1, 0), (0, 2**32 - 1)])
def test_lengths_over_the_bounds_are_refused_before_anything_else_comes(header_bytes: int, body_bytes: int) -> None:
    with pytest.raises(ProtocolError, match="more than 50"):
        FrameReader(max_header_bytes=50, max_body_bytes=50).feed(struct.pack(">II", header_bytes, body_bytes))


@given(st.binary(max_size=300) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_header_is_an_object_with_a_type_or_an_error(text: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert isinstance(decode_header(text)["type"], str)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"type":1}',
        b"[]",
        b"null",
        b"",
        b'{"type":"x","n":NaN}',
        b"\xff",
        b'{"n":' + b"9" * 5000 + b"}",
    ],
)
def test_headers_made_to_hurt_are_refused(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_header(text)
    with pytest.raises(ProtocolError):
        decode_frame(Frame(text, b""))


@given(st.binary(max_size=40) | st.binary(min_size=channel.REPORT_BYTES, max_size=channel.REPORT_BYTES))
def test_a_packet_of_jail_init_is_a_report_or_a_value_error(packet: bytes) -> None:
    try:
        kind, value, monotonic_ns = channel.parse_report(packet)
    except ValueError:
        return
    assert struct.pack("=IiQ", kind, value, monotonic_ns) == packet
    assert kind in channel.Kind.ALL


@given(st.sampled_from(channel.Kind.ALL), st.integers(-(2**31), 2**31 - 1), st.integers(0, 2**64 - 1))
def test_every_report_of_jail_init_is_read(kind: int, value: int, monotonic_ns: int) -> None:
    packet = struct.pack("=IiQ", kind, value, monotonic_ns)
    assert channel.parse_report(packet) == (kind, value, monotonic_ns)
    for size in range(channel.REPORT_BYTES):
        with pytest.raises(ValueError, match=f"a report of {size} bytes"):
            channel.parse_report(packet[:size])


commands = st.lists(st.tuples(headers, st.binary(max_size=200) | st.just(bytes(70_000))), min_size=1, max_size=6)
breaks = st.sampled_from([None, "cut", "length", "header", "noise"])


def broken(sent: list[bytes], how: str | None, at: int, noise: bytes) -> tuple[bytes, int]:
    """Return commands of which one is broken in some way, and how many come before it."""
    if how is None:
        return b"".join(sent), len(sent)
    at %= len(sent)
    bad = {
        "cut": sent[at][: len(noise) % len(sent[at])],
        "length": b"\xff\xff\xff\xff" + sent[at],
        "header": struct.pack(">II", len(noise) + 1, 0) + b"{" + noise,
        "noise": b"\xff" + noise + sent[at],
    }[how]
    return b"".join([*sent[:at], bad] + ([] if how == "cut" else sent[at + 1 :])), at


@settings(max_examples=60, deadline=None)
@given(commands, breaks, st.integers(0, 5), st.binary(max_size=20), st.lists(st.integers(min_value=0), max_size=6))
def test_a_host_that_breaks_off_is_gone_and_one_that_sends_no_frames_is_an_error(
    sent: list[tuple[dict[str, object], bytes]], how: str | None, at: int, noise: bytes, places: list[int]
) -> None:
    """On a real pipe: the commands before that come whole, in order, then there is an end; never a wait or another error."""
    data, whole = broken([encode(header, body) for header, body in sent], how, at, noise)
    read, write = os.pipe()
    link = HostLink(read, write_fd=write)
    sender = threading.Thread(target=send_and_close, args=(write, cut(data, places)), daemon=True)
    sender.start()
    got = []
    try:
        while (command := link.next()) is not None:
            got.append((command.header, command.body))
            with contextlib.suppress(ProtocolError):
                assert isinstance(command.field("index", int), int)
        assert link.cancelled
        assert how in (None, "cut")
    except ProtocolError:
        assert how not in (None, "cut")
    os.close(read)
    sender.join(60)
    assert not sender.is_alive()
    assert got == sent[: len(got)]
    assert len(got) <= whole
    if how in (None, "cut"):
        assert len(got) == whole


def send_and_close(fd: int, pieces: list[bytes]) -> None:
    with contextlib.suppress(BrokenPipeError):
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
    os.close(fd)


counts = st.integers(-2, 2**60)
maybe = st.none() | counts
report_headers = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["report", "ready", "rested", "fault"]),
        "kind": st.sampled_from(["run", "compile", "x"]),
        "index": counts,
        "exit_code": st.none() | st.integers(-1, 300),
        "signal_number": st.none() | st.integers(-1, 70),
        "killed_by": st.none() | st.sampled_from(["wall_time", "cancel", "memory", "me"]),
        "oom_kills": counts,
        "cpu_time_ms": maybe,
        "wall_time_ms": maybe,
        "memory_peak_bytes": maybe,
        "stdout_bytes": st.integers(-1, 20),
        "stdout_bytes_total": st.integers(-1, 20),
        "stderr_bytes": st.integers(-1, 20),
        "stderr_bytes_total": st.integers(-1, 20),
        "fault": st.none() | st.text(max_size=20),
    }
)


@given(report_headers, st.binary(max_size=40))
def test_a_hostile_report_is_refused_or_holds_together(fields: dict[str, object], body: bytes) -> None:
    try:
        header = decode_frame(Frame(json.dumps(fields).encode(), body))
        assert isinstance(header, Report)
        report = report_of(header, body, LIMIT)
    except ProtocolError:
        return
    assert report.exit_code is None or report.signal_number is None
    assert report.stdout + report.stderr == body
    assert len(report.stdout) <= report.stdout_bytes_total
    assert report.wall_time_ms is None or report.wall_time_ms >= 0
    classify(report)


names = st.binary(min_size=1, max_size=10).filter(lambda name: not {0, 61} & set(name))
plain = st.binary(max_size=20).filter(lambda text: 0 not in text)


@given(
    st.lists(plain, min_size=1, max_size=5),
    st.dictionaries(names, plain, max_size=5),
    st.dictionaries(st.integers(0, 15), st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=5),
)
def test_a_job_can_be_taken_apart_again(
    arguments: list[bytes], variables: dict[bytes, bytes], limits: dict[int, tuple[int, int]]
) -> None:
    job = channel.pack_job(channel.Program(arguments, channel.pack_variables(variables)), limits)
    limit_count, argc, envc, _ = struct.unpack_from("=IIII", job)
    triples = [struct.unpack_from("=QQQ", job, 16 + 24 * number) for number in range(limit_count)]
    strings = job[16 + 24 * limit_count :].split(b"\0")
    assert {resource: (soft, hard) for resource, soft, hard in triples} == limits
    assert strings == [b"/box", *arguments, *(name + b"=" + value for name, value in variables.items()), b""]
    assert (argc, envc) == (len(arguments), len(variables))


@given(
    st.sampled_from([None, 0, 3 << 8, 139 << 8, 9, 11, 25]),
    st.sampled_from([None, 2, 7, 12, 13]),
    st.sampled_from([None, *get_args(KilledBy)]),
    st.integers(0, 2),
    st.none() | st.integers(-(10**6), 10**10),
    st.none() | st.integers(0, 2 * 10**10),
    st.sampled_from([None, "broken"]),
)
def test_what_is_concluded_holds_together(
    status: int | None,
    exec_errno: int | None,
    killed_by: object,
    oom_kills: int,
    cpu_ns: int | None,
    wall_ns: int | None,
    fault: str | None,
) -> None:
    limits = Limits(10_000, 5_000, 64, 100, 100, 1000, 64, 1 << 20)
    seen = Seen(status, exec_errno, killed_by, oom_kills, cpu_ns, wall_ns, (10, 20), 30, Output(), Output(), fault)  # type: ignore[arg-type]
    result = conclude(seen, limits)
    assert result.exit_code is None or result.signal_number is None
    known = result.exit_code is not None or result.signal_number is not None or result.killed_by is not None
    assert known or result.oom_kills or result.fault is not None
    assert killed_by is None or result.killed_by == killed_by
    assert result.cpu_time_ms is None or result.cpu_time_ms >= 0
    if cpu_ns is not None and cpu_ns > 5_000 * 10**6:
        assert result.killed_by is not None


@given(st.integers(1, 10**11), st.integers(1, 128), st.none() | st.floats(0.05, 64))
def test_the_next_look_at_the_cpu_clock_is_never_too_late(remaining_ns: int, cpus: int, quota: float | None) -> None:
    wait = cpu_wait_ns(remaining_ns, cpus, quota)
    assert wait >= 1_000_000
    most = wait * cpus if quota is None else min(wait * cpus, int(quota * (wait + 200_000_000)) + 1000)
    assert wait == 1_000_000 or most <= remaining_ns + 1000
