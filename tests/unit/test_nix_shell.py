"""What nix-shell would start: variables, files and script, without a shell or a store."""

import json
import subprocess
from pathlib import Path

import pytest

from cutor.nix.inside.derivation import Derivation
from cutor.nix.inside.shell import (
    _DUMP,
    END_OF_CAPTURE,
    MAX_ENTRY_BYTES,
    ShellError,
    attributes_script,
    quote,
    script,
    shell_of,
)

BASH = "/nix/store/pibc6zqd6iq2q3jh5z8kkkdggi8ix3fb-bash/bin/bash"


def derivation(**environment: bytes) -> Derivation:
    variables = {name.encode(): value for name, value in environment.items()}
    return Derivation(outputs={"out": "/nix/store/x"}, inputs={}, sources=(), environment=variables)


def test_variables_are_those_of_a_pure_nix_shell() -> None:
    shell = shell_of(derivation(name=b"demo", TMPDIR=b"/elsewhere"), cores=3)
    assert shell.files == {}
    assert shell.variables == {
        b"HOME": b"/tmp",
        b"IN_NIX_SHELL": b"pure",
        b"NIX_BUILD_CORES": b"3",
        b"NIX_BUILD_TOP": b"/tmp",
        b"NIX_STORE": b"/nix/store",
        b"TEMP": b"/tmp",
        b"TEMPDIR": b"/tmp",
        b"TMP": b"/tmp",
        b"TMPDIR": b"/elsewhere",  # a derivation's own variables win, as they do in nix-shell
        b"__ETC_PROFILE_SOURCED": b"1",
        b"name": b"demo",
    }


def test_pass_as_file_gives_a_file_and_its_path() -> None:
    shell = shell_of(derivation(passAsFile=b"text other", text=b"x" * 200_000, other=b""), cores=1)
    assert b"text" not in shell.variables
    assert {shell.variables[b"textPath"], shell.variables[b"otherPath"]} == {
        f"/attributes/{file}".encode() for file in shell.files
    }
    assert sorted(map(len, shell.files.values())) == [0, 200_000]


def test_structured_attributes_become_a_script_and_json() -> None:
    shell = shell_of(derivation(out=b"/nix/store/x", __json=json.dumps({"a": "b"}).encode()), cores=1)
    assert b"__json" not in shell.variables
    assert shell.variables[b"NIX_ATTRS_SH_FILE"] == b"/attributes/.attrs.sh"
    assert json.loads(shell.files[".attrs.json"]) == {"a": "b", "outputs": {"out": "/nix/store/x"}}
    assert shell.files[".attrs.sh"] == b"declare a='b'\ndeclare -A outputs=(['out']='/nix/store/x')\n"


@pytest.mark.parametrize("text", [b"", b"[]", b"{"])
def test_structured_attributes_that_are_no_set(text: bytes) -> None:
    with pytest.raises(ShellError, match="structured attributes"):
        shell_of(derivation(__json=text), cores=1)


def test_a_declaration_holds_every_value_exactly(tmp_path: Path) -> None:
    attributes: dict[str, object] = {
        "text": 'it\'s "a"\n$(touch bad) `b` \\ ü',
        "yes": True,
        "no": False,
        "nothing": None,
        "number": -7,
        "whole": 2.0,
        "half": 0.5,
        "words": ["a b", "c'", "", 1],
        "map": {"k'1": "v 1", "two": 2},
        "nested": [["no"]],
        "not-a-name": "left out",
    }
    file = tmp_path / "attributes.sh"
    file.write_text(attributes_script(attributes))
    show = (
        'source "$1"; printf "%s\\0" "$text" "$yes" "$no" "$nothing" "$number" "$whole" "${half-unset}" "${words[@]}"'
        ' "${map["k\'1"]}" "${map[two]}" "${nested-unset}"'
    )
    done = subprocess.run(["bash", "-c", show, "bash", str(file)], capture_output=True, check=True, cwd=tmp_path)
    expected = [str(attributes["text"]), "1", "", "", "-7", "2", "unset", "a b", "c'", "", "1", "v 1", "2", "unset"]
    assert done.stdout.decode().split("\0")[:-1] == expected
    assert list(tmp_path.iterdir()) == [file]


def test_a_variable_that_linux_would_not_pass_is_named() -> None:
    size = MAX_ENTRY_BYTES - len("big") - 2
    assert shell_of(derivation(big=b"x" * size), cores=1).variables[b"big"] == b"x" * size
    with pytest.raises(ShellError, match=r"the variable big of the environment is 131073 bytes"):
        shell_of(derivation(big=b"x" * (size + 1)), cores=1)


def test_a_variable_with_nul_is_named() -> None:
    with pytest.raises(ShellError, match="NUL"):
        shell_of(derivation(bad=b"a\0b"), cores=1)


def test_the_script_is_bash_and_leads_path_with_the_given_bash() -> None:
    text = script(BASH, "/capture/environment")
    assert f"PATH='{BASH.removesuffix('/bash')}':\"$PATH\"" in text
    subprocess.run(["bash", "-n", "-c", text], check=True)
    assert "SHELL=" not in script(None, "/capture/environment")


@pytest.mark.parametrize("text", ["", "plain", "it's", "a\nb", "$(x)`y`\\"])
def test_a_quoted_word_is_one_word(text: str) -> None:
    done = subprocess.run(["bash", "-c", f"printf '%s|' {quote(text)}"], capture_output=True, check=True)
    assert done.stdout.decode() == f"{text}|"


def test_the_dump_is_exact_and_reads_in_blocks(tmp_path: Path) -> None:
    block = b"".join(b"A%d=%s\0" % (number, b"x" * 100_000) for number in range(5)) + b"ODD=a\n b=\xff'\"\0entries=1\0"
    given = dict(entry.split(b"=", 1) for entry in block.split(b"\0")[:-1])
    command = ["/bin/bash", "-p", "-c", f"{_DUMP}; /bin/cat /proc/$$/io >&2", "dump", f"{tmp_path}/variables"]
    done = subprocess.run(command, env=given, capture_output=True, check=True)
    assert (tmp_path / "variables").read_bytes() == block + END_OF_CAPTURE + b"\0"
    reads = int(dict(line.split(b": ") for line in done.stderr.splitlines())[b"syscr"])
    assert reads < 1000, "not one call a byte"
