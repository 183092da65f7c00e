"""The page of the result: its shapes, outcomes and their order, exit codes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, get_args

import msgspec

from cutor import errors
from cutor.cli.field_docs import constant_docs
from cutor.model.content import BodyRef
from cutor.model.events import Output, Stage
from cutor.model.outcome import PRECEDENCE, STAGE_OUTCOMES, SUBMISSION_OUTCOMES, StageOutcome, SubmissionOutcome
from cutor.model.result import Result
from docs.pages.fields import body, docstring, section, shapes, table
from docs.pages.samples import finished

ABOUT: Final = """\
# Result

Made from the types and docstrings in `cutor/model` by `python docs/generate.py`; the example is what its code makes of a
submission's events.

`cutor status --json`, `cutor submit --wait --json` and `Client.result` give this document. It is folded from the
[events](events.md) of a submission at the moment of asking, so that whoever submitted sees what he submitted. Outputs over 64
KiB, which an event only refers to, are in it.
"""

STAGE: Final = """
A stage runs `bash SCRIPT ARGS…` in `/box`, with the captured variables and `HOME=/tmp`. What is judged is how the *script*
ended: where it starts the program as its last command, write `exec ./program "$@"`. Without `exec`, bash turns a program's
signal into its own exit code: a segmentation fault is then `RE` with exit code 139, and a file over its limit `RE` with 153.
The stage's `message` says so. Where cutor or the kernel's OOM killer ended it, there is neither an exit code nor a signal; a
shell that outlives its program still ends by itself.

Of output over its limit the beginning is kept, also after a kill; of that of `dependencies`, which is a log, the end.
[Containers](../explanation/containers.md) says when the kernel does not tell the peak of memory. No wall time in `limits` is
longer than what is left of `bounds.submission_wall_time_ms`.
"""

OUTCOMES: Final = """
What the OOM killer leaves of a stage is ended 50 to 100 ms later. Programs that ignore SIGXFSZ, Python's among them, are no
`FSE`: the write fails, and they end as they please.

Facts decide: wait status, counters of the kernel, cutor's own kills. Nothing that a program prints does.
"""

CANCELLED: Final = """
## After a cancel

What a `CANCELLED` stage printed, took and was limited to comes with `cleaned_at`, a moment after the end: the worker tells it
once it has stopped the program. Where there is nobody to tell (the worker died, or lost its container), and where the worker
had not got as far as the stage, outputs are empty, times null, and `limits` null too: what would have been applied is not in
the log. A build that was stopped between Nix and the shell hook has its limits alone. Test cases that ended before the cancel
keep their results.
"""

EXIT_CODES: Final = """
## Exit codes

What a command ends with: `submit --wait`, `watch` and `status` by the submission's outcome, and with 0 while it has none.

| exit code | meaning |
|---|---|
"""


def page() -> str:
    """Return the page."""
    assert set(STAGE_OUTCOMES) == set(get_args(StageOutcome)) == {*PRECEDENCE, "SKIPPED"}
    assert set(SUBMISSION_OUTCOMES) == set(get_args(SubmissionOutcome))
    lines = [
        *ABOUT.splitlines(),
        "",
        *docstring(Result),
        "",
        *table(Result, whole=True),
        *section(Stage, 2, whole=True),
        *STAGE.splitlines(),
    ]
    for kind in dict.fromkeys(shapes(Result, known=(Stage, BodyRef)) + shapes(Stage, known=(BodyRef,))):
        lines += section(kind, whole=True, leave_out=("body",) if kind is Output else ())
    lines += ["", "## Outcomes of a stage", "", "| outcome | the program … |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in STAGE_OUTCOMES.items()]
    lines += ["", f"Where several hold, the first of this order counts: {', '.join(PRECEDENCE)}.", *OUTCOMES.splitlines()]
    lines += ["", "## Outcomes of a submission", "", "| outcome | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {text} |" for name, text in SUBMISSION_OUTCOMES.items()]
    lines += [
        "",
        "The first test case that is not OK decides.",
        *CANCELLED.splitlines(),
        *EXIT_CODES.splitlines(),
        *_exit_codes(),
    ]
    lines += ["", "## An example", "", *body(msgspec.json.encode(finished()))]
    return "\n".join(lines) + "\n"


def _exit_codes() -> Iterator[str]:
    for name, text in constant_docs(errors).items():
        yield f"| {getattr(errors, name)} | {text} |"
