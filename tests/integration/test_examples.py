"""The example submissions on a live stack: each has the outcome that it is meant to have, for the reason it is meant to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live_stack import EXAMPLES, Stack, surroundings

ROOT = Path(__file__).parents[2]


def example(stack: Stack, name: str) -> dict:  # type: ignore[type-arg]
    return stack.result(str(EXAMPLES / name))


def test_python_with_three_test_cases(stack: Stack) -> None:
    result = example(stack, "python-three-tests")
    assert (result["status"], result["outcome"], result["compile"]) == ("FINISHED", "OK", None)
    assert [(stage["name"], stage["outcome"], stage["stdout"]["data"]) for stage in result["run"]] == [
        ("three numbers", "OK", "6\n"),
        ("with an argument", "OK", "42\n"),
        ("no input", "OK", "0\n"),
    ]
    assert result["environment"]["derivation"].endswith(".drv")
    assert result["labels"] == {"course": "introduction", "exercise": "sum"}


def test_c_with_a_compile_step_whose_programs_are_the_stores(stack: Stack) -> None:
    result = example(stack, "c-primes")
    assert (result["outcome"], result["compile"]["outcome"]) == ("OK", "OK")
    assert [stage["outcome"] for stage in result["run"]] == ["OK", "OK"]


def test_a_compile_error_has_the_compilers_message_and_runs_nothing(stack: Stack) -> None:
    result = example(stack, "compile-error")
    assert (result["outcome"], result["compile"]["outcome"], result["compile"]["exit_code"]) == ("COMPILE_ERROR", "RE", 1)
    assert "expected" in result["compile"]["stderr"]["data"]
    assert [stage["outcome"] for stage in result["run"]] == ["SKIPPED"]


def test_an_endless_loop_is_ended_by_its_cpu_time_and_keeps_its_output(stack: Stack) -> None:
    result = example(stack, "endless-loop")
    run = result["run"][0]
    assert (result["outcome"], run["outcome"], run["stdout"]["data"]) == ("RUN_ERROR", "TLE_CPU", "started\n")
    assert 1000 <= run["cpu_time_ms"] < 2000
    assert run["limits"]["wall_time_ms"] >= 10 * run["limits"]["cpu_time_ms"]


def test_a_memory_hog_is_ended_by_its_memory(stack: Stack) -> None:
    result = example(stack, "memory-hog")
    run = result["run"][0]
    assert (result["outcome"], run["outcome"], run["stdout"]["data"]) == ("RUN_ERROR", "MLE", "started\n")
    assert run["limits"]["memory_bytes"] == 64 << 20


def test_variables_of_a_shell_hook_come_back_exactly(stack: Stack) -> None:
    result = example(stack, "shell-hook")
    assert result["outcome"] == "OK"
    assert result["run"][0]["stdout"]["data"].startswith("[hello  from an attribute]\n[first line\n  second line, indented\n")


def test_a_shell_that_does_not_evaluate_shows_nixs_message(stack: Stack) -> None:
    result = example(stack, "broken-shell")
    assert (result["outcome"], result["dependencies"]["outcome"], result["environment"]) == ("DEPENDENCY_ERROR", "RE", None)
    assert "attribute 'no-such-package' missing" in result["message"]
    assert "no-such-package" in result["dependencies"]["stderr"]["data"]
    assert result["run"] == [] or {stage["outcome"] for stage in result["run"]} == {"SKIPPED"}


def test_the_same_environment_a_second_time_is_a_hit(stack: Stack) -> None:
    example(stack, "python-three-tests")
    assert example(stack, "python-three-tests")["environment"]["hit"] is True


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_every_example_is_in_the_readme_and_those_that_are_submissions_in_the_demo(name: str) -> None:
    is_submission = (EXAMPLES / name / "shell.nix").exists()  # else programs of a tutorial
    assert (f'"{name}"' in (ROOT / "deploy" / "demo.py").read_text()) == is_submission
    assert f"`{name}`" in (EXAMPLES / "README.md").read_text()


@pytest.fixture
def elsewhere(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whose own configuration and server are somewhere else: not the demo's business."""
    (tmp_path / "cutor").mkdir()
    (tmp_path / "cutor" / "config.toml").write_text('[server]\nurl = "nats://127.0.0.1:1"\n[tenants]\nmine = 1\n')
    return surroundings(tmp_path) | {
        "CUTOR_SERVER": "nats://127.0.0.1:1",
        "CUTOR_CONFIG": str(tmp_path / "cutor" / "config.toml"),
    }


def test_the_demo_uses_a_stack_of_its_own_and_knows_how_each_example_ends(elsewhere: dict[str, str], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = subprocess.run(
        [sys.executable, "deploy/demo.py"], cwd=ROOT, env=elsewhere, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "all 7 examples ended as they are meant to" in done.stdout
    assert "TLE_CPU" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupted_demo_says_so_and_leaves_nothing(elsewhere: dict[str, str], tmp_path: Path) -> None:
    """Ctrl-C reaches every process of the terminal's foreground group."""
    said = tmp_path / "said"
    with said.open("wb") as output:
        demo = subprocess.Popen(
            [sys.executable, "deploy/demo.py"],
            cwd=ROOT,
            env=elsewhere | {"TMPDIR": str(tmp_path)},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + 180
    while "is ready" not in said.read_text():
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.1)
    time.sleep(1)
    os.killpg(demo.pid, signal.SIGINT)
    assert demo.wait(180) == 130
    lines = said.read_text().splitlines()
    assert "demo: interrupted" in lines
    assert len(lines) < 15, lines
    assert "Traceback" not in said.read_text()
    assert list(tmp_path.glob("cutor-demo-*")) == []


def test_the_demo_says_in_one_line_what_is_wrong(elsewhere: dict[str, str]) -> None:
    hidden = elsewhere | {"DOCKER_HOST": "unix:///no/such.sock"}
    done = subprocess.run([sys.executable, "deploy/demo.py"], cwd=ROOT, env=hidden, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "no Docker Engine answers" in done.stderr
