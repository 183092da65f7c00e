"""The command line: one module a command, loaded when it is called. Nothing is decided here that a client could not do too."""

from cutor.cli.main import main

__all__ = ["main"]
