"""The docs site: ``make docs`` builds it with Sphinx, and every warning is an error (decision 0061).

The source directory is the repository itself, so that README, CONTRIBUTING and CHANGELOG are pages and links between pages are
the same in the repository and in the site.
"""

import re
import sys
from pathlib import Path

from cutor.release import RELEASE

sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "cutor"
version = release = RELEASE
html_title = "cutor"
changelog = Path(__file__).parents[1] / "CHANGELOG.md"
released = re.findall(r"^## \[\d.*\] - (\S+)$", changelog.read_text() if changelog.exists() else "", re.MULTILINE)
today = released[0] if released else "unreleased"  # in the head of the manual page
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "cutor", "deploy", "examples", "tests"]

extensions = ["myst_parser", "sphinx_copybutton", "manual", "navigation", "repository", "terms"]
myst_heading_anchors = 4
nitpicky = True
smartquotes_action = "qe"  # no dash is made of what an option begins with
highlight_language = "text"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["cutor.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_additional_pages = {"index": "start.html", "404": "missing.html"}  # the latter is for a server, at any depth
templates_path = ["site/templates"]
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True

man_pages = [("docs/reference/cli", "cutor", "run programs that others wrote, and keep every step of it", "", 1)]
