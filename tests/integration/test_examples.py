"""The example submissions on a live stack: each has the outcome that it is meant to have, for the reason it is meant to."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live_stack import EXAMPLES, Stack


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
def test_every_example_is_in_the_demo_and_in_the_readme(name: str) -> None:
    root = Path(__file__).parents[2]
    assert f'"{name}"' in (root / "deploy" / "demo.py").read_text()
    assert f"`{name}`" in (EXAMPLES / "README.md").read_text()
