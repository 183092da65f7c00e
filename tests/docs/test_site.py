"""The site of the docs is built without a warning, every link in it leads somewhere, and it needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from cutor.cli.main import COMMANDS
from cutor.release import RELEASE

ROOT = Path(__file__).parents[2]

LOADED = {("link", "href"), ("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("object", "data")}
"""What a browser fetches by itself when it shows a page."""


@dataclass
class Page(HTMLParser):
    """Links, loaded resources and anchors of a page."""

    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) == ("a", "href"):
                self.links.append(value or "")
            elif (tag, name) in LOADED:
                self.loaded.append(value or "")


@cache
def page(path: Path) -> Page:
    found = Page()
    found.feed(path.read_text())
    return found


def built(source: Path, site: Path, builder: str = "html") -> subprocess.CompletedProcess[str]:
    """Build a site as `make docs` does, or with the builder `man` the manual page as `make man` does."""
    command = [sys.executable, "-m", "sphinx", "-b", builder, "-c", str(source / "docs"), "-d", str(site.parent / "doctrees")]
    options = ["--jobs", "auto", "--fail-on-warning", "--keep-going", "--quiet"]
    return subprocess.run([*command, *options, str(source), str(site)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("docs") / "site"
    done = built(ROOT, site)
    assert done.returncode == 0, done.stderr
    return site


def pages(site: Path) -> Iterator[tuple[Path, Page]]:
    for path in sorted(site.rglob("*.html")):
        yield path, page(path)


def test_every_page_of_the_docs_is_in_the_site(site: Path) -> None:
    sources = [path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]]
    assert len(sources) > 100
    assert [str(path) for path in sources if not (site / path.with_suffix(".html")).exists()] == []


def broken(path: Path, link: str, site: Path) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    begin = site if parts.path.startswith("/") else path.parent
    target = path if not parts.path else (begin / unquote(parts.path).removeprefix("/")).resolve()
    if not target.is_file():
        return True
    return bool(parts.fragment) and target.suffix == ".html" and unquote(parts.fragment) not in page(target).anchors


def test_no_link_is_broken(site: Path) -> None:
    links = {(path, link) for path, found in pages(site) for link in found.links}
    assert len(links) > 1000
    assert sorted(f"{path.relative_to(site)}: {link}" for path, link in links if broken(path, link, site)) == []


def test_a_page_that_is_not_there_is_said_in_a_page_that_needs_no_other_file(site: Path) -> None:
    """A server shows it under any address, so what it fetched by a relative one would be missing, too."""
    missing = page(site / "404.html")
    assert missing.loaded == []
    assert {"/docs/index.html", "/search.html"} <= set(missing.links)
    assert all(link.startswith("/") for link in missing.links)


def test_every_page_has_a_title_of_its_own(site: Path) -> None:
    titles = {path: re.findall(r"<title>(.*?)</title>", path.read_text())[:1] for path, _ in pages(site)}
    named = {path: found[0] for path, found in titles.items() if path.relative_to(site).parts[0] == "docs"}
    assert len(named) > 100
    assert sorted({name for name in named.values() if list(named.values()).count(name) > 1}) == []
    assert [path for path, found in titles.items() if not found or not found[0].strip()] == []


def test_search_needs_no_server(site: Path) -> None:
    """A browser opens files without a server, and fetches none of them by a script: so the index is a script itself."""
    assert (site / "searchindex.js").read_text().startswith("Search.setIndex(")
    assert any(link.startswith("searchindex.js") for link in page(site / "search.html").loaded)
    terms = (site / "searchindex.js").read_text()
    assert [word for word in ("leas", "jail", "tenant", "rejudg") if f'"{word}' not in terms] == []


def test_links_to_sources_lead_to_a_view_of_them(site: Path) -> None:
    view = (site / "source/cutor/model/state.py.html").read_text()
    assert "TRANSITIONS" in view
    listing = page(site / "source/cutor/model.html")
    assert "model/state.py.html" in listing.links
    assert "source/cutor/model.html" in page(site / "CONTRIBUTING.html").links
    assert (site / "source/examples/c-primes/cutor-run.sh.html").exists(), "all beneath a directory, where it is not large"


def test_a_browser_fetches_nothing_from_elsewhere(site: Path) -> None:
    loaded = {(path, urlsplit(link)) for path, found in pages(site) for link in found.loaded}
    assert loaded
    assert {path.name for path, parts in loaded if parts.scheme not in {"", "data"} or parts.netloc} == set()
    styles = [
        path for path in site.rglob("*.css") if any(word in path.read_text() for word in ("url(http", "url(//", "@import"))
    ]
    assert styles == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a page](gone.md)", "gone.md"),
        ("[an anchor](docs/index.md#gone)", "gone"),
        ("[a file](cutor/gone.py)", "cutor/gone.py"),
        ("[a directory](cutor/gone/)", "cutor/gone"),
    ],
)
def test_a_broken_link_fails_the_build(tmp_path: Path, text: str, said: str) -> None:
    source = small(tmp_path, text)
    done = built(source, tmp_path / "site")
    assert done.returncode != 0
    assert said in done.stderr


def test_a_page_that_no_index_lists_fails_the_build(tmp_path: Path) -> None:
    source = small(tmp_path, "[the start](docs/index.md), [a file](file.txt), [a directory](part)")
    assert built(source, tmp_path / "site").returncode == 0
    (source / "alone.md").write_text("# Alone\n")
    done = built(source, tmp_path / "site")
    assert done.returncode != 0
    assert "alone.md: WARNING: document isn't included in any toctree" in done.stderr


def test_what_git_ignores_has_no_view(tmp_path: Path) -> None:
    """A checkout in which somebody started a cluster has its passwords in a directory that pages lead to."""
    source = small(tmp_path, "[the start](docs/index.md), [a file](file.txt), [a directory](part)")
    subprocess.run(["git", "init", "--quiet", source], check=True)
    (source / "part/.gitignore").write_text("/secrets/\n")
    (source / "part/secrets").mkdir()
    (source / "part/secrets/admin.url").write_text("password\n")
    done = built(source, tmp_path / "site")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/source/part/inside.txt.html").exists()
    assert [path for path in (tmp_path / "site").rglob("*.html") if "password" in path.read_text()] == []


def test_terms_of_the_glossary_can_be_referred_to(tmp_path: Path) -> None:
    source = small(tmp_path, "A {term}`lease`.")
    (source / "docs/index.md").write_text("# Start\n\n- [Second](../second.md)\n- [Glossary](glossary.md)\n")
    (source / "docs/glossary.md").write_text("# Glossary\n\n## Who works\n\n### lease\n\nA right.\n")
    assert built(source, tmp_path / "site").returncode == 0
    assert "docs/glossary.html#lease" in page(tmp_path / "site/second.html").links
    (source / "second.md").write_text("# Second\n\nA {term}`release`.\n")
    assert "release" in built(source, tmp_path / "site").stderr


def test_options_begin_with_two_hyphens(site: Path) -> None:
    text = (site / "docs/reference/cli.html").read_text()
    assert "--purge lists" in text
    assert re.findall(r"(?<!\w)[\u2013\u2014][a-z]+", text) == []


def test_the_manual_page_has_every_command_with_its_options_and_examples(tmp_path: Path) -> None:
    done = built(ROOT, tmp_path / "man", "man")
    assert done.returncode == 0, done.stderr
    manual = (tmp_path / "man/cutor.1").read_text()
    assert RELEASE in manual.partition("\n.SH ")[0]
    headings = re.findall(r'^\.S[HS] "?([^"\n]+)"?$', manual, re.MULTILINE)
    assert [one.lower() for one in headings[:5]] == ["name", "synopsis", "commands", "options of every command", "exit codes"]
    assert {f"cutor {name}" for name in COMMANDS} <= {one.lower() for one in headings}
    assert ".TS" not in manual, "tables are lists"
    assert "Made by" not in manual
    assert (ROOT / "cutor/cli/cutor.1").read_text() == manual, "run `make man`: the package brings this file along"
    assert r"\-\-refresh" in manual
    assert "cutor setup               # the second time takes half a second" in manual.replace("\\", "")


def small(directory: Path, text: str) -> Path:
    """Make a repository of two pages, built with the settings of ours; the second one has a text."""
    source = directory / "repository"
    (source / "docs").mkdir(parents=True)
    for name in ("conf.py", "site", "_static"):
        (source / "docs" / name).symlink_to(ROOT / "docs" / name)
    (source / "part").mkdir()
    (source / "part/inside.txt").write_text("inside\n")
    (source / "file.txt").write_text("text\n")
    (source / "docs/index.md").write_text("# Start\n\n- [Second](../second.md)\n")
    (source / "second.md").write_text(f"# Second\n\n{text}\n")
    return source
