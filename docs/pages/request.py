"""The page of the request: its shapes, their bounds, and what a reader of one may rely on."""

from __future__ import annotations

from typing import Final

from cutor.bus.bodies import MAX_BYTES
from cutor.client.client import REQUEST_JSON_BYTES
from cutor.model.limits import HANDED_TEXT_BYTES, STAGE_KINDS, UNITS, Limit, RequestedLimit, RequestedLimits
from cutor.model.request import File, Request, TestCase
from cutor.model.request_checks import ARG_BYTES, SEGMENT_BYTES
from cutor.model.spill import EVENT_RECORD_BYTES, REFERENCE_BYTES
from cutor.model.subjects import SUBMISSION_ID, TENANT
from docs.pages.fields import docstring, table

ABOUT: Final = f"""\
# Request

Made from the types and docstrings in `cutor/model/request.py` and `cutor/model/limits.py` by `python docs/generate.py`.

One shape in Python, on the command line and on the wire; what comes back is a [result](result.md). An unknown field is refused
with a line that names it. `cutor submit` takes a directory or a JSON document, [`cutor.Client`](python-client.md) also the
types below.

- **A directory** is sent with every regular file in it; a link is refused by name. `submission.toml`, which is not sent, holds
  the other fields: `[[test_cases]]`, `[limits.run]`, `[labels]`, `compare` … Without test cases there it is one with empty
  input.
- **A JSON document**, a file or standard input (`-`), holds everything, and has up to {REQUEST_JSON_BYTES} bytes.

## Fields
"""

PATTERNS: Final = f"""
A tenant is `{TENANT.pattern}`, an id `{SUBMISSION_ID.pattern}`. The same id with another body is refused: see
[what a producer is told](../explanation/delivery.md).
"""

EXAMPLES: Final = """
## The two forms

A request as JSON, for `cutor submit request.json` or for `cutor submit -`:

```json
{
  "files": [
    {"name": "shell.nix", "content": "{ pkgs ? import <nixpkgs> { } }: pkgs.mkShell { packages = [ pkgs.python3 ]; }"},
    {"name": "cutor-run.sh", "content": "exec python3 main.py \\"$@\\"\\n"},
    {"name": "main.py", "content": "import sys\\nprint(sum(map(int, sys.stdin.read().split())) * int(sys.argv[1]))\\n"}
  ],
  "limits": {"run": {"wall_time_ms": 20000, "memory_bytes": 134217728}},
  "test_cases": [
    {"name": "twice", "args": ["2"], "input": "1 2 3\\n", "expected_output": "12"},
    {"name": "bytes", "args": ["3"], "input": "NAo=", "expected_output": "MTIK", "encoding": "base64"}
  ],
  "labels": {"course": "introduction"}
}
```

The same from a directory with `shell.nix`, `cutor-run.sh` and `main.py` in it; its `submission.toml` holds the rest:

```toml
# submission.toml
labels = { course = "introduction" }

[limits.run]
wall_time_ms = 20000
memory_bytes = 134217728

[[test_cases]]
name = "twice"
args = ["2"]
input = "1 2 3\\n"
expected_output = "12"

[[test_cases]]
name = "bytes"
args = ["3"]
input = "NAo="
expected_output = "MTIK"
encoding = "base64"
```
"""

BOUNDS: Final = f"""
## Names, contents, bounds

A name is a relative path with `/`; empty, `.` and `..` segments, NUL and absolute paths are refused, and so is a file that is
also the directory of another. A segment has {SEGMENT_BYTES} bytes at the most. No `input` is an empty standard input; what is
given is delivered to the byte. `base64` is that of RFC 4648 in its one canonical form, without line breaks; `hex` is pairs of
digits and nothing else.

The stack bounds files, test cases, names, arguments, labels and the size of it all; the bounds stand in
[configuration](configuration.md#bounds). More is built in. Contents are stored apart from the event, each of up to {MAX_BYTES}
bytes. Names, arguments, labels and limits stand in the event itself, and may take {EVENT_RECORD_BYTES} bytes of it, as JSON
and with {REFERENCE_BYTES} bytes for every content; names of files may take {HANDED_TEXT_BYTES} bytes of that, and one argument
{ARG_BYTES} bytes, which is what Linux passes to a program. What is large belongs into files and inputs. A bound that is broken
is named with the maximum and its unit.
"""

LIMITS: Final = """
A limit that is left out takes the stack's default; the built-in defaults and maxima stand in
[configuration](configuration.md#limitsstagedefault-and-limitsstagemaximum), how they are chosen and what a busy machine does to
an outcome in [limits](../explanation/limits.md). Zero, a negative number and more than the maximum are refused.

`memory_bytes` is exact to 1 MiB for what a program holds for 0.1 s or longer, in its processes and its files. For moments it
may have up to about 6 MiB more, and the part of `stdout_bytes` and `stderr_bytes` that it has not printed: that is what cutor
keeps room for in the container. So a short run can be OK with a peak over its limit, and limits below about 8 MiB mean little.
`memory_peak_bytes` includes the output that was kept. Where boxes are copied (Linux before 6.6), a box whose files have
several names may not fit; a run then ends as `RE` with exit code 126.

Compile and runs together take no longer than `bounds.submission_wall_time_ms`; the stage that this ends is `TLE_WALL` and says
so.
"""


def page() -> str:
    """Return the page."""
    lines = [*ABOUT.splitlines(), "", *table(Request), *PATTERNS.splitlines()]
    for kind in (File, TestCase):
        lines += ["", f"### {kind.__name__}", "", *docstring(kind), "", *table(kind)]
    lines += [*EXAMPLES.splitlines(), *BOUNDS.splitlines(), "", "## Limits", "", "### RequestedLimits", ""]
    lines += [
        *docstring(RequestedLimits),
        "",
        *table(RequestedLimits),
        "",
        "### RequestedLimit",
        "",
        *docstring(RequestedLimit),
        "",
    ]
    lines += [*table(RequestedLimit, borrowed=Limit), *LIMITS.splitlines()]
    assert RequestedLimit.__struct_fields__ == tuple(UNITS)
    assert RequestedLimits.__struct_fields__ == STAGE_KINDS
    return "\n".join(lines) + "\n"
