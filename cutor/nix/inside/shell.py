"""What nix-shell would start for a derivation: the variables it passes, and the script its bash reads first. Pure.

The order of steps is that of ``nix-shell --pure`` of Nix 2.34 (its manual, and compared with the real one by a test). It is
done here instead of calling nix-shell, because that needs the daemon's socket beside the user's hook, and instead of ``nix
print-dev-env``, which says IN_NIX_SHELL=impure to the set-up script, wants a bash builder and builds one derivation more.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Final

from cutor.nix.inside.derivation import Derivation

TEMPORARY_DIRECTORY: Final = "/tmp"  # noqa: S108 - the jail's own, fresh for every stage
ATTRIBUTES_DIRECTORY: Final = "/attributes"
"""Where the capture's jail shows the files that variables point to."""
MAX_ENTRY_BYTES: Final = 128 << 10
"""Linux passes no longer NAME=VALUE, its NUL byte included, to a program (execve(2), MAX_ARG_STRLEN)."""

DUMP_PROGRAM: Final = "/opt/cutor/bin/bash-static"
"""Prints the variables: static, so that LD_LIBRARY_PATH or LD_PRELOAD of a hook mean nothing to it."""

EXIT_TOO_LARGE: Final = 126
"""As a shell ends that found a program and could not execute it (POSIX): here, since the variables are too large."""
END_OF_CAPTURE: Final = b"end of capture"

_BUILD_TOP: Final = (b"NIX_BUILD_TOP", b"TMPDIR", b"TEMPDIR", b"TMP", b"TEMP")
_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_PRELUDE: Final = """\
unset PATH
dontAddDisableDepTrack=1
if [ -n "${NIX_ATTRS_SH_FILE-}" ]; then source "$NIX_ATTRS_SH_FILE"; fi
if [ -e "${stdenv-}/setup" ]; then source "$stdenv/setup"; fi
"""
_HOOK: Final = """\
set +e
if [ "$(type -t runHook)" = function ]; then runHook shellHook; fi
unset NIX_ENFORCE_PURITY TZ
shopt -u nullglob
shopt -s execfail
"""
_DUMP: Final = (
    "exec >\"$1\" || exit; mapfile -d '' -t entries </proc/self/environ || exit; "
    f"printf '%s\\0' \"${{entries[@]}}\" '{END_OF_CAPTURE.decode()}'"
)
"""mapfile reads 4 KiB at a time, where ``read -d ''`` reads byte by byte."""


class ShellError(ValueError):
    """A derivation whose shell can't be started; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Shell:
    """Variables to start bash with, and the files they point to (by name in `ATTRIBUTES_DIRECTORY`)."""

    variables: dict[bytes, bytes]
    files: dict[str, bytes] = field(default_factory=dict)


def shell_of(derivation: Derivation, cores: int) -> Shell:
    """Return what ``nix-shell --pure`` would pass to bash for ``derivation``.

    Raises `ShellError` for a variable that Linux would not pass, or structured attributes that can't be read.
    """
    variables = {name: TEMPORARY_DIRECTORY.encode() for name in (*_BUILD_TOP, b"HOME")}
    variables |= {b"NIX_STORE": b"/nix/store", b"NIX_BUILD_CORES": b"%d" % cores}
    variables |= {b"IN_NIX_SHELL": b"pure", b"__ETC_PROFILE_SOURCED": b"1"}
    files: dict[str, bytes] = {}
    own = dict(derivation.environment)
    structured = own.pop(b"__json", None)
    if structured is not None:
        attributes = _attributes(structured, derivation)
        files |= {".attrs.json": json.dumps(attributes).encode(), ".attrs.sh": attributes_script(attributes).encode()}
        variables |= {b"NIX_ATTRS_JSON_FILE": _place(".attrs.json"), b"NIX_ATTRS_SH_FILE": _place(".attrs.sh")}
    as_files = set(own.get(b"passAsFile", b"").split())
    for name, value in own.items():
        if name in as_files:
            file = f".attr-{len(files)}"
            files[file] = value
            variables[name + b"Path"] = _place(file)
        else:
            variables[name] = value
    return Shell({name: _passable(name, value) for name, value in variables.items() if _is_name(name)}, files)


def script(bash: str | None, capture_file: str) -> str:
    """Return the text for ``bash -c``: set up, run the hook, write the variables to ``capture_file``.

    ``bash`` is the store path of the package set's interactive bash, whose directory leads PATH as nix-shell has it.
    Both arguments are names of cutor's own making or checked store paths. Exit status 126: too large to pass.
    """
    quoted = quote(bash) if bash else None
    lead = f'PATH={quote(bash.rpartition("/")[0])}:"$PATH"; SHELL={quoted}; BASH={quoted}\n' if bash else ""
    dump = f"\\builtin exec {DUMP_PROGRAM} -p -c {quote(_DUMP)} capture {quote(capture_file)}\n"
    return f"{_PRELUDE}{lead}{_HOOK}{dump}\\builtin exit {EXIT_TOO_LARGE}\n"


def attributes_script(attributes: dict[str, object]) -> str:
    """Return bash declarations of structured attributes (Nix manual): scalars, and lists and maps of scalars."""
    return "".join(_declaration(name, value) for name, value in attributes.items() if _SHELL_NAME.fullmatch(name))


def quote(text: str) -> str:
    """Return ``text`` as one word for bash."""
    return "'" + text.replace("'", "'\\''") + "'"


def _attributes(text: bytes, derivation: Derivation) -> dict[str, object]:
    try:
        attributes = json.loads(text)
    except ValueError as error:
        raise ShellError("the derivation's structured attributes are not JSON") from error
    if not isinstance(attributes, dict):
        raise ShellError("the derivation's structured attributes are not a set")
    return attributes | {"outputs": derivation.outputs}


def _declaration(name: str, value: object) -> str:
    if (word := _scalar(value)) is not None:
        return f"declare {name}={word}\n"
    if isinstance(value, list):
        words = [_scalar(member) for member in value]
        return f"declare -a {name}=({' '.join(word for word in words if word is not None)})\n" if None not in words else ""
    if isinstance(value, dict):
        pairs = [(key, _scalar(member)) for key, member in value.items()]
        if all(word is not None for _, word in pairs):
            return f"declare -A {name}=({' '.join(f'[{quote(key)}]={word}' for key, word in pairs)})\n"
    return ""


def _scalar(value: object) -> str | None:
    match value:
        case None | False:
            return "''" if value is None else ""
        case True:
            return "1"
        case int() | float():
            return str(int(value)) if value == int(value) else None
        case str():
            return quote(value)
    return None


def _is_name(name: bytes) -> bool:
    return bool(name) and b"=" not in name and b"\0" not in name


def _passable(name: bytes, value: bytes) -> bytes:
    size = len(name) + len(value) + 2
    if size > MAX_ENTRY_BYTES:
        raise ShellError(
            f"the variable {name.decode(errors='replace')} of the environment is {size} bytes: Linux passes at most"
            f" {MAX_ENTRY_BYTES} to a program; put its content into a file (writeText, passAsFile)"
        )
    if b"\0" in value:
        raise ShellError(f"the variable {name.decode(errors='replace')} of the environment holds a NUL byte")
    return value


def _place(file: str) -> bytes:
    return f"{ATTRIBUTES_DIRECTORY}/{file}".encode()
