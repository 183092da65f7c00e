"""The logs of a real stack in JSON: every line parses, and what concerns a submission says so."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from cutor.metrics.table import METRICS
from cutor.nix.settings import NixSettings
from cutor.process.exposing import addresses
from cutor.projections.queries.link import Settings
from tests.bare_stack import User
from tests.live_stack import EXAMPLES
from tests.stores import section


def lines(log: Path) -> list[dict[str, Any]]:
    """Return the lines of a log, each of which must be an object."""
    documents = [json.loads(line) for line in log.read_text().splitlines()]
    assert all({"time", "level", "logger", "message", "role"} <= {*document} for document in documents)
    return documents


def test_a_submission_can_be_followed_through_the_logs(user: User, nix_settings: NixSettings) -> None:
    """One that ends well, one that does not compile: every line from lease to end has its id, tenant, event and attempt."""
    config = user.home / "config.toml"
    config.write_text(section(nix_settings) + '\n[log]\nformat = "json"\n')
    started = user.up("--config", str(config), roles=["builder", "runner", "projector"])
    assert started.returncode == 0, started.stderr
    for name, example in (("good", "python-three-tests"), ("bad", "compile-error")):
        user.cutor("submit", str(EXAMPLES / example), "--id", name, "--wait")
    for role in ("builder", "runner", "projector"):
        check_endpoint(user.stack.data, role)
    assert user.down().returncode == 0
    logs = {role: lines(user.stack.data / "log" / f"{role}.log") for role in ("builder", "runner", "projector", "supervisor")}
    assert {line["role"] for line in logs["supervisor"]} == {"supervisor"}
    for role in ("builder", "runner"):
        told = logs[role]
        assert {line["role"] for line in told} == {role}
        first, last = ([n for n, line in enumerate(told) if line.get("submission") == "good"][place] for place in (0, -1))
        assert last - first >= 1
        for line in told[first : last + 1]:
            assert (line["submission"], line["tenant"], line["attempt"]) == ("good", "default", 1), line
            assert line["event"] == ("submitted" if role == "builder" else "cache-built")
            assert line["worker"] == f"{role}-{user.stack.instance}"
    appended = [line["appended"]["kind"] for line in logs["runner"] if line.get("submission") == "bad" and "appended" in line]
    assert appended == ["leased", "compiled", "finished", "cleaned"]


def check_endpoint(data: Path, role: str) -> None:
    """Read a role's metrics as OpenMetrics says: every one of the table is there, in its unit, and no other of cutor's."""
    with urllib.request.urlopen(f"http://{addresses(data)[role]}/metrics", timeout=180) as answer:
        assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    wanted = {metric.name.removesuffix("_total"): metric for metric in METRICS if role in metric.roles}
    assert {name for name in families if name.startswith("cutor_")} == set(wanted)
    for name, metric in wanted.items():
        assert (families[name].type, families[name].unit) == (metric.kind, metric.unit)
        assert all(set(sample.labels) - {"le"} == set(metric.labels) for sample in families[name].samples)


def test_the_process_that_answers_queries_logs_in_json_too() -> None:
    settings = Settings(
        server="nats://127.0.0.1:1", name="q", database="", snapshot_age_ms=0, snapshot_interval_s=0.0, snapshot_path="",
        log_format="json", worker="w", instance="i",
    )  # fmt: skip
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "cutor.projections.queries.process", str(os.getpid())]
    with ours, theirs, subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE) as process:
        ours.sendall(msgspec.json.encode(settings) + b"\n")
        assert process.stderr is not None
        line = json.loads(process.stderr.readline())
        process.terminate()
        assert process.wait(180) == 0
    assert line["message"].startswith("queries are not answered: ")
    assert (line["role"], line["worker"], line["instance"]) == ("projector", "w", "i")


def test_a_role_that_cannot_go_on_says_why_in_json(user: User) -> None:
    done = user.cutor(
        "projector", "--server", "nats://127.0.0.1:1", "--data", str(user.home / "alone"), CUTOR_LOG_FORMAT="json"
    )
    assert done.returncode == 3
    [*_, last] = [json.loads(line) for line in done.stderr.splitlines()]
    assert last["message"].startswith("cutor: cannot reach NATS at nats://127.0.0.1:1")
    assert (last["role"], last["level"]) == ("projector", "CRITICAL")
