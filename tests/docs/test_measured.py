"""The pages of what measures and kills for long: the shortest of each is run, and prints what its page shows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.record import user
from tests.docs.snippets import ROOT, fences, run, script_of

EXPLANATION = ROOT / "docs" / "explanation"


def test_one_point_is_killed_at(tmp_path: Path) -> None:
    """Its table has the columns and the row that the page shows, but for the time."""
    page = EXPLANATION / "faults.md"
    done = run(script_of(page), user(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    printed = [" ".join(line.split()) for line in done.stdout.splitlines()]
    [shown] = [one.text for one in fences(page) if one.kind == "text"]
    for line in shown.splitlines():
        if "---" not in line:
            assert re.sub(r"[\d.]+ s$", "", " ".join(line.split())).strip() in " | ".join(printed), done.stdout


def test_a_short_run_of_performance_is_kept_shown_and_compared(tmp_path: Path) -> None:
    page = EXPLANATION / "performance.md"
    done = run(script_of(page).replace("quick.json", f"{tmp_path}/quick.json"), user(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    measured = re.findall(
        r"^\| (fork\+exec|nsjail|container, [\w']+|cutor(?:, containers reused)?) \|", page.read_text(), re.MULTILINE
    )
    assert len(measured) == 6
    assert [name for name in measured if done.stdout.count(name.partition(",")[0]) < 3] == [], done.stdout


def test_a_short_run_of_scale_is_kept_and_shown(tmp_path: Path) -> None:
    done = run(script_of(EXPLANATION / "scale.md").replace("quick.json", f"{tmp_path}/quick.json"), user(tmp_path))
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert done.stdout.count("1,000") >= 2, done.stdout
