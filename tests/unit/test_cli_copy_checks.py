"""What doctor says of the copies of streams."""

from typing import Any

from cutor.cli.checks.copies import judge_copies


def info(replicas: int = 3, leader: str = "n1", **copies: dict[str, Any]) -> dict[str, Any]:
    held = [{"name": name, "current": True} | copy for name, copy in copies.items()]
    return {"config": {"num_replicas": replicas}, "cluster": {"leader": leader, "replicas": held}}


def test_all_current() -> None:
    finding = judge_copies({"EVENTS": info(n2={}, n3={}), "BODIES": info(n2={}, n3={})})
    assert (finding.verdict, finding.detail) == ("ok", "3 of every stream, all current")


def test_a_copy_that_is_away_or_behind_is_named() -> None:
    finding = judge_copies(
        {"EVENTS": info(n2={"offline": True, "current": False}, n3={}), "BODIES": info(n2={}, n3={"current": False})}
    )
    assert (finding.verdict, finding.detail) == ("warn", "not current: EVENTS on n2, BODIES on n3")


def test_a_stream_without_a_leader_fails() -> None:
    assert "no node leads EVENTS" in judge_copies({"EVENTS": info(leader=""), "BODIES": info()}).detail


def test_one_copy_in_a_cluster_is_warned_of() -> None:
    finding = judge_copies({"EVENTS": info(1), "BODIES": info(3, n2={}, n3={})})
    assert finding.verdict == "warn"
    assert "EVENTS" in finding.detail
    assert "BODIES" not in finding.detail
