"""A report as one page of HTML that needs nothing else: no script, no network, no other file.

Whatever a template prints is escaped twice over: what a reader might obey is made visible, and then it is text in HTML. Only
`Markup`, which the plots are, goes in as it is.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cutor.release import RELEASE
from cutor.report import listings, sections
from cutor.report.facts import Facts
from cutor.report.question import Scope
from cutor.report.words import fit, moment
from cutor.text import cut, escape

TITLE_COLUMNS: Final = 120
"""Most columns of the page's title, and of where the report is from; longer ones are cut."""
CELL_COLUMNS: Final = 400
"""What a template prints of one text at the most, whoever forgot to cut it."""
_TEMPLATES: Final = Path(__file__).with_name("templates")


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _harmless(value: Any) -> Any:
    return cut(escape(value), CELL_COLUMNS) if isinstance(value, str) and not isinstance(value, Markup) else value


def render(facts: Facts, scope: Scope, *, title: str, source: str, at: datetime) -> str:
    """Return the page. ``source`` says whose views were asked, ``at`` when."""
    return (
        _environment()
        .get_template("page.html")
        .render(
            style=Markup((_TEMPLATES / "style.css").read_text()),  # noqa: S704 - a file of ours
            title=fit(title, TITLE_COLUMNS),
            source=fit(source, TITLE_COLUMNS),
            at=f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
            version=RELEASE,
            facts=facts,
            chosen=listings.chosen(scope),
            first=moment(facts.totals.first_us),
            last=moment(facts.totals.last_us),
            left_out=listings.left_out(facts, scope),
            listings=listings,
            sections=sections,
        )
    )
