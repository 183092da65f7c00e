"""The process of a projector's query service, which can be killed at named points: started by that in place of cutor's own."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2])]

if __name__ == "__main__":
    from cutor.projections.queries.process import main
    from tests.fault import wraps

    wraps.wrap_queries("projector")
    main()
