"""What an environment gives: a script that says so from the inside, and the reading of what it printed. Pure.

The script runs as any submission's does, in the jail, with the environment's bash and nothing else of it: an environment need
not have a single other program. Whatever a shell.nix made of it may print anything, so nothing that is read is believed
to be more than text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import msgspec

TOOLS: Final = (
    *("bash --version", "python3 --version", "gcc --version", "g++ --version", "clang --version", "make --version"),
    *("cmake --version", "node --version", "deno --version", "go version", "rustc --version", "cargo --version"),
    *("java --version", "javac --version", "kotlinc -version", "scala -version", "ghc --version", "ocaml -version"),
    *("ruby --version", "perl --version", "php --version", "lua -v", "julia --version", "R --version", "octave --version"),
    *("fpc -iV", "gfortran --version", "zig version", "nim --version", "swift --version", "dotnet --version", "mono --version"),
    *("sbcl --version", "guile --version", "racket --version", "elixir --version", "gprolog --version", "swipl --version"),
    *("git --version", "sqlite3 --version", "tcc -v", "nasm --version"),
)
"""Programs that are asked for their version, where the PATH has them: what courses and contests are taught in."""

SCRIPT: Final = (
    """\
while IFS= read -r -d '' entry; do printf 'variable\\0%s\\0' "$entry"; done < /proc/self/environ
shopt -s nullglob dotglob
set -f; IFS=:; directories=($PATH); unset IFS; set +f
for directory in "${directories[@]}"; do
  printf 'directory\\0%s\\0' "$directory"
  for file in "$directory"/*; do
    if [[ -f $file && -x $file ]]; then printf 'program\\0%s\\0' "${file##*/}"; fi
  done
done
while read -r program flag; do
  if path=$(type -P "$program"); then
    said=$("$path" "$flag" 2>&1 < /dev/null)
    printf 'version\\0%s\\0' "$program ${said:0:2000}"
  fi
done << 'TOOLS'
"""
    + "".join(f"{tool}\n" for tool in TOOLS)
    + "TOOLS\nprintf 'end\\0\\0'\nexit 0\n"
)

_PACKAGE: Final = re.compile(r"/nix/store/[0-9a-z]{32}-([^/]+)")
_VERSION: Final = re.compile(r"\d+(?:\.\d+)+|\bv?\d+\b")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A directory of PATH: the package in the store that it is of, if any, and its programs by name."""

    directory: str
    package: str | None
    programs: tuple[str, ...] = ()


class EnvironmentReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an environment gives: its variables by name, PATH in its order, and the first line of what tools say of themselves.

    ``whole`` is false where the script was stopped, or its output cut, before it had said everything.
    """

    variables: dict[str, str]
    path: tuple[Place, ...]
    versions: dict[str, str]
    whole: bool


def read_report(printed: bytes) -> EnvironmentReport:
    """Return what the script's stdout says; what is none of its words is left out."""
    variables: dict[str, str] = {}
    places: dict[str, list[str]] = {}
    versions: dict[str, str] = {}
    whole, programs = False, []
    for word, text in _pairs(printed):
        match word:
            case "variable":
                name, _, value = text.partition("=")
                variables[name] = value
            case "directory":
                programs = places.setdefault(text, [])
            case "program":
                programs.append(text)
            case "version":
                tool, _, said = text.partition(" ")
                versions[tool] = _version_line(said)
            case "end":
                whole = True
    path = tuple(
        Place(directory=directory, package=package(directory), programs=tuple(sorted(set(names))))
        for directory, names in places.items()
    )
    return EnvironmentReport(variables=variables, path=path, versions=versions, whole=whole)


def package(path: str) -> str | None:
    """Return the name, with its version, of the package in the store that a path leads into; None for another path."""
    found = _PACKAGE.match(path)
    return found[1] if found else None


def _pairs(printed: bytes) -> Iterator[tuple[str, str]]:
    words = printed.decode(errors="backslashreplace").split("\0")
    yield from zip(words[:-1:2], words[1:-1:2], strict=False)


def _version_line(said: str) -> str:
    """Return the first line that has a version in it, else the first one with anything in it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if _VERSION.search(line)), lines[0] if lines else "")
