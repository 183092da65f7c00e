"""Navigation: links that begin an item of a list or a row of a table of an index page are its table of contents.

So an index page is plain Markdown, with a line per page, and nothing else lists the pages. Index pages are those named
``index.md`` under docs, and the list of decisions. Sphinx warns of a page that no index page links to.
"""

from __future__ import annotations

from typing import Any, Final

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

LISTED_BY_README: Final = "docs/decisions/README"


class Navigation(SphinxTransform):
    """Give index pages a hidden toctree of the pages that they list."""

    default_priority = 200

    def apply(self, **_: Any) -> None:
        """Append the toctree to the document, where it is an index page."""
        name = self.env.current_document.docname
        if not (name == LISTED_BY_README or (name.startswith("docs/") and name.endswith("/index"))):
            return
        pages = list(dict.fromkeys(page for page in map(self.listed, self.document.findall(is_first)) if page))
        pages += sorted(page for page in self.env.found_docs if beside(page, name) and page not in pages)
        toctree = addnodes.toctree(
            parent=name,
            entries=[(None, page) for page in pages],
            includefiles=pages,
            caption=None,
            glob=False,
            hidden=True,
            includehidden=False,
            maxdepth=1,
            numbered=0,
            titlesonly=True,
        )
        self.document[0].append(nodes.compound("", toctree, classes=["toctree-wrapper"]))

    def listed(self, paragraph: nodes.Node) -> str | None:
        """Return the page that a list's item or a table's row is about."""
        first = paragraph.children[0] if paragraph.children else None
        if (
            isinstance(first, addnodes.pending_xref)
            and first["refdomain"] == "doc"
            and first["reftarget"] in self.env.found_docs
        ):
            return str(first["reftarget"])
        return None


def is_first(node: nodes.Node) -> bool:
    """Tell whether a node is the first paragraph of a list's item or of a table's row."""
    if not isinstance(node, nodes.paragraph):
        return False
    holder = node.parent
    if isinstance(holder, nodes.list_item):
        return holder.index(node) == 0
    return isinstance(holder, nodes.entry) and holder.parent.index(holder) == 0


def beside(page: str, index: str) -> bool:
    """Tell whether a page is in the directory of an index page."""
    return page != index and page.rpartition("/")[0] == index.rpartition("/")[0]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(Navigation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
