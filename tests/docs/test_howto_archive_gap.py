"""The gap of the page on archives: a stream that lost messages, sealed behind them once somebody says so."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cutor.bus.connection import Bus
from cutor.model.events import Cancelled
from tests.docs.snippets import ARCHIVE, run, snippets
from tests.integration.projecting import happen
from tests.integration.test_archive import loose_url, set_up
from tests.live_stack import surroundings
from tests.unit.histories import RUNNING


async def test_an_archive_goes_on_behind_the_gap_that_is_said_to_be_one(tmp_path: Path) -> None:
    """The page's command, with the range that is missing here: refused while it names another one."""
    [command] = [one.text for one in snippets(ARCHIVE, "sh") if "acknowledge-gap" in one.text]
    assert command == "cutor archive acknowledge-gap EVENTS 1207 1209\n"
    async with loose_url(tmp_path / "nats") as url:
        async with Bus.connect(url, name="test") as bus:
            last = await happen(bus, "a", RUNNING[0], Cancelled())
            for subject in ("y", "x", "x", "x", "x", "z"):
                await bus.publish(f"cutor.ev.{subject}", b"")
            await set_up(bus, "UPDATE", "EVENTS", discard="old", max_msgs_per_subject=1)
        environment = surroundings(tmp_path) | {"CUTOR_SERVER": url, "CUTOR_CONFIG": str(tmp_path / "cutor.toml")}
        (tmp_path / "cutor.toml").write_text(f'[archive]\ndirectory = "{tmp_path / "archive"}"\n')
        gap = command.replace("1207 1209", f"{last + 2} {last + 4}")
        script = f"cutor archive seal --all || echo refused: $?\n{command.strip()} || echo refused: $?\n{gap}"
        done = await asyncio.to_thread(run, f"{script}cutor archive seal --all\ncutor archive status", environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("refused: ") == 2, (done.stdout, done.stderr)
    assert gap.strip().removeprefix("cutor ") in done.stderr, "the refusal names the range"
    assert f"EVENTS: 1 to {last + 6} are sealed" in done.stdout, (done.stdout, done.stderr)
