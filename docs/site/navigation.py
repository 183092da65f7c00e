"""Navigation: links that begin an item of a list or a row of a table of an index page are its table of contents.

So an index page is plain Markdown, with a line per page, and nothing else lists the pages. The text of a link is the page's
name in the navigation; in the list of decisions, where that is a number, it is the page's title. Index pages are those named
``index.md`` under docs, and that list. Sphinx warns of a page that no index page links to.
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
        listed = dict(filter(None, map(self.listed, self.document.findall(is_first))))
        toctree = addnodes.toctree(
            parent=name,
            entries=[(text, page) for page, text in listed.items()],
            includefiles=list(listed),
            caption=None,
            glob=False,
            hidden=True,
            includehidden=False,
            maxdepth=1,
            numbered=0,
            titlesonly=True,
        )
        self.document[0].append(nodes.compound("", toctree, classes=["toctree-wrapper"]))

    def listed(self, paragraph: nodes.Node) -> tuple[str, str | None] | None:
        """Return the page that an item or a row is about, and its name in the navigation, where that is not its title."""
        first = paragraph.children[0] if paragraph.children else None
        if not (isinstance(first, addnodes.pending_xref) and first["refdomain"] == "doc"):
            return None
        page, text = first["reftarget"], first.astext()
        return (page, None if text.isdecimal() else text) if page in self.env.found_docs else None


def is_first(node: nodes.Node) -> bool:
    """Tell whether a node is the first paragraph of a list's item or of a table's row."""
    if not isinstance(node, nodes.paragraph):
        return False
    holder = node.parent
    if isinstance(holder, nodes.list_item):
        return holder.index(node) == 0
    return isinstance(holder, nodes.entry) and holder.parent.index(holder) == 0


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the transform."""
    app.add_transform(Navigation)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
