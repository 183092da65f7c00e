"""The program in the first jail: evaluate shell.nix, realise what its shell needs, say which derivations they are.

Nothing here is trusted by the build init: it runs beside Nix, unprivileged, with the daemon's socket as its only way out.
All limits are those of the stage around it. What Nix prints goes to stderr as it comes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from cutor.nix.inside import store
from cutor.nix.inside.derivation import Derivation, DerivationError
from cutor.nix.inside.files import FilesError

RESULT: Final = Path("/home/result.json")
PROGRESS: Final = Path("/home/progress")
"""A named pipe to the build init, for the eyes of who waits; losing some of it is no harm."""
PIECE_BYTES: Final = 4096
"""What a named pipe takes whole or not at all (pipe(7), PIPE_BUF)."""
EXIT_REFUSED: Final = 1
"""As Nix ends where an evaluation fails: the stage's outcome is the same."""
MAX_OUTPUT_BYTES: Final = 4096
"""Of an evaluation: two store paths as JSON."""
EXPRESSION: Final = """
let
  isDerivation = value: builtins.isAttrs value && value.type or null == "derivation";
  call = value: if !builtins.isFunction value then value
    else value (if (builtins.functionArgs value) ? inNixShell then { inNixShell = true; } else { });
  shell = call (import /box/shell.nix);
  found = builtins.filter isDerivation (
    if isDerivation shell then [ shell ]
    else if builtins.isList shell then shell
    else if builtins.isAttrs shell then builtins.attrValues shell
    else [ ]);
  packages = builtins.tryEval (import <nixpkgs> { });
  set = if packages.success && builtins.isAttrs packages.value then packages.value else { };
in {
  shell = if builtins.length found == 1 then (builtins.head found).drvPath
    else throw "shell.nix must give one derivation, as mkShell does; it gives ${toString (builtins.length found)} (type: ${
      builtins.typeOf shell})";
  tools = (derivation {
    name = "cutor-tools"; system = builtins.currentSystem; builder = "/never/built"; __ignoreNulls = true;
    bash = set.bashInteractive.out or set.bashInteractive or null;
    coreutils = set.coreutils.out or set.coreutils or null;
  }).drvPath;
}
"""
"""What nix-shell evaluates: the shell, with ``inNixShell`` where it takes it, and the package set's interactive bash.
``tools`` is never built: its text names what ``bash``, ``sh`` and ``env`` are taken from."""


def main(options: list[str]) -> int:
    """Evaluate and build with ``options`` of Nix; return how it ended: Nix's exit code or minus its signal where it failed."""
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    evaluation = ("nix-instantiate", "--eval", "--strict", "--json", "--read-write-mode", *options, "--expr", EXPRESSION)
    if code := nix(evaluation, output):
        return code
    paths: dict[str, str] = json.loads(os.pread(output, MAX_OUTPUT_BYTES, 0))
    wanted = sorted({target for path in paths.values() for target in build_targets(store.read_derivation(path))})
    store.check_count(len(wanted))
    for start in range(0, len(wanted), store.BATCH):
        if code := nix(("nix-build", "--no-out-link", *options, *wanted[start : start + store.BATCH]), subprocess.DEVNULL):
            return code
    RESULT.write_text(json.dumps(paths))
    return 0


def nix(command: tuple[str, ...], output: int) -> int:
    """Run a command of Nix, its stdout to the file ``output``; return how it ended. Its stderr is passed on at once.

    Its stdout is never a pipe: one that nobody reads fills up, and stops Nix while this waits for the end of its stderr.
    """
    progress = os.open(PROGRESS, os.O_WRONLY | os.O_NONBLOCK)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while data := os.read(process.stderr.fileno(), PIECE_BYTES):
            os.write(2, data)
            try:
                os.write(progress, data)
            except BlockingIOError:
                continue  # nobody has taken the last piece yet: this one is not shown
    os.close(progress)
    return process.returncode


def build_targets(derivation: Derivation) -> list[str]:
    """Return what nix-build is asked for: every wanted output of the derivation's inputs, as ``PATH.drv!OUTPUT,…``."""
    return [f"{path}!{','.join(names)}" for path, names in derivation.inputs.items() if names]


def run() -> None:
    """Do what `main` does with this process's arguments, and end as it ended: by the same signal, where it was one."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it: this program's own files have the stage's limit too
    try:
        code = main(sys.argv[1:])
    except (DerivationError, FilesError, store.StoreError, store.TooManyPaths, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the stage's stderr
        code = EXIT_REFUSED
    if code < 0:
        with suppress(OSError):  # two signals have no other action
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
