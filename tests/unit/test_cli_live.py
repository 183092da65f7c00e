"""What who waits is shown of what a builder says meanwhile."""

from __future__ import annotations

import asyncio
import io
from types import SimpleNamespace

import pytest

from cutor.cli.live import TOLD_CHARACTERS, WAITING, Live
from cutor.client.waiting import waiting_for
from cutor.errors import WaitedTooLong
from cutor.model.build_progress import BuildProgress
from cutor.model.subjects import Address
from cutor.roles.claims import NO_ROOM
from tests.unit.test_cli_output import Terminal

NO_ROOM_TEXT = NO_ROOM.decode()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    monkeypatch.setattr("cutor.cli.output.sys", SimpleNamespace(stderr=made, stdout=io.StringIO()))
    monkeypatch.setattr("cutor.cli.output._columns", lambda: 300)
    return made


def piece(text: str) -> BuildProgress:
    return BuildProgress(lease=0, text=text)


def test_what_is_waited_for_is_said_once_and_stays_in_the_line(terminal: Terminal) -> None:
    live = Live("s1", whole=True)
    for _ in range(3):
        live._piece(piece(NO_ROOM_TEXT))
    assert terminal.getvalue().count(f"    {NO_ROOM_TEXT.strip()}") == 1
    assert terminal.getvalue().endswith(f"s1: submitted: {NO_ROOM_TEXT.removeprefix(WAITING).strip()}")
    live._piece(piece("one\none\n"))
    assert terminal.getvalue().count("    one\x1b[0m\n") == 2, "what Nix says twice is two lines"
    assert terminal.getvalue().endswith("s1: submitted")


async def test_who_waited_too_long_is_told_what_was_heard_last_without_a_terminal_too() -> None:
    live = Live("s1")
    live._piece(piece(f"first\n{NO_ROOM_TEXT}"))
    with pytest.raises(WaitedTooLong) as caught:
        async with waiting_for(Address("default", "s1"), 0, lambda: live.told):
            await asyncio.Event().wait()
    assert str(caught.value).endswith(f"; the last that was heard of it: {NO_ROOM_TEXT.strip()}")
    live._piece(piece("\x1b]0;x\x07" + "y" * 1000 + "\n"))
    assert "\x1b" not in live.told
    assert len(live.told) <= TOLD_CHARACTERS
