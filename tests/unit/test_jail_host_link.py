"""The init's end of the pipe to the host, on real pipes; and the small parsers of the worker init."""

from __future__ import annotations

import os
import threading
import tracemalloc

import pytest

from cutor.jail.inside.box import BoxError
from cutor.jail.inside.host_link import Command, HostLink
from cutor.jail.inside.nsjail_args import check_path
from cutor.jail.inside.protocol import FrameReader, ProtocolError, decode_header, encode
from cutor.jail.inside.worker_init import fault_message, kernel_version, stage_limits, variables_of
from cutor.model.environments import pack_variables
from cutor.model.limits import UNITS


@pytest.fixture
def pipes() -> tuple[HostLink, int, int]:
    """Return a link, the end the host writes to, and the end the host reads from."""
    their_read, our_write = os.pipe()
    our_read, their_write = os.pipe()
    return HostLink(our_read, our_write), their_write, their_read


def test_commands_come_in_order_then_the_end(pipes: tuple[HostLink, int, int]) -> None:
    link, write, _ = pipes
    os.write(write, encode({"type": "one"}, b"body") + encode({"type": "two"}))
    os.close(write)
    first, second = link.next(), link.next()
    assert first is not None
    assert second is not None
    assert (first.name, first.body, second.name) == ("one", b"body", "two")
    assert link.next() is None
    assert link.cancelled


def test_a_running_stage_is_interrupted_by_the_hosts_end_only(pipes: tuple[HostLink, int, int]) -> None:
    link, write, _ = pipes
    os.write(write, encode({"type": "stage"}))
    assert not link.interrupted()
    os.write(write, encode({"type": "stage"})[:5])
    assert not link.interrupted()
    os.close(write)
    assert link.interrupted()


def test_a_large_body_is_held_once_and_given_away(pipes: tuple[HostLink, int, int]) -> None:
    link, write, _ = pipes
    size = 8 << 20
    sender = threading.Thread(target=_write_all, args=(write, encode({"type": "stage"}, bytes(size))))
    tracemalloc.start()
    try:
        sender.start()
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        command = link.next()
        assert command is not None
        assert len(command.data) == size
        sender.join()
        assert tracemalloc.get_traced_memory()[1] - before < size * 1.5  # of it the kernel sees what is written to
        del command
        assert tracemalloc.get_traced_memory()[0] - before < size // 8
    finally:
        tracemalloc.stop()


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def test_frames_to_the_host_come_whole(pipes: tuple[HostLink, int, int]) -> None:
    link, _, read = pipes
    link.send({"type": "report", "text": "odd \udcff name"}, [b"a", b"", b"bc"])
    (frame,) = FrameReader().feed(os.read(read, 1 << 16))
    assert (decode_header(frame.header), frame.body) == ({"type": "report", "text": "odd ? name"}, b"abc")


def test_fields_of_commands_are_checked() -> None:
    command = Command({"type": "stage", "index": 1, "flag": True}, b"")
    assert command.field("index", int) == 1
    for name, kind in (("index", str), ("flag", int), ("missing", int)):
        with pytest.raises(ProtocolError, match=f"a command stage needs a field {name} of type {kind.__name__}"):
            command.field(name, kind)


def test_variables_of_any_bytes() -> None:
    variables = ((b"A", b"multi\nline = \xff"), (b"EMPTY", b""), (b"BASH_FUNC_x%%", b"() { :; }"))
    block = pack_variables(variables)
    assert variables_of(memoryview(block)) == block
    assert variables_of(memoryview(b"")) == b""
    with pytest.raises(ProtocolError, match="does not end with a NUL byte"):
        variables_of(memoryview(b"A=1"))


def test_limits_of_a_stage_command() -> None:
    whole = dict.fromkeys(UNITS, 1)
    assert stage_limits(whole).open_files == 1
    with pytest.raises(ProtocolError, match="a stage's limit is not complete"):
        stage_limits({name: 1 for name in whole if name != "open_files"})


@pytest.mark.parametrize(
    ("release", "version"),
    [("6.18.44-fc-v657", (6, 18)), ("5.10.0-28-amd64", (5, 10)), ("6.6", (6, 6)), ("6.12-rc3", (6, 12))],
)
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


def test_an_unforeseen_error_is_one_short_line_with_its_place() -> None:
    try:
        check_path("/odd path\nwith lines")
    except ValueError as error:
        message = fault_message(error)
    assert message.startswith("ValueError: not a path that a jail can be given: '/odd path\\nwith lines' (nsjail_args.py:")
    assert "\n" not in message
    assert fault_message(BoxError("a\nb " + "x" * 5000)) == f"BoxError: a b {'x' * 986}"
