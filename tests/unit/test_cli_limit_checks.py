"""What doctor says of limits that work but are unwise: each names the setting and what to do."""

from __future__ import annotations

import pytest

from cutor.cli.checks.findings import Finding
from cutor.cli.checks.limits import Machine, check_limits, this_machine
from cutor.cli.limits_table import shown_limits
from cutor.config import parse
from cutor.model.limits import GIB

ROOMY = Machine(cpus=8, memory_bytes=64 * GIB)


def findings(toml: str, machine: Machine = ROOMY) -> dict[str, Finding]:
    config = parse(toml.encode(), "c.toml")
    return {finding.what: finding for finding in check_limits(shown_limits("stack", config.policy()), config, machine)}


def warnings(toml: str, machine: Machine = ROOMY) -> dict[str, str]:
    return {what: finding.detail for what, finding in findings(toml, machine).items() if finding.verdict != "ok"}


def test_the_built_in_limits_are_wise_on_a_small_machine() -> None:
    assert warnings("", Machine(cpus=2, memory_bytes=5 * GIB)) == {}
    assert set(findings("")) == {"wall time", "submission", "slots", "memory", "largest memory"}


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[limits.run.default]\nwall_time_ms = 9999", "limits.run.default.wall_time_ms is 9999 ms for 5 s of CPU time"),
        ("[limits.compile.default]\ncpu_time_ms = 31000", "limits.compile.default.wall_time_ms is 1 min for 31 s of CPU time"),
        ("[limits.run.maximum]\nwall_time_ms = 6000", "limits.run.default.wall_time_ms is 6 s for 5 s of CPU time"),
        ("[nix]\ncores = 1", "limits.dependencies.default.wall_time_ms is 2 min for 2 min of CPU time"),
    ],
)
def test_no_room_for_a_busy_machine(toml: str, said: str) -> None:
    assert warnings(toml) == {"wall time": said}
    assert "TLE_WALL" in findings(toml)["wall time"].remedy


def test_every_stage_without_room_is_named_with_what_it_needs() -> None:
    found = findings("[limits.run.default]\nwall_time_ms = 5000\n[limits.compile.default]\nwall_time_ms = 30000")["wall time"]
    assert "limits.compile.default" in found.detail
    assert "limits.run.default" in found.detail
    assert found.remedy.startswith("make it 1 min and 10 s at least")


def test_exactly_the_room_is_enough() -> None:
    assert warnings("[limits.run.default]\nwall_time_ms = 10000") == {}


def test_a_submission_shorter_than_its_stages() -> None:
    assert warnings("[bounds]\nsubmission_wall_time_ms = 70000") == {}
    said = "bounds.submission_wall_time_ms is 69 s, default wall times of compile and run are 70 s"
    assert warnings("[bounds]\nsubmission_wall_time_ms = 69000") == {"submission": said}


def test_more_slots_than_cpus() -> None:
    assert warnings("[runner]\nslots = 8") == {}
    assert warnings("[runner]\nslots = 9") == {"slots": "runner.slots is 9, this machine has 8 CPUs"}
    assert warnings("[runner]\nslots = 2", Machine(1, GIB * 9))["slots"] == "runner.slots is 2, this machine has 1 CPU"


def test_slots_that_together_have_more_memory_than_the_machine() -> None:
    """8 runs of 512 MiB (the larger default: compile's) and 2 builds of 1 GiB are 6 GiB."""
    toml = "[runner]\nslots = 8\n[builder]\nslots = 2\n"
    assert warnings(toml, Machine(8, 6 * GIB)) == {}
    said = (
        "stages in all slots need 6 GiB by default limits (compile or run 512 MiB, build 1 GiB each), this machine has 5.9 GiB"
    )
    assert warnings(toml, Machine(8, int(5.9 * GIB))) == {"memory": said}


def test_a_maximum_beyond_the_machine() -> None:
    said = warnings(
        "[limits.run.maximum]\nmemory_bytes = 68719476737\n[limits.dependencies.maximum]\nmemory_bytes = 137438953472"
    )
    expected = "limits.dependencies.maximum.memory_bytes is 128 GiB, limits.run.maximum.memory_bytes is 68719476737 bytes"
    assert said == {"largest memory": f"{expected}; this machine has 64.0 GiB"}
    assert warnings("[limits.run.maximum]\nmemory_bytes = 68719476736") == {}


def test_every_warning_has_a_remedy() -> None:
    tight = "[limits.run.default]\nwall_time_ms = 1\n[bounds]\nsubmission_wall_time_ms = 1\n[runner]\nslots = 900"
    found = findings(tight, Machine(1, 1))
    assert {finding.verdict for finding in found.values()} == {"warn"}
    assert all(finding.remedy for finding in found.values())


def test_this_machine_has_something() -> None:
    machine = this_machine()
    assert machine.cpus >= 1
    assert machine.memory_bytes > GIB // 4
