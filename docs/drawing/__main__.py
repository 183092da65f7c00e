"""``python -m docs.drawing``: have ``dot`` lay out the diagrams whose DOT is another than that of their picture."""

import sys

from docs.drawing.rendering import DIAGRAMS, GraphvizMissing, is_current, lay_out


def main() -> int:
    """Lay out what is not current. Exit code 3: Graphviz is missing, which one line says."""
    try:
        for name in DIAGRAMS:
            if not is_current(name):
                lay_out(name)
    except GraphvizMissing as error:
        print(error, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
