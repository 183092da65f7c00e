"""``cutor report`` of a stack where a projector is at work, and of a file of views."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cutor.bus.connection import Bus
from tests.bare_stack import User, one_line
from tests.integration.projecting import FINISHED, happen_to_many, until
from tests.many_lives import write_views
from tests.unit.test_report_page import check

LIVES = 30


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[User]:
    """A stack with a projector, whose views hold the lives of some submissions."""
    user = User(tmp_path_factory.mktemp("judged"))
    started = user.up(roles=["projector"])
    assert started.returncode == 0, started.stderr
    try:
        asyncio.run(live(user.stack.server))
        yield user
    finally:
        ended = user.down()
        assert ended.returncode == 0, ended.stderr


async def live(server: str) -> None:
    async with Bus.connect(server, name="test") as bus:
        await happen_to_many(bus, LIVES, "s")
        await until(bus, "SELECT count(*) FROM submissions WHERE cleaned_at IS NOT NULL", LIVES)


def test_a_report_of_a_stack(judged: User, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    done = judged.cutor("report", "--output", str(file), "--title", "A <title>")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{file}: {LIVES} submissions, 0 % OK, ")
    page = check(file.read_text())
    shown = "".join(page.text)
    assert "A <title>" in shown
    assert "course = a" in shown
    assert judged.stack.server not in file.read_text(), "the credential"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_it_goes_to_stdout_and_to_json(judged: User, tmp_path: Path) -> None:
    done = judged.cutor("report", "--output", "-", "--label", "course=a")
    assert (done.returncode, done.stderr) == (0, "")
    check(done.stdout)
    file = tmp_path / "report.html"
    document = json.loads(judged.cutor("report", "--output", str(file), "--json").stdout)
    assert document["output"] == str(file)
    assert document["bytes"] == file.stat().st_size
    assert (document["submissions"], document["outcomes"]) == (LIVES, {"WRONG_ANSWER": LIVES})
    assert document["as_of"]["EVENTS"] == LIVES * len(FINISHED)


@pytest.mark.parametrize(
    ("options", "submissions"),
    [
        (("--since", "1h"), LIVES),
        (("--since", "2026-01-01", "--until", "2026-01-02"), 0),
        (("--tenant", "default"), LIVES),
        (("--tenant", "nobody"), 0),
        (("--label", "course=a' OR 'a' = 'a"), 0),
    ],
)
def test_it_is_about_what_was_asked_for(judged: User, tmp_path: Path, options: tuple[str, ...], submissions: int) -> None:
    done = judged.cutor("report", "--output", str(tmp_path / "report.html"), "--json", *options)
    assert json.loads(done.stdout)["submissions"] == submissions
    check((tmp_path / "report.html").read_text())


def test_a_report_is_replaced_whole_and_keeps_its_mode(judged: User, tmp_path: Path) -> None:
    file, link = tmp_path / "report.html", tmp_path / "link.html"
    file.write_text("the last one")
    file.chmod(0o640)
    link.symlink_to(file.name)
    with file.open() as reader:
        assert judged.cutor("report", "--output", str(link)).returncode == 0
        assert reader.read() == "the last one", "who reads it goes on reading the old one"
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o640
    check(file.read_text())


def test_a_report_of_a_file_of_views(tmp_path: Path, user: User) -> None:
    """Without a stack; the name of the file is all that the page says of where it was."""
    snapshot = tmp_path / "views.duckdb"
    write_views(snapshot, 20, begin_ns=1_795_132_800_000_000_000)
    done = user.cutor("report", "--database", str(snapshot), "--output", str(tmp_path / "report.html"))
    assert (done.returncode, done.stderr) == (0, "")
    page = check((tmp_path / "report.html").read_text())
    assert "From the views of views.duckdb" in "".join(page.text)
    assert str(tmp_path) not in (tmp_path / "report.html").read_text()


def test_mistakes_are_one_line(judged: User, tmp_path: Path, user: User) -> None:
    garbage, other = tmp_path / "garbage", tmp_path / "other.duckdb"
    garbage.write_bytes(os.urandom(10_000))
    make_other = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute('create table checkpoint (n int)')"
    subprocess.run([sys.executable, "-c", make_other, str(other)], check=True)
    written = judged.stack.data / "projections.duckdb"
    for options, code, said in (
        (("--output", "/nowhere/report.html"), 2, "/nowhere is no directory"),
        (("--output", str(tmp_path)), 2, "it is a directory"),
        (("--since", "12"), 2, "12"),
        (("--since", "yesterday"), 2, "yesterday"),
        (("--label", "course"), 2, "is not KEY=VALUE"),
        (("--tenant", "NOBODY!"), 2, "NOBODY!"),
        (("--json", "--output", "-"), 2, "stdout is for one of them"),
        (("--database", str(tmp_path / "none")), 2, "there is no such file"),
        (("--database", str(garbage)), 2, "cannot be asked"),
        (("--database", str(other)), 2, "not views of this version of cutor"),
        (("--database", str(written)), 2, "a projector writes it"),
    ):
        output = () if "--output" in options else ("--output", str(tmp_path / "report.html"))
        assert said in one_line(judged.cutor("report", *options, *output), code), options
    assert not (tmp_path / "report.html").exists()
    one_line(user.cutor("report", "--output", str(tmp_path / "report.html")), 3)  # there is no stack
    assert not list(tmp_path.glob(".*.draft"))
