"""Headings of the third level in the glossary are terms: ``{term}`` and the index of the site know them.

A term may have several names, with commas between: each is one. Pages link to a term as to any heading
(``glossary.md#lease``), which the repository shows, too.
"""

from __future__ import annotations

from typing import Final

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.domains.std import StandardDomain

PAGE: Final = "docs/glossary"
LEVEL: Final = 3


def terms(document: nodes.document) -> list[tuple[str, nodes.section]]:
    """Return the names of the terms, each with the section that says what it is."""
    sections = [one for one in document.findall(nodes.section) if level(one) == LEVEL]
    return [(name, one) for one in sections for name in one[0].astext().split(", ")]


def level(section: nodes.Node) -> int:
    """Return the level of a section's heading."""
    return 1 + (level(section.parent) if isinstance(section.parent, nodes.section) else 0)


def note_terms(app: Sphinx, document: nodes.document) -> None:
    """Give the terms of the glossary to Sphinx."""
    page = app.env.current_document.docname
    if page != PAGE:
        return
    domain = app.env.get_domain("std")
    assert isinstance(domain, StandardDomain)
    for name, section in terms(document):
        [anchor, *_] = section["ids"]
        domain._note_term(name, anchor, location=section)  # there is no public way beside a directive
        section.insert(1, addnodes.index(entries=[("single", name, anchor, "main", None)]))


def setup(app: Sphinx) -> dict[str, bool]:
    """Read the terms with the page."""
    app.connect("doctree-read", note_terms)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
