"""The diagrams of the docs: those of today's code, each with its picture, fit to be read where it is shown.

No test needs Graphviz: whether a picture is of a diagram, the picture says itself.
"""

import html
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import pytest

from cutor.metrics.statistics import RoleName
from cutor.model.environments import Environment, evolve_environment
from cutor.model.events import Leased, kind_of
from cutor.model.state import TERMINAL, TRANSITIONS
from docs.drawing import components, environments, life, rendering
from docs.drawing.accounts import TENANT, streams, users
from docs.drawing.parts import PARTS, reduced
from docs.pages.samples import LIFE

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"
NAMES = list(rendering.DIAGRAMS)
EDGE = re.compile(r'^\t"?([^"\n]+?)"? -> "?([^"\n]+?)"?(?: \[(.*)\])?$', re.MULTILINE)


def arrows(name: str) -> list[tuple[str, str, str]]:
    """Return the arrows of a diagram, with what is said of each."""
    return [(begin, end, about) for begin, end, about in EDGE.findall(rendering.source(name))]


@pytest.mark.parametrize("name", NAMES)
def test_a_diagram_is_of_todays_code(name: str) -> None:
    assert (rendering.DIRECTORY / f"{name}.dot").read_text() == rendering.source(name), "run `make docs`"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_of_its_diagram(name: str) -> None:
    assert rendering.is_current(name), "run `make docs`, which needs Graphviz (`apt install graphviz`)"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_the_arrows_and_the_words_of_its_diagram(name: str) -> None:
    """A digest says what it was made of, and not that nobody changed it since."""
    picture, dot = ET.parse(rendering.DIRECTORY / f"{name}.svg").getroot(), rendering.source(name)
    words = [word for text in picture.findall(f".//{SVG}text") for word in (text.text or "").split()]
    assert [word for word in words if word not in html.unescape(dot)] == []
    assert len(picture.findall(f".//{SVG}g[@class='edge']")) == len(arrows(name))


def test_there_is_no_other_file_of_them() -> None:
    files = {path.name for path in rendering.DIRECTORY.iterdir()}
    assert files == {f"{name}.{kind}" for name in NAMES for kind in ("dot", "svg")}


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_is_legible(name: str) -> None:
    """On white, as wide as a page, its text as text in fonts that are everywhere, and said in words for who cannot see it."""
    picture = ET.parse(rendering.DIRECTORY / f"{name}.svg").getroot()
    titles = {child.get("id"): child.text for child in picture}
    assert all(titles[found] for found in (picture.get("aria-labelledby") or "").split())
    background = picture.find(f".//{SVG}g[@class='graph']/{SVG}polygon")
    assert background is not None
    assert background.get("fill") == "white"
    texts = picture.findall(f".//{SVG}text")
    assert {text.get("font-family") for text in texts} == {"Helvetica,Arial,sans-serif"}
    assert float((picture.get("width") or "").removesuffix("pt")) < 700
    assert min(float(text.get("font-size") or 0) for text in texts) >= 10


def test_a_picture_of_another_diagram_is_not_current(tmp_path: Path) -> None:
    dot = rendering.source("states")
    (tmp_path / "states.dot").write_text(dot)
    assert not rendering.is_current("states", tmp_path)
    (tmp_path / "states.svg").write_text(rendering.picture("states", dot, "<svg width='1pt'>\n<g/></svg>\n"))
    assert rendering.is_current("states", tmp_path)
    (tmp_path / "states.dot").write_text(dot.replace("PARKED", "LEFT"))
    assert not rendering.is_current("states", tmp_path)


def test_a_machine_without_graphviz_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "states.dot").write_text(rendering.source("states"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(rendering.GraphvizMissing, match="apt install graphviz"):
        rendering.lay_out("states", tmp_path)


def test_pictures_that_are_current_need_no_graphviz(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docs.drawing"]
    done = subprocess.run(command, cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# -- what they show ----------------------------------------------------------------------------------------------------


def test_the_components_show_the_imports_and_every_role() -> None:
    dot = rendering.source("components").replace(components.NO_BREAK, " ")
    shown = {(begin, end) for begin, end, about in arrows("components") if "dashed" not in about}
    assert shown == reduced()
    assert {*get_args(RoleName)} <= {role for part in PARTS for role in part.runs}
    assert all(role in dot for part in PARTS for role in part.runs)


def test_the_states_show_every_transition() -> None:
    """Those that all states share by one arrow from the frame around them."""
    shown = set[tuple[str | None, str, str]]()
    passing = [status for status in set(TRANSITIONS.values()) if status not in TERMINAL]
    for begin, end, about in arrows("states"):
        found = re.search(r'label="?([^"\]]*?)"?(?: ltail=.*)?$', about)
        assert found
        befores = passing if "ltail" in about else [None if begin == "begin" else begin]
        shown |= {(before, event, end) for before in befores for event in map(str.strip, found[1].split("\\n"))}
    kept = {(before, event, after) for (before, event), after in TRANSITIONS.items() if before in TERMINAL}
    assert kept == {(status, "cleaned", status) for status in TERMINAL}
    assert shown == {(before, event, after) for (before, event), after in TRANSITIONS.items()} - kept


def test_the_environments_show_every_kind_of_event_that_changes_a_state() -> None:
    """Pins change none; so they are not drawn, and that is so from each state."""
    drawn = {kind for events in environments.transitions().values() for kind in events}
    assert drawn == {"env-building", "env-built", "env-removed"}
    assert {event.__struct_config__.tag for event in environments.EVENTS.values()} == set(environments.EVENTS)
    unpinned = evolve_environment(Environment(key="k"), environments.EVENTS["env-unpinned"], 1)
    assert environments.state_of(unpinned) == environments.state_of(Environment(key="k"))


def test_the_life_shows_who_appends_what_and_whom_it_is_delivered_to() -> None:
    """In the order of the example, whose events are folded without a stray."""
    told = life.arrows()
    events = [(arrow.begin, arrow.text) for arrow in told if arrow.what == "event"]
    assert [kind for _, kind in events] == [kind_of(event) for event in LIFE]
    allowed = {user.name: {subject.rpartition(".")[2] for subject in user.publishes} for user in users()}
    assert [(who, kind) for who, kind in events if kind not in allowed[who]] == []
    begins = {event.lease.role for event in LIFE if isinstance(event, Leased)}
    assert begins == {who for who, kind in events if kind == "leased"} == {"builder", "runner"}
    deliveries = [(arrow.end, arrow.text) for arrow in told if arrow.what == "delivery"]
    assert deliveries == [("builder", "delivery of submitted"), ("runner", "delivery of cache-built")]
    statuses = [arrow.status for arrow in told if arrow.status]
    assert statuses == ["SUBMITTED", "DEPENDENCIES_INSTALLED", "COMPILED", "FINISHED"]
    assert [arrow.begin for arrow in told if arrow.text == "acknowledges"] == ["builder", "runner"]
    assert {arrow.end for arrow in told} == {"EVENTS", "builder", "runner", "producer", "projector"}


def test_the_life_draws_every_arrow_once_with_its_text() -> None:
    dot, told = rendering.source("life"), life.arrows()
    drawn = [(begin, end) for begin, end, _ in arrows("life") if not end.endswith(" ends")]
    assert drawn == [(f"{row} {arrow.begin}", f"{row} {arrow.end}") for row, arrow in enumerate(told, start=1)]
    assert all(f">{arrow.text}<" in dot for arrow in told)


def test_a_life_that_a_user_may_not_append_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    only = [user for user in users() if user.name != "runner"]
    monkeypatch.setattr(life, "users", lambda: only)
    with pytest.raises(AssertionError):
        life.arrows()


def test_the_flow_shows_who_appends_and_who_takes() -> None:
    pairs = {(begin, end) for begin, end, _ in arrows("flow")}
    consumers = {consumer.name for consumer in streams()[0].consumers}
    assert consumers == {f"builder-{TENANT}", f"runner-{TENANT}"}
    assert {(consumer, consumer.partition("-")[0]) for consumer in consumers} <= pairs
    appending = {user.name for user in users() if user.publishes_into(streams()[0])}
    assert appending == {"producer", "operator", "builder", "runner"}
    assert {begin for begin, end in pairs if end == "EVENTS"} == {"producer", "operator"}
    assert {end for begin, end in pairs if begin == "EVENTS"} == consumers | {"builder", "runner", "projector", "archiver"}
