"""Containers of dead and of unknown stacks are told apart from those of living ones."""

from pathlib import Path

from cutor.cli.leftover_checks import Place, judge
from cutor.containers.engine import ContainerSummary

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
