"""The command line: one module a command, loaded when it is called. Nothing is decided here that a client could not do too."""

import sys

try:
    from cutor.cli.main import main
except KeyboardInterrupt:  # before there is a `main` that hears it
    sys.stderr.write("cutor: interrupted\n")
    sys.exit(130)

__all__ = ["main"]
