"""Links to files and directories of the repository that are no pages: the site has a view of each, under ``source/``.

A directory's view lists it, and what is in it has views, too. A link to something that is not there is left to Sphinx, which
warns.
"""

from __future__ import annotations

import html
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from docutils import nodes
from pygments.lexers import get_lexer_for_filename
from pygments.util import ClassNotFound
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

VIEWS: Final = "source/"
BROWSED_AT_MOST: Final = 64
"""Files and directories beneath a linked directory that all have views; of larger ones only some have."""
KEY: Final = "repository"
"""Of a page's metadata: the paths that it links to."""


class RepositoryLinks(SphinxTransform):
    """Turn a page's links to files and directories into links to their views, or to the index page of a directory."""

    default_priority = 210

    def apply(self, **_: Any) -> None:
        """Replace them, and note what is to have a view."""
        page, builder = self.env.current_document.docname, self.app.builder
        noted = self.env.metadata[page].setdefault(KEY, set())
        for link in list(self.document.findall(is_link)):
            name = self.target(link)
            if name is None or not (self.env.srcdir / name).exists():
                continue
            index = next((page for page in (f"{name}/index", f"{name}/README") if page in self.env.found_docs), None)
            if index is None:
                noted.add(name)
            uri = builder.get_relative_uri(page, index or VIEWS + name)
            link.replace_self(nodes.reference("", "", *link.children, refuri=uri, internal=True))

    def target(self, link: nodes.Node) -> str | None:
        """Return the path that a link leads to, from the root; None where that is a page, or out of the repository."""
        if link["refdomain"] == "doc":
            page = link["reftarget"]
            return None if page in self.env.found_docs else f"{page}.md"
        path = os.path.normpath(Path(self.env.current_document.docname).parent / link["reftarget"])
        return None if path.startswith("..") else path


def is_link(node: nodes.Node) -> bool:
    """Tell whether a node is a link of a page to something in the repository."""
    return isinstance(node, (addnodes.pending_xref, addnodes.download_reference)) and node.get("reftype") == "myst"


def views(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the views: name of the page, what its template takes, its template."""
    root, trees = Path(app.srcdir), dict[int, str]()

    def tree(name: str, **options: Any) -> str:
        """Return the navigation. No view is in it, so it is the same at one depth; made for each it takes most of a build."""
        depth = name.count("/")
        if depth not in trees:
            trees[depth] = app.builder._get_local_toctree(VIEWS + name, **options)
        return trees[depth]

    linked = {name for metadata in app.env.metadata.values() for name in metadata.get(KEY, ())}
    inside = {path.relative_to(root).as_posix() for name in linked if (root / name).is_dir() for path in contents(root / name)}
    shown = linked | inside
    shown -= ignored(root, shown)
    for name in sorted(shown):
        path = root / name
        view = listing(app, name, shown) if path.is_dir() else text(app, path)
        body = f'<div class="source"><h1><code>{html.escape(name)}</code></h1>{view}</div>'
        yield VIEWS + name, {"title": name, "body": body, "toctree": partial(tree, name)}, "page.html"


def ignored(root: Path, names: Iterable[str]) -> set[str]:
    """Return what Git leaves out of a repository: credentials of a cluster lie there. Nothing where it is no repository."""
    if (git := shutil.which("git")) is None:
        return set()
    command = [git, "check-ignore", "--stdin", "-z"]
    asked = subprocess.run(command, cwd=root, input="\0".join(names), capture_output=True, text=True, check=False)
    return {name for name in asked.stdout.split("\0") if name}


def contents(directory: Path) -> list[Path]:
    """Return what has a view with a directory: all beneath it, or of a large one the files that it holds itself."""
    beneath = [path for path in directory.rglob("*") if not any(map(is_left_by_a_tool, path.relative_to(directory).parts))]
    return beneath if len(beneath) <= BROWSED_AT_MOST else [path for path in entries(directory) if path.is_file()]


def entries(directory: Path) -> list[Path]:
    """Return what a directory holds, without what tools leave there."""
    return sorted(entry for entry in directory.iterdir() if not is_left_by_a_tool(entry.name))


def is_left_by_a_tool(name: str) -> bool:
    """Tell whether a name is that of a cache, or hidden."""
    return name.startswith((".", "__pycache__"))


def text(app: Sphinx, path: Path) -> str:
    """Return a file as HTML."""
    try:
        language = get_lexer_for_filename(path.name).aliases[0]
    except ClassNotFound:
        language = "text"
    return str(app.builder.highlighter.highlight_block(path.read_text(errors="replace"), language, opts={}, force=True))


def listing(app: Sphinx, name: str, shown: set[str]) -> str:
    """Return a directory as HTML: what has a view is a link."""
    lines = []
    for entry in entries(Path(app.srcdir) / name):
        inner, label = f"{name}/{entry.name}", html.escape(entry.name + "/" * entry.is_dir())
        uri = app.builder.get_relative_uri(VIEWS + name, VIEWS + inner)
        lines.append(
            f'<li><a href="{uri}"><code>{label}</code></a></li>' if inner in shown else f"<li><code>{label}</code></li>"
        )
    return f"<ul>{''.join(lines)}</ul>"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform and the views."""
    app.add_transform(RepositoryLinks)
    app.connect("html-collect-pages", views)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
