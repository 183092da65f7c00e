"""Where in a stream a moment lies: a search by halves, since the server's own times grow with the sequences."""

from __future__ import annotations

from cutor.bus.api import Api
from cutor.bus.message import parse_time_ns
from cutor.bus.reading import Reading


async def first_since(reading: Reading, api: Api, stream: str, time_ns: int) -> int:
    """Return the first sequence whose message is of this time or later; one behind the last where there is none.

    Asks the leader, about once for every doubling of the stream: 20 messages of a million. Where the server's clock was set
    back, a time is crossed more than once: this is one of the crossings. Raises StreamMissing, BusUnreachable.
    """
    state = (await api.stream_info(stream))["state"]
    low, high = max(1, int(state["first_seq"])), int(state["last_seq"]) + 1
    if high > low and parse_time_ns(state["last_ts"]) < time_ns:
        return high
    while low < high:
        middle = (low + high) // 2
        stored = await reading.leader(stream, {"seq": middle, "next_by_subj": ">"})
        if stored is None or stored.sequence >= high or stored.time_ns >= time_ns:
            high = middle
        else:
            low = stored.sequence + 1
    return low
