"""Containers of dead and of unknown stacks are told apart from those of living ones."""

import fcntl
from pathlib import Path

import pytest

from cutor.cli.checks.leftovers import Place, judge, labelled_places
from cutor.containers.engine import ContainerSummary
from cutor.containers.host_config import Identity, use_mark
from cutor.containers.labels import DATA_LABEL

PLACES = {"alive": Place(Path("/a"), lives=True), "dead": Place(Path("/d"), lives=False)}


def container(instance: str) -> ContainerSummary:
    return ContainerSummary(id="1", name="n", state="exited", labels={"cutor": instance})


def test_containers_of_a_living_stack_are_no_leftovers() -> None:
    (finding,) = judge([container("alive")], PLACES)
    assert finding.verdict == "ok"
    (finding,) = judge([], {})
    assert finding.verdict == "ok"


def test_those_of_a_dead_stack_are_named_with_the_command_that_removes_them() -> None:
    (finding,) = judge([container("dead"), container("alive"), container("dead")], PLACES)
    assert (finding.verdict, finding.detail) == ("warn", "2 containers of the stack of /d, which is dead")
    assert "`cutor down --data /d`" in finding.remedy


def test_of_stacks_that_are_not_known_nothing_is_claimed() -> None:
    (one,) = judge([container("0123456789ab")], PLACES)
    assert one.verdict == "warn"
    assert "the instance 0123456789ab, which is not this user's: another user's stack" in one.detail
    dead, unknown = judge([container("x"), container("y"), container("x"), container("dead")], PLACES)
    assert "/d" in dead.detail
    assert unknown.detail.startswith("3 containers of 2 instances that are not this user's")


def test_marks_of_environments_count_beside_containers() -> None:
    marks = [use_mark(Identity(instance, "t"), "v", "k") for instance in ("dead", "x")]
    dead, unknown = judge([container("dead"), *marks], PLACES)
    assert dead.detail == "1 container and 1 mark of the stack of /d, which is dead"
    assert unknown.detail.startswith("1 mark of the instance x")
    assert unknown.remedy.startswith("`docker volume ls --filter label=cutor` shows them")
    assert unknown.remedy.endswith("`cutor gc` removes a mark once it is a day old")


def labelled(data: Path, instance: str = "0123456789ab") -> ContainerSummary:
    return ContainerSummary(id="1", name="n", state="running", labels={"cutor": instance, DATA_LABEL: str(data)})


def test_the_lock_where_the_label_points_tells_whether_a_stack_of_anybody_lives(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("0123456789ab\n")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        places = labelled_places([labelled(tmp_path)])
        assert [finding.verdict for finding in judge([labelled(tmp_path)], places)] == ["ok"]
    (finding,) = judge([labelled(tmp_path)], labelled_places([labelled(tmp_path)]))
    assert (finding.verdict, finding.detail) == ("warn", f"1 container of the stack of {tmp_path}, which is dead")


def test_a_label_that_points_to_another_stacks_data_or_to_none_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "instance").write_text("ba9876543210\n")
    assert labelled_places([labelled(tmp_path), labelled(tmp_path / "gone")]) == {}


def test_of_a_directory_that_this_user_may_not_see_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    (finding,) = judge([labelled(tmp_path)], labelled_places([labelled(tmp_path)]))
    assert finding.verdict == "ok"
    assert f"1 container of stacks that this user cannot look into ({tmp_path})" in finding.detail
