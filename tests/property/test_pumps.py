"""Both ends of a program's pipes under any schedule, with a real peer at the other end: exact, bounded, never blocking."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cutor.jail.inside.pumps import Feed, Pipe, Sink

DEADLINE_S: Final = 60.0
"""What never blocks takes milliseconds; a busy machine may need seconds."""
DATA: Final = Random(1).randbytes(4 << 20)
"""No two places look the same: a byte that is lost, doubled or moved shows."""

some = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
edges = [0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 131071, 131072, 131073, 300 << 10]
sizes = st.integers(0, 40) | st.sampled_from(edges) | st.integers(0, 300 << 10)
schedules = st.lists(sizes, max_size=8)


def unblocked(work: Callable[[], None]) -> None:
    """Do some work in a thread that must not take long: whatever blocks is a failure, not a hang."""
    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "it blocks"
    if failed:
        raise failed[0]


@contextmanager
def peer(work: Callable[[], None]) -> Iterator[None]:
    """Let the program at the other end be a thread; it has ended when the block is left."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    yield
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "the peer was left hanging"


def wait_for(pipe: Pipe, what: int) -> None:
    """Wait as the stage routine does, until the pipe is ready; it must become so."""
    poll = select.poll()
    poll.register(pipe.fd, what)
    assert poll.poll(DEADLINE_S * 1000)


def pieces(lengths: list[int]) -> Iterator[bytes]:
    """Yield `DATA` in pieces of these lengths."""
    start = 0
    for length in lengths:
        yield DATA[start : start + length]
        start += length


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def check_sink(sink: Sink, limit: int) -> None:
    """What holds of a sink at any time."""
    assert bytes(sink.kept) == DATA[: min(sink.total_bytes, limit)]
    assert sink.over == (sink.total_bytes > limit)


@some
@given(schedules, sizes, st.randoms(use_true_random=False))
def test_a_sink_keeps_a_prefix_and_counts_everything_whenever_it_is_asked(
    lengths: list[int], limit: int, random: Random
) -> None:
    """The program writes what the pipe takes; between its writes the sink takes as often as it likes, also from nothing."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    sink = Sink(read, limit)
    written = 0

    def schedule() -> None:
        nonlocal written
        for piece in pieces(lengths):
            for _ in range(random.randrange(3)):
                sink.take()
                check_sink(sink, limit)
                assert not sink.ended
            with contextlib.suppress(BlockingIOError):
                written += os.write(write, DATA[written : written + len(piece)])
        os.close(write)
        while not sink.ended:
            sink.take()
            check_sink(sink, limit)

    unblocked(schedule)
    assert sink.total_bytes == written
    sink.close()


@some
@given(schedules, sizes)
def test_a_sink_takes_all_that_a_program_prints(lengths: list[int], limit: int) -> None:
    read, write = os.pipe()
    sink = Sink(read, limit)

    def program() -> None:
        for piece in pieces(lengths):
            write_all(write, piece)
        os.close(write)

    def take() -> None:
        while not sink.ended:
            wait_for(sink, select.POLLIN)
            sink.take()
            check_sink(sink, limit)

    with peer(program):
        unblocked(take)
    assert sink.total_bytes == sum(lengths)
    assert bytes(sink.kept) == DATA[: min(limit, sum(lengths))]
    sink.close()


@some
@given(schedules, sizes, st.integers(0, 5))
def test_a_sink_that_is_closed_early_leaves_no_program_hanging(lengths: list[int], limit: int, takes: int) -> None:
    read, write = os.pipe()
    sink = Sink(read, limit)

    def program() -> None:
        with contextlib.suppress(BrokenPipeError):
            for piece in pieces(lengths):
                write_all(write, piece)
        os.close(write)

    def take_some() -> None:
        for _ in range(takes):
            wait_for(sink, select.POLLIN)
            sink.take()
        sink.close()
        sink.close()

    with peer(program):
        unblocked(take_some)
    check_sink(sink, limit)


@some
@given(sizes, schedules, st.booleans())
def test_a_feed_gives_an_exact_prefix_that_ends_only_where_the_reader_closed(
    length: int, reads: list[int], to_the_end: bool
) -> None:
    read, write = os.pipe()
    feed = Feed(write, DATA[:length])
    got = bytearray()

    def program() -> None:
        for size in reads:
            got.extend(os.read(read, max(size, 1)))
        while to_the_end and (data := os.read(read, 1 << 16)):
            got.extend(data)
        os.close(read)

    def give() -> None:
        while not feed.done:
            wait_for(feed, select.POLLOUT)
            feed.give()
        feed.give()  # when it is done, nothing happens
        feed.close()
        feed.close()

    with peer(program):
        unblocked(give)
    assert bytes(got) == DATA[: len(got)]
    assert len(got) <= length
    if to_the_end:
        assert len(got) == length


@some
@given(sizes, st.lists(st.integers(1, 200_000), max_size=12), st.booleans())
def test_a_feed_to_a_slow_reader_goes_on_where_it_was(length: int, reads: list[int], closes: bool) -> None:
    """It is asked to give before, between and after the reads, ready or not."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    feed = Feed(write, bytearray(DATA[:length]))
    got = bytearray()

    def schedule() -> None:
        for size in reads:
            feed.give()
            feed.give()
            with contextlib.suppress(BlockingIOError):
                got.extend(os.read(read, size))
        if closes:
            os.close(read)
        while not feed.done:
            feed.give()
            if not closes:
                with contextlib.suppress(BlockingIOError):
                    got.extend(os.read(read, 1 << 16))
        feed.close()

    unblocked(schedule)
    if not closes:
        while data := os.read(read, 1 << 20):
            got.extend(data)
        os.close(read)
        assert bytes(got) == DATA[:length]
    assert bytes(got) == DATA[: len(got)]


@settings(some, max_examples=100)
@given(st.integers(0, 2 << 20) | sizes, st.integers(0, 2 << 20) | sizes, st.none() | sizes)
def test_a_program_that_copies_its_input_gets_and_gives_every_byte(length: int, limit: int, copied: int | None) -> None:
    """Both directions at once, larger than any pipe: a real process, which copies all of its input or the first bytes alone."""
    command = ["cat"] if copied is None else ["head", "-c", str(copied)]
    child_in, write = os.pipe()
    read, child_out = os.pipe()
    feed, sink = Feed(write, DATA[:length]), Sink(read, limit)
    process = subprocess.Popen(command, stdin=child_in, stdout=child_out)
    os.close(child_in)
    os.close(child_out)

    def pump() -> None:
        poll = select.poll()
        poll.register(sink.fd, select.POLLIN)
        if feed.done:
            feed.close()
        else:
            poll.register(feed.fd, select.POLLOUT)
        while not sink.ended:
            for fd, _ in poll.poll(DEADLINE_S * 1000):
                if fd == sink.fd:
                    sink.take()
                    check_sink(sink, limit)
                    continue
                feed.give()
                if feed.done:
                    poll.unregister(fd)
                    feed.close()

    try:
        unblocked(pump)
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()
        feed.close()
        sink.close()
    assert sink.total_bytes == (length if copied is None else min(length, copied))


@pytest.mark.parametrize("limit", [0, 1, 65536])
def test_a_limit_is_passed_by_one_byte_more_and_not_before(limit: int) -> None:
    for total in (limit, limit + 1):
        read, write = os.pipe()
        sink = Sink(read, limit)

        def program(write: int = write, total: int = total) -> None:
            write_all(write, DATA[:total])
            os.close(write)

        with peer(program):
            while not sink.ended:
                wait_for(sink, select.POLLIN)
                sink.take()
        assert (sink.over, len(sink.kept)) == (total > limit, limit)
        sink.close()
