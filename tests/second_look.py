"""Looks again at the few tests that failed in a run of the whole suite, by themselves: ``python -m tests.second_look STATUS``.

Run by `make test` with the exit status of the first run. What failed stays printed above, with its traceback.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

MOST: Final = 3
"""More tests than these do not all fail by a race."""
LAST_FAILED: Final = Path(".pytest_cache/v/cache/lastfailed")


def main(status: int) -> None:
    """End with ``status``, or become a run of what failed, one test after the other."""
    failed = sorted(json.loads(LAST_FAILED.read_text())) if status == pytest.ExitCode.TESTS_FAILED else []
    if not 0 < len(failed) <= MOST:
        raise SystemExit(status)
    print(f"\nOnce more, by themselves: {len(failed)} that failed beside others. Whichever passes now loses a race: mend it.")
    print(*(f"  {one}" for one in failed), sep="\n", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "pytest", "--last-failed", "--last-failed-no-failures", "none", "-v"])


if __name__ == "__main__":
    main(int(sys.argv[1]))
