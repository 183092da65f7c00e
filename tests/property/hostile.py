"""A container that says anything: frames as an init sends them, then changed; and the child that the host's session talks to.

The container is the thing under test here, so it is made of bytes alone: in whatever pieces, with whatever end.
"""

from __future__ import annotations

import asyncio
import copy
import json
import struct
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

from cutor.containers.child import ContainerState
from cutor.containers.errors import EngineFailure, EngineRefused

Header = dict[str, Any]
Frame = tuple[Header, bytes]

DAMAGES: Final = (
    b'{"type":"report","x":NaN}',
    b"[" * 60_000,
    b'{"type":' * 8_000,
    b'{"type":"fault","message":"\xff"}',
    b'{"type":"fault","message":"\\ud800"}',
    b'{"type":"rested","resting_bytes":1,"copy_bytes":1' + b"0" * 5000 + b"}",
    b'{"\xff":1,"type":"ready"}',
    b'{"type":"\\u001b[2J\\n"}',
    b'{"type":"ready","\\u001b[2J\\n":1}',
    b"null",
    b"[]",
    b'"report"',
    b"",
    b"\0",
)
"""Headers that no JSON writer makes."""

NUMBERS: Final = (0, 1, -1, 2, 7, 11, 25, 64, 65, 255, 256, 1 << 20, 1 << 31, 1 << 53, (1 << 53) + 1, 1 << 64, 10**400)
WORDS: Final = ("", "run", "compile", "wall_time", "cpu_time", "memory", "stdout", "stderr", "cancel", "x\n\x1b[2J", "x" * 9000)
VALUES: Final[tuple[Any, ...]] = (*NUMBERS, *WORDS, None, True, False, 0.5, 1.0, 1e300, [], {}, [1], {"a": 1})
LENGTHS: Final = (0, 1, 7, 65_536, 65_537, 1 << 20, (1 << 20) + 1, 1 << 28, (1 << 32) - 1)


def raw_frame(header: bytes, body: bytes, header_bytes: int | None = None, body_bytes: int | None = None) -> bytes:
    """Return a frame whose lengths may lie."""
    lengths = (len(header) if header_bytes is None else header_bytes, len(body) if body_bytes is None else body_bytes)
    return struct.pack(">II", *lengths) + header + body


def sent(frames: Sequence[Frame | None]) -> list[list[bytes]]:
    """Return frames as an init sends them: what it says by itself, then what it answers to each command."""
    turns: list[list[bytes]] = [[]]
    for frame in frames:
        if frame is None:
            turns.append([])
        else:
            turns[-1].append(raw_frame(json.dumps(frame[0]).encode(), frame[1]))
    return turns


def copied(frame: Frame) -> Frame:
    return copy.deepcopy(frame[0]), frame[1]


def fields_of(header: Header) -> list[tuple[Header, str]]:
    """Return every field of a header, and of the objects in it, as holder and key."""
    found = [(header, key) for key in header]
    return found + [(value, key) for value in header.values() if isinstance(value, dict) for key in value]


def told(honest: Sequence[Frame | None], others: Sequence[Frame]) -> st.SearchStrategy[list[list[bytes]]]:
    """What a container sends: honest frames, of which some were changed, moved, repeated, or made of other bytes."""
    return st.integers(0, 1 << 64).map(lambda seed: turns_of(Random(seed), honest, others))


def turns_of(random: Random, honest: Sequence[Frame | None], others: Sequence[Frame]) -> list[list[bytes]]:
    frames = [None if frame is None else copied(frame) for frame in honest]
    for _ in range(random.choice([0, 1, 1, 1, 2, 3])):
        change_frames(random, frames, others)
    turns = sent(frames)
    if random.random() < 0.2:
        turn = random.choice(turns)
        turn.insert(random.randint(0, len(turn)), damage(random))
    if random.random() < 0.2:  # the end comes at any byte
        end = random.randrange(len(turns))
        data = b"".join(turns[end])
        turns[end:] = [[data[: random.randint(0, len(data))]]]
    if random.random() < 0.1:  # everything at once
        turns = [[piece for turn in turns for piece in turn]]
    return [cut(random, b"".join(turn)) for turn in turns]


def cut(random: Random, data: bytes) -> list[bytes]:
    """Return data in pieces."""
    edges = sorted({0, len(data), *(random.randint(0, len(data)) for _ in range(random.randrange(4)))})
    return [data[start:end] for start, end in pairwise(edges)]


def change_frames(random: Random, frames: list[Frame | None], others: Sequence[Frame]) -> None:
    """Change a list of frames in one way."""
    what = random.choice(
        [
            "field",
            "field",
            "field",
            "field",
            "other",
            "other",
            "other",
            "left out",
            "added",
            "body",
            "drop",
            "repeat",
            "move",
            "insert",
        ]
    )
    at = random.randrange(len(frames)) if frames else 0
    frame = frames[at] if frames else None
    if what == "insert" or frame is None or not frame[0]:
        frames.insert(random.randint(0, len(frames)), copied(random.choice(others)))
    elif what == "field":
        holder, key = random.choice(fields_of(frame[0]))
        holder[key] = random.choice(VALUES)
    elif what == "left out":
        holder, key = random.choice(fields_of(frame[0]))
        del holder[key]
    elif what == "added":
        frame[0][random.choice(["x", "", "stdout_bytes", "type "])] = random.choice(VALUES)
    elif what == "body":
        frames[at] = (frame[0], random.choice([b"", frame[1] + b"x", frame[1][:-1], frame[1] * 3, bytes(200_000)]))
    elif what == "drop":
        frames.pop(at)
    elif what == "other":
        frames[at] = another(random, frame, others)
    elif what == "repeat":
        frames.insert(at, copied(frame))
    elif what == "move":
        frames.insert(random.randrange(len(frames)), frames.pop(at))


def another(random: Random, frame: Frame, others: Sequence[Frame]) -> Frame:
    """Return another frame of the same type, which pretends to be of the same stage."""
    header, body = copied(random.choice([one for one in others if one[0]["type"] == frame[0].get("type")] or [frame]))
    return header | {name: frame[0][name] for name in ("kind", "index") if name in frame[0]}, body


def damage(random: Random) -> bytes:
    """Return bytes that are no frame, or one whose header is none, or whose lengths lie."""
    header = random.choice(DAMAGES)
    return random.choice(
        [
            raw_frame(header, random.choice([b"", b"x"])),
            raw_frame(header, b"x", random.choice(LENGTHS), random.choice(LENGTHS)),
            random.randbytes(random.randrange(20)),
        ]
    )


class HostileChild:
    """What a session sees of a container: its turns, one more at each command, then silence or its end.

    It notes what limits it was given. ``deaf``: it takes no command once it has said everything.
    """

    def __init__(self, turns: Sequence[Sequence[bytes]], *, silent: bool, deaf: bool = False, refusals: int = 0) -> None:
        self._turns = [list(turn) for turn in turns]
        self._pieces = self._turns.pop(0)
        self._silent = silent
        self._deaf = deaf
        self._refusals = refusals
        self.limits: list[tuple[int, int]] = []
        self.discarded = False
        self.stderr_tail = b"odd \xff\x1b[2J\n\nlast\x1b words\n"
        self.name = "hostile"
        self.id = "0" * 64

    async def send(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if self._turns:
            self._pieces += self._turns.pop(0)
        elif self._deaf and not self._pieces:
            raise EngineFailure("its standard input is closed")

    async def receive(self) -> bytes:
        await asyncio.sleep(0)
        if not (piece := self.said()) and self._silent:
            await asyncio.Event().wait()
        return piece

    def said(self) -> bytes:
        """Return the next piece that is not empty; nothing where there is none now."""
        while self._pieces:
            if piece := self._pieces.pop(0):
                return piece
        return b""

    async def update(self, *, memory_bytes: int, processes: int) -> None:
        if self._refusals:
            self._refusals -= 1
            raise EngineRefused("unable to set memory limit")
        self.limits.append((memory_bytes, processes))

    async def state(self) -> ContainerState:
        return ContainerState(exists=True, exit_code=137, oom_killed=True)

    async def end(self, _within_s: float) -> None:
        """Be asked to end."""

    async def discard(self) -> None:
        self.discarded = True
