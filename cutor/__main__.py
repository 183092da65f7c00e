"""``python -m cutor``: the command line."""

from cutor.cli import main

main()
