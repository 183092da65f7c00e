"""`cutor archive expire` asks before it lets go: what is answered, and what is said then."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cutor.cli import archive_expire as module
from cutor.projections.archive.retention import Expiry

MAY_GO = Expiry(first=1, last=7, held_by=None)


@pytest.mark.parametrize(
    ("answers", "gone", "said"),
    [
        ("y\n", 7, ["may go", "have gone"]),
        ("what\nyes\n", 7, ["may go", "answer with y or n", "have gone"]),
        ("n\n", 0, ["may go", "nothing has gone"]),
        ("\n", 0, ["may go", "nothing has gone"]),
    ],
)
def test_what_is_answered_is_done_and_said(answers: str, gone: int, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: list[int] = []

    async def expire(*_: Any, announced: bool, most: int) -> Expiry:
        asked_for.append(most)
        return MAY_GO

    monkeypatch.setattr(module, "_expire", expire)
    monkeypatch.setattr(module, "check_answerer", lambda _: None)
    monkeypatch.setattr(module, "archive_of", lambda *_: None)
    wanted = SimpleNamespace(find_server=lambda: "nats://nowhere", json=False, config=None, server=None)
    done = CliRunner().invoke(module.expire_command, ["--keep", "30d"], input=answers, obj=wanted)
    assert (done.exit_code, done.exception) == (0, None), done.output
    assert asked_for == ([0, gone] if gone else [0])
    places = [done.output.find(words) for words in said]
    assert -1 not in places, done.output
    assert places == sorted(places), done.output
    assert ("have gone" in done.output) == bool(gone)
