"""Starting in the background: the report of the process, or what can be known of one that made none."""

import sys
from pathlib import Path

from cutor.stack.detach import Report, start_detached

REPORTS = """
import os, sys, time
from cutor.stack.detach import Report, report
print("into the log", flush=True)
report(int(sys.argv[-1]), Report(line="ready: " + os.getcwd() + f" {os.getsid(0) == os.getpid()}", exit_code=0))
"""


def test_the_report_of_a_process_away_from_terminal_and_directory(tmp_path: Path) -> None:
    said = start_detached([sys.executable, "-c", REPORTS], tmp_path / "log")
    assert said == Report(line="ready: / True", exit_code=0)
    assert (tmp_path / "log").read_text() == "into the log\n"


def test_one_that_reports_a_failure_is_gone_when_that_is_said(tmp_path: Path) -> None:
    program = f"""
import pathlib, sys, time
from cutor.stack.detach import Report, report
report(int(sys.argv[-1]), Report(line="no", exit_code=3))
time.sleep(0.3)
pathlib.Path({str(tmp_path / "ended")!r}).touch()
"""
    assert start_detached([sys.executable, "-c", program], tmp_path / "log") == Report(line="no", exit_code=3)
    assert (tmp_path / "ended").exists()


def test_a_process_that_ends_without_a_report_is_described_by_its_log(tmp_path: Path) -> None:
    program = "print('first'); print('the \\x1b[31mreason'); raise SystemExit(9)"
    said = start_detached([sys.executable, "-c", program], tmp_path / "log")
    assert said.exit_code == 3
    assert said.line.startswith("the stack ended with 9 while it started")
    assert said.line.endswith(": first | the \\x1b[31mreason")
    assert "\n" not in said.line
