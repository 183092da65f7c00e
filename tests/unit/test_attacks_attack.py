"""Attack files: what their headers say, and the requests made of them."""

from __future__ import annotations

import re

import pytest

from tests.attacks.attack import SHELL, TOKEN, InvalidAttack, files_of, generated, header_of, parse_attack, request_of
from tests.attacks.campaign import load_attacks
from tests.attacks.judgement import proof

C = """//: what = "a test"
//: outcome = ["RUN_ERROR"]
//: run = ["SG"]
int main(void) { return 0; }
"""


def test_a_header_ends_with_the_first_other_line() -> None:
    assert header_of("#!/bin/sh\n#: a = 1\n#:\n#:  b = 2\ntrue\n#: c = 3\n", "#:") == "a = 1\n\n b = 2"
    assert header_of("", "#:") == ""


def test_a_c_file_is_compiled_and_run() -> None:
    attack = parse_attack("kernel/x.c", C)
    files = files_of(attack)
    assert (attack.outcome, attack.run, attack.stage) == (("RUN_ERROR",), ("SG",), "run")
    assert files["attack.c"] == C
    assert files["shell.nix"] == SHELL
    assert "gcc" in files["cutor-compile.sh"]
    assert "./attack" in files["cutor-run.sh"]


def test_a_shell_file_is_the_script_of_its_stage() -> None:
    text = "#: what = 'x'\n#: before = 'touch a'\nid\n"
    assert files_of(parse_attack("a/x.sh", text)) == {"shell.nix": SHELL, "cutor-compile.sh": "touch a", "cutor-run.sh": text}
    text = "#: what = 'x'\n#: stage = 'compile'\n#: then = 'ls'\nid\n"
    assert files_of(parse_attack("a/x.sh", text)) == {"shell.nix": SHELL, "cutor-compile.sh": text, "cutor-run.sh": "ls"}


def test_a_nix_file_is_the_environment_and_new_every_time() -> None:
    text = f"#: what = 'x'\n#: then = 'cat $x'\n{{ }}: \"{TOKEN}\"\n"
    attack = parse_attack("nix/x.nix", text)
    assert (attack.stage, attack.cache) == ("dependencies", False)
    files = {file["name"]: file["content"] for file in request_of(attack, "abc")["files"]}
    assert files == {"shell.nix": text.replace(TOKEN, "abc"), "cutor-run.sh": "cat $x"}


def test_files_of_a_header_replace() -> None:
    attack = parse_attack("a/x.py", "#: what = 'x'\n#: files = { 'cutor-run.sh' = 'other', '../up' = '' }\nprint()\n")
    assert files_of(attack)["cutor-run.sh"] == "other"
    assert "../up" in files_of(attack)


def test_a_generated_input_has_its_size_and_only_it() -> None:
    assert generated(0) == ""
    assert len(generated(100_001).encode()) == 100_001
    attack = parse_attack("a/x.sh", "#: what = 'x'\n#: input_bytes = 10\n#: test_cases = [{ args = ['a'] }, {}]\ntrue\n")
    assert request_of(attack, "")["test_cases"] == [{"args": ["a"], "input": generated(10)}, {}]
    assert attack.test_cases == ({"args": ["a"]}, {})


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("outcome = ['OK']", "what"),
        ("what = 'x'\n#: else = 1", "else"),
        ("what = ", "Invalid value"),
        ("what = 'x'\n#: stage = 'nowhere'", "nowhere"),
        ("what = 'x'\n#: program = 'y'", "program"),
        ("what = 'x'\n#: runs = ['OK', 'MLE']", "runs has 2 entries for 1 test cases"),
        ("what = 'x'\n#: run = ['MLE']\n#: runs = ['MLE']", "one of them is enough"),
        ("what = 'x'\n#: kill = { process = 'init', at = '' }", "init"),
    ],
)
def test_a_header_that_cannot_be(header: str, said: str) -> None:
    with pytest.raises(InvalidAttack, match=said) as raised:
        parse_attack("a/x.sh", f"#: {header}\ntrue\n")
    assert str(raised.value).startswith("a/x.sh: ")


def test_every_test_case_has_its_outcomes() -> None:
    header = "#: what = 'x'\n#: test_cases = [{}, {}]\n"
    assert parse_attack("a/x.sh", header + "#: runs = ['MLE', ['RE', 'SG']]\ntrue\n").cases == (("MLE",), ("RE", "SG"))
    assert parse_attack("a/x.sh", header + "#: run = ['MLE']\ntrue\n").cases == (("MLE",), ("MLE",))
    assert parse_attack("a/x.sh", header + "true\n").cases == (("OK",), ("OK",))


def test_every_attack_says_what_it_is() -> None:
    attacks = load_attacks()
    assert len(attacks) > 100
    assert len({attack.what for attack in attacks}) == len(attacks)


def test_no_attack_that_may_end_well_could_have_done_nothing() -> None:
    well = [attack for attack in load_attacks() if "OK" in attack.outcome and attack.refused is None]
    assert len(well) > 50
    assert [attack.name for attack in well if not proof(attack)] == []


ABSENT = re.compile(
    r"(?:^|[;&|(`]|\b(?:exec|then|do|else)\b)\s*"
    r"((?:u?mount|setsid|unshare|nsenter|ip|nc|ps|pkill|killall|su|sudo|hostname|sysctl|dmesg|curl|wget|xxd|strace|perl)\s.*)",
    re.MULTILINE,
)
"""Calls of programs that are not in the environment of attacks: where its message goes nowhere, such an attack does nothing."""


@pytest.mark.parametrize("line", ["mount -t proc none /tmp", "(setsid sleep 1 &)", "a=1; exec unshare -r sh", "true && ps aux"])
def test_a_call_of_a_program_that_is_absent_is_found(line: str) -> None:
    assert ABSENT.findall(f"true\n{line}\n")


def test_no_attack_calls_a_program_that_is_absent() -> None:
    scripts = {attack.name: attack for attack in load_attacks() if attack.suffix in {".sh", ".nix"}}
    called = {name: ABSENT.findall(f"{one.program}\n{one.then}\n{one.before}") for name, one in scripts.items()}
    assert {name: lines for name, lines in called.items() if lines} == {}
