"""The page: whatever the views hold, it is HTML that runs nothing, loads nothing and is not large."""

from __future__ import annotations

import json
import random
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cutor.projections.queries.file import query_file
from cutor.report.facts import Facts, read_facts
from cutor.report.page import render
from cutor.report.question import SECTION_NAMES, Scope, statements
from tests.many_lives import write_views

AT = datetime(2026, 11, 27, tzinfo=UTC)
EMPTY = {name: [] for name in SECTION_NAMES} | {
    "stack": [{"stream": "EVENTS", "sequence": 0, "at_us": None}],
    "scope": [{"submissions": 0, "ended": 0, "ok": 0, "tenants": 0, "first_us": None, "last_us": None}],
}
MOST_BYTES = 500_000
EVERYONE = Scope()
RUNNING = {"script", "iframe", "object", "embed", "form", "base"}
LOADING = {"img", "link", "a", "image", "use", "foreignobject"}
REFERRING = {"href", "src", "srcset", "style", "xlink:href"}
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</title></svg></style><iframe src=//evil.example>",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066",
    "nul \0 bell \x07 escape \x1b[31m",
    "&lt;b&gt; &amp; ]]> <!--",
    "x" * 10_000,
    "\N{ZERO WIDTH JOINER}" * 5_000,
    "\ud800",
)


class Page(HTMLParser):
    """What a browser would make of a page, as far as it matters: its elements, their attributes, its text."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)


def page_of(facts: Facts, *, title: str = "A title", scope: Scope = EVERYONE) -> str:
    return render(facts, scope, title=title, source="nats://localhost", at=AT)


def check(text: str) -> Page:
    """Nothing in it runs or is loaded; every element is closed; names are unique."""
    page = Page(text)
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & (RUNNING | LOADING)
    for _, attributes in page.elements:
        assert not attributes.keys() & REFERRING
        assert not [name for name in attributes if name.startswith("on")]
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    for _, attributes in page.elements:
        assert set((attributes.get("aria-labelledby") or "").split()) <= set(names)
    policies = [attributes["content"] for tag, attributes in page.elements if attributes.get("http-equiv")]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert "url(" not in text
    assert "@import" not in text
    assert len(text.encode()) < MOST_BYTES
    assert not re.search("[\0-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", text)
    return page


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, list[dict[str, object]]]]:
    """The answers about a few hundred lives."""
    path = tmp_path_factory.mktemp("lived") / "views.duckdb"
    write_views(path, 400, begin_ns=1_795_132_800_000_000_000)
    return json.loads(json.dumps(query_file(path, statements(), Scope().parameters())))  # type: ignore[no-any-return]


def test_a_page_of_a_stack_that_did_much(lived: list[dict[str, list[dict[str, object]]]]) -> None:
    page = check(page_of(read_facts(lived)))
    pictures = [attributes for tag, attributes in page.elements if tag == "svg" and attributes.get("role") == "img"]
    assert len(pictures) > 10
    assert all(attributes["aria-labelledby"] for attributes in pictures)
    shown = "".join(page.text)
    for said in ("400", "of 3 tenants", "course = algorithms", "runner-0", "default/s000"):
        assert said in shown


def test_a_page_of_an_empty_stack_says_so() -> None:
    page = check(page_of(read_facts([EMPTY])))
    assert "none was ever handed in" in "".join(page.text)
    assert not [tag for tag, _ in page.elements if tag == "svg"]


def test_a_page_of_nothing_that_was_asked_for_says_what_that_was() -> None:
    shown = "".join(check(page_of(read_facts([EMPTY]), scope=Scope(tenant="lab", labels={"<b>": "\u202e"}))).text)
    assert "there is none of the tenant lab, with <b> = \\u202e" in shown


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_whatever_others_wrote_is_text(lived: list[dict[str, list[dict[str, object]]]], text: str) -> None:
    hostile = [{name: [_replaced(row, text) for row in rows] for name, rows in answer.items()} for answer in lived]
    page = check(page_of(read_facts(hostile), title=text, scope=Scope(tenant=text, labels={text: text})))
    assert len("".join(page.text)) < 200_000


KEPT = {"span", "what", "outcome", "stage", "measure"}
CHOSEN = {"name", "value", "key", "worker", "role", "tenant", "id", "message", "reason", *KEPT}


def _replaced(row: dict[str, object], text: str) -> dict[str, object]:
    """Put a text in the place of each that a sender could have chosen."""
    kept = KEPT if random.Random(str(row)).random() < 0.5 else set()
    return {name: (text if name in CHOSEN - kept and isinstance(value, str) else value) for name, value in row.items()}


def test_small_stacks_have_pages_too(tmp_path: Path) -> None:
    for count in (1, 2, 5):
        path = tmp_path / f"{count}.duckdb"
        write_views(path, count, begin_ns=1_795_132_800_000_000_000, days=0.001, seed=count)
        check(page_of(read_facts(query_file(path, statements(), Scope().parameters()))))
