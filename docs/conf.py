"""The docs site: ``make docs`` builds it with Sphinx, and every warning is an error (decision 0061).

The source directory is the repository itself, so that README, CONTRIBUTING and CHANGELOG are pages and links between pages are
the same in the repository and in the site.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "site"))

project = "cutor"
html_title = "cutor"
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "build", "dist", "cutor", "deploy", "examples", "tests"]

extensions = ["myst_parser", "sphinx_copybutton", "navigation", "repository", "terms"]
myst_heading_anchors = 4
nitpicky = True
highlight_language = "text"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["cutor.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
html_additional_pages = {"index": "start.html"}
templates_path = ["site/templates"]
copybutton_selector = "div:not(.highlight-text) > div.highlight > pre"
copybutton_prompt_text = "$ "
copybutton_only_copy_prompt_lines = True
