"""Reading the text of a store derivation; the form was taken from files that Nix 2.34.8 wrote."""

import pytest

from cutor.nix.inside.derivation import DerivationError, is_store_path, outputs_of, parse

BASH = "/nix/store/cbjga38f850sc0q6q2yrqr7hlp02fhc0-bash-static-5.2.drv"
PYTHON = "/nix/store/vk4qymj86lm6ddq44znqg1b1dp0lvcg7-python3-3.11.drv"
SOURCE = "/nix/store/advqdpc911s7spp66wf8svac9m9qiydv-builder.sh"
OUT = "/nix/store/0k0ma6xvg0qjcsmsxzhic79sckbyvzr7-nix-shell"

TEXT = (
    f'Derive([("out","{OUT}","","")],[("{BASH}",["out"]),("{PYTHON}",["dev","out"])],["{SOURCE}"],"x86_64-linux",'
    '"/nix/store/pibc6zqd6iq2q3jh5z8kkkdggi8ix3fb-bash/bin/bash",["-e","x"],'
    r'[("hook","a \"b\"\n\tc\\d$\r"),("empty",""),("name","nix-shell")])'
).encode()


def test_a_derivation_of_mkshell() -> None:
    derivation = parse(TEXT)
    assert derivation.outputs == {"out": OUT}
    assert derivation.inputs == {BASH: ("out",), PYTHON: ("dev", "out")}
    assert derivation.sources == (SOURCE,)
    assert derivation.environment == {b"hook": b'a "b"\n\tc\\d$\r', b"empty": b"", b"name": b"nix-shell"}


def test_bytes_that_are_not_text_stay_as_they_are() -> None:
    raw = TEXT.replace(b'"empty",""', b'"empty","\xff\xfe"')
    assert parse(raw).environment[b"empty"] == b"\xff\xfe"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"Derive",
        b"Derive(",
        b"Derive([],[],[],[])",
        TEXT[:-1],
        TEXT + b"x",
        TEXT.replace(b'("empty","")', b'("empty")'),
        TEXT.replace(b'["dev","out"]', b'"dev"'),
        TEXT.replace(SOURCE.encode(), b"/etc/passwd"),
        TEXT.replace(OUT.encode(), b""),
        TEXT.replace(b'"x86_64-linux"', b'["x86_64-linux"]'),
        b'DrvWithVersion("xp-dyn-drv",' + TEXT,
        b"Derive(" + b"[" * 100_000,
    ],
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(DerivationError):
        parse(text)


def test_outputs_are_read_alone_however_long_the_rest_is() -> None:
    assert outputs_of(TEXT) == {"out": OUT}
    assert outputs_of(TEXT[: TEXT.index(b"]") + 1]) == {"out": OUT}, "nothing of the rest was looked at"


@pytest.mark.parametrize("text", [b"", b"Derive", b"Derive(", b'Derive("out"', b"Derive([", TEXT.replace(OUT.encode(), b"")])
def test_what_has_no_outputs_is_refused(text: bytes) -> None:
    with pytest.raises(DerivationError):
        outputs_of(text)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (OUT, True),
        ("/nix/store/0k0ma6xvg0qjcsmsxzhic79sckbyvzr7-a+b._?=C-1", True),
        (OUT + "/bin", False),
        (OUT + "\n", False),
        ("/nix/store/.links", False),
        ("/nix/store/0k0ma6xvg0qjcsmsxzhic79sckbyvzr7-", False),
        ("/nix/store/../etc", False),
        ("relative", False),
        *((f"/nix/store/0k0ma6xvg0qjcsmsxzhic79sckbyvzr{digit}-a", False) for digit in "eotuA"),
    ],
)
def test_store_paths(path: str, expected: bool) -> None:
    assert is_store_path(path) is expected
