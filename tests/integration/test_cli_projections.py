"""``cutor projections`` on a stack with nothing but a projector."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.bare_stack import User, one_line, request

SUBMISSIONS = 3


@pytest.fixture(scope="module")
def projected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack with a projector and queued submissions, whose views hold them."""
    user = User(tmp_path_factory.mktemp("projected"))
    started = user.up(roles=["projector"])
    assert started.returncode == 0, started.stderr
    try:
        for number in range(SUBMISSIONS):
            assert user.cutor("submit", "-", "--id", f"s{number}", stdin=request()).returncode == 0
        yield user
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


def caught_up(user: User) -> dict[str, Any]:
    """Return what `status` says of EVENTS once the views hold all submissions."""
    deadline = time.monotonic() + 180
    while True:
        done = user.cutor("projections", "status", "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        events: dict[str, Any] = document["streams"][0]
        if events["checkpoint"] == events["last_sequence"] == SUBMISSIONS:
            return document
        assert time.monotonic() < deadline, document


def test_status_says_how_far_the_views_have_come(projected: User) -> None:
    document = caught_up(projected)
    events, environments = document["streams"]
    assert {name: events[name] for name in ("stream", "behind", "messages", "undecodable")} == {
        "stream": "EVENTS",
        "behind": 0,
        "messages": SUBMISSIONS,
        "undecodable": 0,
    }
    assert (environments["stream"], environments["checkpoint"], environments["time"]) == ("ENVIRONMENTS", 0, None)
    assert document["file_bytes"] > 4096


def test_a_snapshot_is_a_file_of_its_own(projected: User, tmp_path: Path) -> None:
    caught_up(projected)
    file = tmp_path / "views.duckdb"
    done = projected.cutor("projections", "snapshot", str(file), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["file"] == str(file)
    assert document["as_of"]["EVENTS"]["sequence"] == SUBMISSIONS
    assert document["size_bytes"] == file.stat().st_size
    with duckdb.connect(file, read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM submissions").fetchall() == [(SUBMISSIONS,)]
    assert f"{file}: " in projected.cutor("projections", "snapshot", str(file)).stdout


def test_views_are_verified_against_the_streams(projected: User, tmp_path: Path) -> None:
    caught_up(projected)
    done = projected.cutor("projections", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("the views are what the streams say: ")
    document = json.loads(projected.cutor("projections", "verify", "--json").stdout)
    assert (document["equal"], document["difference"], document["messages"]) == (True, None, SUBMISSIONS)

    changed = tmp_path / "changed.duckdb"
    assert projected.cutor("projections", "snapshot", str(changed)).returncode == 0
    with duckdb.connect(changed) as connection:
        connection.execute("UPDATE folds.requests SET labels = MAP {'a': '\x1b[31mred'} WHERE sequence = 2")
    done = projected.cutor("projections", "verify", "--database", str(changed))
    assert (done.returncode, done.stderr) == (1, "")
    assert "the views differ from the streams: folds.requests (sequence 2) has labels = {a='\\x1b[31mred'}" in done.stdout
    done = projected.cutor("projections", "verify", "--database", str(changed), "--json")
    difference = json.loads(done.stdout)["difference"]
    assert (done.returncode, difference["table"], difference["row"]) == (1, "folds.requests", {"sequence": "2"})
    changed.write_text("no database")
    assert "cannot be read as views" in one_line(projected.cutor("projections", "verify", "--database", str(changed)), 3)


def test_a_snapshot_where_no_file_can_be_is_one_line(projected: User) -> None:
    assert "/no/such is no directory" in one_line(projected.cutor("projections", "snapshot", "/no/such/file"), 3)
    own = projected.stack.data / "projections.duckdb"
    assert "the file of a projector" in one_line(projected.cutor("projections", "snapshot", str(own)), 3)


def test_status_is_a_table_for_people(projected: User) -> None:
    caught_up(projected)
    lines = projected.cutor("projections", "status").stdout.splitlines()
    assert lines[0].split()[:4] == ["stream", "checkpoint", "end", "behind"]
    assert lines[1].split()[:4] == ["EVENTS", "3", "3", "0"]
    assert "the file of the views has" in lines[-1]


def test_rebuild_has_the_projector_make_its_views_anew(projected: User) -> None:
    caught_up(projected)
    views = projected.stack.data / "projections.duckdb"
    inode = views.stat().st_ino
    done = projected.cutor("projections", "rebuild", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["positions"] == {"EVENTS": SUBMISSIONS, "ENVIRONMENTS": 0}
    assert document["messages"] == SUBMISSIONS
    assert views.stat().st_ino != inode
    assert caught_up(projected)["streams"][0]["behind"] == 0
    done = projected.cutor("projections", "rebuild")
    assert done.stdout.startswith("the views were made anew: 3 events, ")


def test_rebuild_without_a_projector_makes_the_file_of_this_host_anew(bare: User) -> None:
    views = bare.stack.data / "projections.duckdb"
    views.write_bytes(b"damaged")
    try:
        done = bare.cutor("projections", "rebuild", "--json")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["positions"].keys() == {"EVENTS", "ENVIRONMENTS"}
        assert views.read_bytes()[8:12] == b"DUCK"
        assert [path.name for path in bare.stack.data.glob("projections.duckdb.*")] == ["projections.duckdb.lock"]
    finally:
        for path in bare.stack.data.glob("projections.duckdb*"):
            path.unlink()


def test_rebuild_of_a_projector_that_is_not_on_this_host_is_one_line(bare: User) -> None:
    assert "nowhere is not there" in one_line(bare.cutor("projections", "rebuild", "--data", str(bare.home / "nowhere")), 3)


def test_without_a_projector_status_is_one_line(bare: User) -> None:
    assert "no projector answers queries" in one_line(bare.cutor("projections", "status"), 3)
    assert "cannot reach NATS" in one_line(bare.cutor("projections", "status", "--server", "nats://127.0.0.1:1"), 3)
