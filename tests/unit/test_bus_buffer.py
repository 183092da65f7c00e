"""What has arrived and was not taken yet: bounded in number and bytes, in order, and nothing gets stuck."""

from cutor.bus.buffer import MESSAGE_BYTES, Buffer
from cutor.bus.message import Stored


def message(sequence: int, size_bytes: int) -> Stored:
    return Stored("EVENTS", sequence, "s", 0, None, {}, bytes(size_bytes))


def filled(*sizes: int) -> Buffer:
    buffer = Buffer()
    for sequence, size_bytes in enumerate(sizes, 1):
        buffer.add(message(sequence, size_bytes))
    return buffer


def taken(buffer: Buffer, count: int, size_bytes: int) -> list[int]:
    return [stored.sequence for stored in buffer.take(count, size_bytes)]


def test_a_batch_is_bounded_in_number() -> None:
    buffer = filled(0, 0, 0)
    assert taken(buffer, 2, 1 << 30) == [1, 2]
    assert taken(buffer, 2, 1 << 30) == [3]
    assert taken(buffer, 2, 1 << 30) == []


def test_a_batch_is_bounded_in_bytes() -> None:
    buffer = filled(1000, 1000, 1000)
    assert taken(buffer, 9, 2 * (1000 + MESSAGE_BYTES)) == [1, 2]
    assert taken(buffer, 9, 2 * (1000 + MESSAGE_BYTES) - 1) == [3]


def test_a_message_that_is_larger_than_a_batch_comes_by_itself() -> None:
    buffer = filled(5000, 10)
    assert [taken(buffer, 9, 1000), taken(buffer, 9, 1000)] == [[1], [2]]


def test_empty_messages_count_too() -> None:
    buffer = filled(*[0] * 10)
    assert len(taken(buffer, 10, 5 * MESSAGE_BYTES)) == 5


def test_it_knows_what_it_holds() -> None:
    buffer = filled(100, 200)
    assert (len(buffer), buffer.size_bytes) == (2, 300 + 2 * MESSAGE_BYTES)
    buffer.take(1, 1 << 30)
    assert (len(buffer), buffer.size_bytes) == (1, 200 + MESSAGE_BYTES)
    buffer.take(1, 1 << 30)
    assert (len(buffer), buffer.size_bytes) == (0, 0)
