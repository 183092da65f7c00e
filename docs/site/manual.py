"""``make man``: the page of the command line as a manual page. Its tables become lists, as manual pages have them."""

from __future__ import annotations

from typing import Final

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

HEADINGS: Final = ("Synopsis", "Commands")
"""What stands in front of the first block, the usage, and of the first table, the overview."""


class ManualPage(SphinxPostTransform):
    """Turns the tree of the page into that of a manual page."""

    default_priority = 900
    builders = ("man",)

    def run(self, **_: object) -> None:
        """Put headings in front of usage and overview, leave out who made the page, and make lists of the tables."""
        made_by = next(self.document.findall(nodes.paragraph))
        made_by.parent.remove(made_by)
        firsts = [next(self.document.findall(kind)) for kind in (nodes.literal_block, nodes.table)]
        for title, first in zip(HEADINGS, firsts, strict=True):
            section = nodes.section("", nodes.title("", title))
            first.replace_self(section)
            section += first
        for table in list(self.document.findall(nodes.table)):
            table.replace_self(listed(table))


def listed(table: nodes.table) -> list[nodes.Node]:
    """Return a table of two columns as lists of what each row's first cell is; one whose second is empty begins a list anew."""
    found: list[nodes.Node] = []
    [body] = table.findall(nodes.tbody)
    for row in body.findall(nodes.row):
        name, text = (list(cell.children) for cell in row.children if isinstance(cell, nodes.entry))
        if not text:
            found += name
            continue
        if not found or not isinstance(found[-1], nodes.definition_list):
            found.append(nodes.definition_list())
        terms = [nodes.term("", "", *paragraph.children) for paragraph in name if isinstance(paragraph, nodes.paragraph)]
        found[-1].append(nodes.definition_list_item("", *terms, nodes.definition("", *text)))
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Change the page for the builder of manual pages alone."""
    app.add_post_transform(ManualPage)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
