"""Both ends of a program's pipes, on real pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

from cutor.containers.host_config import ENVIRONMENT
from cutor.jail.inside.pumps import Feed, Sink


def test_a_sink_keeps_the_first_bytes_and_counts_all() -> None:
    read, write = os.pipe()
    sink = Sink(read, 5)
    sink.take()
    assert (sink.total_bytes, sink.ended) == (0, False)
    for piece in (b"abc", b"defg", b"h"):
        os.write(write, piece)
        sink.take()
    assert (sink.kept, sink.total_bytes, sink.over) == (b"abcde", 8, True)
    os.close(write)
    sink.take()
    assert sink.ended
    sink.close()
    sink.close()


def test_a_sink_for_a_log_keeps_the_last_bytes_and_counts_all() -> None:
    read, write = os.pipe()
    sink = Sink(read, 5, keep_tail=True)
    for piece, kept in ((b"abc", b"abc"), (b"defg", b"cdefg"), (b"h", b"defgh"), (b"0123456789", b"56789")):
        os.write(write, piece)
        sink.take()
        assert sink.kept == kept
    assert (sink.total_bytes, sink.over) == (18, True)
    os.close(write)
    sink.close()


def test_a_sink_for_a_log_of_nothing_keeps_nothing() -> None:
    read, write = os.pipe()
    sink = Sink(read, 0, keep_tail=True)
    os.write(write, b"abc")
    sink.take()
    assert (sink.kept, sink.total_bytes, sink.over) == (b"", 3, True)
    os.close(write)
    sink.close()


def test_exactly_the_limit_is_not_over() -> None:
    read, write = os.pipe()
    sink = Sink(read, 3)
    os.write(write, b"abc")
    os.close(write)
    sink.take()
    sink.take()
    assert (sink.over, sink.ended, sink.kept) == (False, True, b"abc")
    sink.close()


BYTE_BY_BYTE: Final = """
import os, resource
from cutor.jail.inside.pumps import Sink
read, write = os.pipe()
sink = Sink(read, 2000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(2000):
    os.write(write, b"a")
    sink.take()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_output_byte_by_byte_costs_no_memory_beside_what_is_kept() -> None:
    """A buffer of its own for each read was mapped and unmapped each time, with an init's settings of malloc; the kernel gives
    up what it held for a mapping only after a while, and counted it as memory of the program. That was so where the heap had no
    room: here, it never has.
    """
    command = [sys.executable, "-c", BYTE_BY_BYTE]
    variables = dict(one.split("=") for one in ENVIRONMENT) | {"MALLOC_TOP_PAD_": "0", "MALLOC_TRIM_THRESHOLD_": "0"}
    faults = subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout
    assert int(faults) < 500


def test_a_feed_goes_on_where_the_pipe_was_full() -> None:
    read, write = os.pipe()
    data = bytes(range(256)) * 1000
    feed = Feed(write, data)
    got = b""
    while not feed.done:
        feed.give()
        feed.give()  # full now: nothing happens
        got += os.read(read, 1 << 20)
    feed.close()
    assert got + os.read(read, 1 << 20) == data
    os.close(read)


def test_a_reader_that_went_away_ends_the_feed() -> None:
    read, write = os.pipe()
    os.close(read)
    feed = Feed(write, b"x" * 100)
    feed.give()
    assert feed.done
    feed.close()


def test_no_input_is_done_at_once() -> None:
    read, write = os.pipe()
    feed = Feed(write, b"")
    feed.give()
    assert feed.done
    feed.close()
    assert os.read(read, 1) == b""
    os.close(read)
