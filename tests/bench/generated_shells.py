"""Generated `shell.nix` files: each another environment, with a script that proves it and the output that it must have. Pure.

They differ in packages, in derivations of their own that are really built, in how values get into the environment (attributes,
hooks, exported functions, imported files, what is imported from a derivation), and in what makes values hard to carry: lines,
spaces, quotes, `=`, other scripts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final, NamedTuple

VALUES: Final = (
    "plain",
    "  two  spaces  ",
    "first line\nsecond line\n\nlast line, with a space ",
    "a=b==c",
    'it\'s "quoted" \\ and $dollar `tick`',
    "grüße ☃ 日本 Ελληνικά",
    "tab\there",
)
PACKAGES: Final[dict[str, tuple[str, Callable[[int], str]]]] = {
    "python3": ('python3 -c "print(6 * {n})"', lambda n: str(6 * n)),
    "lua5_4": ('lua -e "print({n} // 2)"', lambda n: str(n // 2)),
    "gcc": ("printf 'int main(void) {{ return {n}; }}' > a.c && gcc -o a a.c; ./a; echo $?", str),
    "nodejs": ('node -e "console.log({n} + 1)"', lambda n: str(n + 1)),
    "gnumake": ("printf 'all:\\n\\t@echo made {n}\\n' > m; make -s -f m", lambda n: f"made {n}"),
}
"""What proves that a package is there, and what that prints."""


class Generated(NamedTuple):
    """A submission's files, which of them belong to its environment, and exactly what it prints."""

    name: str
    files: dict[str, str]
    environment_files: tuple[str, ...]
    printed: str


def generated(count: int, token: str) -> list[Generated]:
    """Return so many, each another environment; ``token`` makes them others than those of another call."""
    kinds: tuple[Callable[[int, str], Generated], ...] = (_attribute, _hook, _function, _imported, _derived)
    return [kinds[number % len(kinds)](number, token) for number in range(count)]


def _attribute(n: int, token: str) -> Generated:
    """A value as an attribute of the shell."""
    return _made("attribute", n, token, f"VALUE = {_nix(_value(n))};", f"{_value(n)}\n")


def _hook(n: int, token: str) -> Generated:
    """A value from a hook, which finds the PATH that programs will have."""
    hook = f"shellHook = {_nix(f'VALUE={_bash(_value(n))}; export VALUE; PATH=$PATH:/extra/{n}')};"
    return _made("hook", n, token, hook, f"{_value(n)}\n", more='echo "${PATH##*:}"\n', and_prints=f"/extra/{n}\n")


def _function(n: int, token: str) -> Generated:
    """An exported function."""
    hook = f"shellHook = {_nix(f'value_of() {{ printf %s {_bash(_value(n))}; }}; export -f value_of; export VALUE=x')};"
    return _made("function", n, token, hook, "x\n", more="value_of; echo\n", and_prints=f"{_value(n)}\n")


def _imported(n: int, token: str) -> Generated:
    """A value from a file that shell.nix imports, and one that it reads."""
    files = {"lib/values.nix": f"{{ value = {_nix(_value(n))}; }}", "number.txt": f"{n}"}
    attributes = "VALUE = (import ./lib/values.nix).value; NUMBER = builtins.readFile ./number.txt;"
    return _made("imported", n, token, attributes, f"{_value(n)}\n", "echo $NUMBER\n", f"{n}\n", files)


def _derived(n: int, token: str) -> Generated:
    """A value that is imported from a derivation: it has to be built before the evaluation can go on."""
    text = f'import (pkgs.runCommand "values-{token}-{n}" {{ }} "echo {n * n} > $out")'
    return _made("derived", n, token, f"VALUE = toString ({text});", f"{n * n}\n")


def _made(
    kind: str,
    n: int,
    token: str,
    attributes: str,
    printed: str,
    more: str = "",
    and_prints: str = "",
    files: dict[str, str] | None = None,
) -> Generated:
    """Put one together: two packages of the set, a program of its own, built on a library of its own, and what it is about."""
    names = list(PACKAGES)
    chosen = dict.fromkeys((names[n % len(names)], names[(n // len(names)) % len(names)]))
    own = f"own-{token}-{n}"
    shell = f"""{{ pkgs ? import <nixpkgs> {{ }} }}:
let
  library = pkgs.runCommand "{own}-library" {{ }} "yes {own} | head -c {(n % 7 + 1) << 18} > $out";
  own = pkgs.runCommand "{own}" {{ inherit library; }} ''
    mkdir -p $out/bin
    printf '#!/bin/sh\\nread -r line < %s; echo "$line"\\n' $library > $out/bin/{own}
    chmod +x $out/bin/{own}
  '';
in
pkgs.mkShell {{
  packages = [ own {" ".join(f"pkgs.{name}" for name in chosen)} ];
  {attributes}
}}
"""
    proofs = "".join(f"{PACKAGES[name][0].format(n=n)}\n" for name in chosen)
    proven = "".join(f"{PACKAGES[name][1](n)}\n" for name in chosen)
    script = f"printf '%s\\n' \"$VALUE\"\n{more}{own}\n{proofs}"
    extra = files or {}
    return Generated(
        name=f"{kind}-{token}-{n}",
        files={"shell.nix": shell, "cutor-run.sh": script} | extra,
        environment_files=tuple(extra),
        printed=f"{printed}{and_prints}{own}\n{proven}",
    )


def _value(n: int) -> str:
    """Return a value that is hard to carry, and no other's."""
    return f"{VALUES[n % len(VALUES)]}{hashlib.sha256(b'%d' % n).hexdigest()[:8]}"


def _nix(text: str) -> str:
    """Return a text as Nix writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${").replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _bash(text: str) -> str:
    """Return a text as a word of bash."""
    return "'" + text.replace("'", "'\\''") + "'"
