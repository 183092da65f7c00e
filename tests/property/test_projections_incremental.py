"""Views that were folded in pieces equal those that were folded at once: whatever the pieces, and whoever died between them.

A death is simulated at the store: the statement at which it comes is not run, the file and its write-ahead log are copied as
they are at that moment, which is all that a killed process leaves, and the next life opens the copy. Where it comes with the
commit, the log may have been written in part.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any, Literal

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from cutor.model.codec import encode
from cutor.model.environments import EnvironmentPinned, EnvironmentRemoved
from cutor.model.subjects import ENVIRONMENTS, EVENTS
from cutor.projections.rebuilds.compare import Compared
from cutor.projections.store import Store, wal_path
from cutor.projections.views_file import open_or_make_anew
from tests.property.submission_histories import streams
from tests.unit.test_environments import BUILT
from tests.unit.views import Written

STATEMENTS = 25
"""More than a commit has: where a death does not come to pass, the batch is committed."""
Fate = Literal["committed", "killed at", "killed while it is written", "raised at", "refused at"]
FATES: tuple[Fate, ...] = ("committed", "killed at", "killed while it is written", "raised at", "refused at")
ENVIRONMENT_BODIES = (
    *(encode(event) for event in (BUILT, EnvironmentPinned(key=BUILT.key), EnvironmentRemoved(key=BUILT.key, reason="r"))),
    b"{}",
    b"\xff",
)


class Dead(BaseException):
    """The process was killed."""


class Raised(Exception):
    """Something that is no fault of a message went wrong."""


class Mortal:
    """A connection on which something happens in the place of one of its statements, or right behind a commit."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.fate: Fate = "committed"
        self.statements_left = 0
        self.is_dead = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: Any, *arguments: Any) -> Any:
        if self.is_dead:
            return None
        if self.fate == "killed while it is written":
            done = self._connection.execute(statement, *arguments)
            return self._die() if statement == "COMMIT" else done
        if self.fate == "committed" or statement == "ROLLBACK":
            return self._connection.execute(statement, *arguments)
        if self.statements_left > 0:
            self.statements_left -= 1
            return self._connection.execute(statement, *arguments)
        fate, self.fate = self.fate, "committed"
        if fate == "killed at":
            self._die()
        raise Raised if fate == "raised at" else duckdb.InvalidInputException("refused")

    def _die(self) -> None:
        self.is_dead = True
        raise Dead


class Lives:
    """A file of views that one life after the other writes."""

    def __init__(self, directory: Path, empty: Path) -> None:
        self._directories = (directory / f"life-{n}" for n in itertools.count())
        self._keep = 0
        self.path = self._next_path()
        shutil.copy(empty, self.path)
        self._open()

    def _next_path(self) -> Path:
        directory = next(self._directories)
        directory.mkdir()
        return directory / "views.duckdb"

    def _open(self) -> None:
        self.store = open_or_make_anew(self.path)
        self._mortal = Mortal(self.store._connection)
        self.store._connection = self._mortal  # type: ignore[assignment]

    def apply(self, stream: str, messages: list[Written], fate: Fate, statement: int, torn: float) -> None:
        """Fold a batch in, or die or fail of it."""
        if fate == "refused at" and len(messages) == 1:
            fate = "committed"
        wal_before = self._wal_bytes()
        self._mortal.fate, self._mortal.statements_left = fate, statement
        try:
            self.store.apply(stream, messages)
        except Dead:
            self._reopen(torn=torn if fate == "killed while it is written" else 1.0, wal_before=wal_before)
        except Raised:
            assert self.store.checkpoint(stream).sequence < messages[-1].sequence
        finally:
            self._mortal.fate = "committed"

    def _wal_bytes(self) -> int:
        wal = wal_path(self.path)
        return wal.stat().st_size if wal.exists() else 0

    def _reopen(self, *, torn: float, wal_before: int) -> None:
        """Begin the next life with what is on the disk; of the log's last commit only a part, where it is torn."""
        dead, self.path = self.path, self._next_path()
        shutil.copy(dead, self.path)
        if wal_path(dead).exists():
            shutil.copy(wal_path(dead), wal_path(self.path))
            written = self._wal_bytes() - wal_before
            with wal_path(self.path).open("r+b") as wal:
                wal.truncate(wal_before + round(written * torn))
        self.close()
        self._open()

    def close(self) -> None:
        self._mortal._connection.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "views.duckdb"
    Store.open(path).close()
    return path


@st.composite
def both_streams(draw: st.DrawFn) -> dict[str, list[Written]]:
    """Return what the two streams hold; the events of the one in an order that makes sense, or in none at all."""
    events = [message for _, message in draw(streams(submissions=(3, 6)))]
    if draw(st.integers(0, 4)) == 4:
        shuffled = draw(st.permutations(events))
        events = [Written(n, one.subject, one.body) for n, one in enumerate(shuffled, 1)]
    bodies = draw(st.lists(st.sampled_from(ENVIRONMENT_BODIES), max_size=6))
    environments = [Written(n, f"cutor.env.{BUILT.key}", body) for n, body in enumerate(bodies, 1)]
    return {EVENTS: events, ENVIRONMENTS: environments}


directories = itertools.count()


@pytest.mark.timeout(900)
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_what_was_folded_in_pieces_equals_what_was_folded_at_once(
    tmp_path_factory: pytest.TempPathFactory, empty: Path, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp(f"lives-{next(directories)}")
    messages = data.draw(both_streams())
    lives = Lives(directory, empty)
    deaths = 0
    while waiting := [stream for stream in messages if lives.store.checkpoint(stream).sequence < len(messages[stream])]:
        stream = data.draw(st.sampled_from(waiting))
        begin = lives.store.checkpoint(stream).sequence
        batch = messages[stream][begin : begin + data.draw(st.integers(1, 12))]
        fate = data.draw(st.sampled_from(FATES)) if deaths < 3 else "committed"
        deaths += fate != "committed"
        lives.apply(stream, batch, fate, data.draw(st.integers(0, STATEMENTS)), data.draw(st.floats(0, 1)))
    lives.close()
    at_once = directory / "at-once.duckdb"
    shutil.copy(empty, at_once)
    store = Store.open(at_once)
    for stream, all_of_it in messages.items():
        if all_of_it:
            store.apply(stream, all_of_it)
    store.close()
    assert difference(lives.path, at_once) is None
    shutil.rmtree(directory)


def difference(one: Path, other: Path) -> object:
    compared = Compared(one, other, one.parent)
    try:
        return compared.compare().difference
    finally:
        compared.close()
