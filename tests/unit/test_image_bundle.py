"""The one file that an init is started from: made and run by programs of their own, as in the image."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

BUNDLE: Final = Path(__file__).parents[2] / "cutor/setup/image/bundle.py"
FILES: Final = {
    "probe/__init__.py": "",
    "probe/deep/__init__.py": "",
    "probe/deep/part.py": "import sys\nNAMES = [n for n in sys.modules if n.startswith('probe')]\n",
    "probe/start.py": (
        "import gc, sys\nfrom probe.deep import part\n"
        "def main():\n"
        "    print(sys.argv[1:], part.NAMES, gc.isenabled(), flush=True)\n"
        "    1 / 0\n"
    ),
}


def test_a_bundle_runs_without_the_files_that_it_was_made_of(tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_text(text)
    bundle = tmp_path / "start.pyc"
    variables = {**os.environ, "PYTHONPATH": str(tmp_path / "source")}
    subprocess.run([sys.executable, "-S", BUNDLE, "probe.start", bundle], env=variables, check=True)
    shutil.rmtree(tmp_path / "source")
    ran = subprocess.run([sys.executable, "-I", "-S", bundle, "policy"], capture_output=True, text=True, check=False)
    assert ran.stdout == "['policy'] ['probe', 'probe.start', 'probe.deep', 'probe.deep.part'] True\n"
    assert "part.NAMES" not in ran.stderr
    assert 'source/probe/start.py", line 5, in main' in ran.stderr  # what went wrong can be told by its line
    assert ran.returncode == 1
