"""Numbers of things are told by `counted`, and sizes by `about` or `size`: nobody reads "1 messages" or "0.0 MiB"."""

from __future__ import annotations

import re
from pathlib import Path

from cutor.bus.backup_manifest import State
from cutor.cli.projections_rebuild import rate

ROOT = Path(__file__).parents[2]
THINGS = (
    *("submission", "container", "message", "event", "path", "row", "file", "environment", "letter", "segment", "table"),
    *("stream", "line", "time", "lease", "attempt", "snapshot", "mark", "volume", "content", "stage", "package"),
)
NUMBER = re.compile(rf"{{(?![A-Z_]+}})[^{{}}]*}} (?:[a-z]+ )?(?:{'|'.join(THINGS)})s\b(?! already)")
SIZE = re.compile(r"{[^{}]*:,?\.\df} [KMG]iB")
KNOWN = {
    'return f"{escape(at)}: there are {used} such rows, by the streams {folded}"': "two numbers, as text",
    'return UNKNOWN if peak_bytes is None else f"{peak_bytes / MIB:.1f} MiB"': "a column of one unit",
    'return f"{machine.memory_bytes / GIB:.1f} GiB"': "what a machine has",
    'raise TooManySelected(f"more than {SELECTED_AT_MOST:,} submissions are selected: narrow the choice")': "a bound",
}


def test_the_commands_count_by_the_helper() -> None:
    places = [path for part in ("cli", "stack", "operations") for path in (ROOT / "cutor" / part).rglob("*.py")]
    lines = [line.strip() for path in places for line in path.read_text().splitlines()]
    told = [line for line in lines if re.search(r"\bf[\"']", line) and (NUMBER.search(line) or SIZE.search(line))]
    assert len(places) > 100
    assert [line for line in told if line not in KNOWN] == []


def test_the_pattern_finds_what_was_there() -> None:
    for line in (
        'f"{one.name}: {one.messages} messages{last}"',
        'f"{body_bytes / MIB:.1f} MiB"',
        'f"{len(built.closure)} store paths"',
        'f"{rows:,} rows of"',
    ):
        assert NUMBER.search(line) or SIZE.search(line), line


def test_what_is_small_has_its_own_unit() -> None:
    assert rate(1, 1536, None) == "1 event, 1.5 KiB"
    assert rate(2000, 3 << 20, 2.0) == "2,000 events, 3.0 MiB (1,000/s, 1.5 MiB/s)"
    assert str(State(messages=1, first=1, last=1)) == "1 message with sequences 1 to 1"
