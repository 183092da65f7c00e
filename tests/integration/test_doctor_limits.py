"""``cutor doctor`` prints limits and bounds, says whose they are, and tells what cannot work from what is unwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from cutor.model.limits import DEFAULT_LIMITS, Bounds
from tests.bare_stack import User

BARE_REQUEST_BYTES = 65_536
"""The bound that the stack of the fixture `bare` publishes."""


def limits_finding(user: User, *args: str) -> dict[str, Any]:
    findings = json.loads(user.cutor("doctor", "--json", *args).stdout)
    (found,) = [finding for finding in findings if "limits" in finding]
    assert found["what"] == "limits"
    return dict(found)


def other_config(directory: Path) -> str:
    (directory / "other.toml").write_text("[bounds]\nlabels = 3\n[limits.run.default]\nmemory_bytes = 67108864\n")
    return str(directory / "other.toml")


def test_those_of_the_running_stack_are_shown(bare: User) -> None:
    shown = bare.cutor("doctor").stdout
    _, title, tables = shown.partition("Limits that the stack publishes, default / maximum:\n")
    assert title
    rows = [" ".join(line.split()) for line in tables.splitlines()]
    assert "memory 1 GiB / 4 GiB 512 MiB / 2 GiB 256 MiB / 2 GiB" in rows
    assert "contents, names, arguments and labels of a request 64 KiB" in rows
    shown_json = limits_finding(bare)["limits"]
    assert shown_json["stages"] == msgspec.to_builtins(DEFAULT_LIMITS)
    assert shown_json["bounds"] == msgspec.to_builtins(Bounds(request_bytes=BARE_REQUEST_BYTES))


def test_those_of_the_running_stack_are_shown_where_the_configuration_has_others(bare: User, tmp_path: Path) -> None:
    found = limits_finding(bare, "--config", other_config(tmp_path))
    assert (found["verdict"], found["limits"]["source"]) == ("warn", "stack")
    assert "bounds.labels: 32 → 3" in found["detail"]
    assert found["limits"]["bounds"]["labels"] == 32
    assert found["limits"]["stages"]["run"]["default"]["memory_bytes"] == 256 << 20


def test_without_a_stack_they_are_those_of_the_configuration(user: User) -> None:
    config = other_config(user.home)
    found = limits_finding(user, "--config", config)
    assert (found["verdict"], found["limits"]["source"]) == ("ok", "configuration")
    assert found["limits"]["bounds"]["labels"] == 3
    assert found["limits"]["stages"]["run"]["default"]["memory_bytes"] == 64 << 20
    shown = user.cutor("doctor", "--config", config).stdout
    assert "those of the configuration: no stack publishes any" in shown
    assert "Limits of the configuration, default / maximum (no stack publishes any):" in shown


def test_a_limit_that_cannot_work_fails_and_names_the_setting(user: User) -> None:
    config = user.home / "config.toml"
    config.write_text("[limits.run.maximum]\nopen_files = 100000\n")
    done = user.cutor("doctor", "--config", str(config))
    assert done.returncode == 3
    failed = next(line for line in done.stdout.splitlines() if line.startswith("FAIL  configuration"))
    assert f"{config}: limits.run: the maximum open_files 100000 is more than 16384 open files" in failed
    assert "default / maximum" not in done.stdout


def test_what_is_unwise_is_a_warning_with_a_remedy_and_no_failure(user: User) -> None:
    config = user.home / "config.toml"
    config.write_text(
        "[limits.run.default]\nwall_time_ms = 5000\n[runner]\nslots = 1024\n[bounds]\nsubmission_wall_time_ms = 9\n"
    )
    done = user.cutor("doctor", "--config", str(config))
    assert done.returncode == 0, done.stdout
    for line in (
        "warn  wall time       limits.run.default.wall_time_ms is 5 s for 5 s of CPU time: make it 10 s at least",
        "warn  submission      bounds.submission_wall_time_ms is 9 ms",
        "warn  slots           runner.slots is 1024, this machine has ",
    ):
        assert f"\n{line}" in done.stdout
