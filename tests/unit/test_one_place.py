"""Who adds an event, a stage, a limit, a view, a metric or a setting changes one place; of others, tests and mypy tell.

The page is docs/explanation/architecture.md, "Where to change what". A message that fails here names the file to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import yaml

from cutor.bus import topology_promises
from cutor.jail.inside import measure
from cutor.jail.inside.protocol import CHANGING
from cutor.metrics import table
from cutor.model.environments import EnvironmentEvent
from cutor.model.events import EVENT_TYPES, KINDS, TERMINAL_KINDS, Event, Interrupted, Parked, Stage, Submitted, Terminal
from cutor.model.limit_settings import LimitsSettings
from cutor.model.limits import (
    DEFAULT_LIMITS,
    LIMIT_WORDS,
    STAGE_KINDS,
    UNITS,
    JailedStage,
    Limit,
    LimitPolicies,
    RequestedLimit,
    RequestedLimits,
    StageKind,
    of_stage,
)
from cutor.model.outcome import StageOutcome
from cutor.model.reported import reported
from cutor.model.result import Result
from cutor.model.stages import LIMIT_OF_OUTCOME
from cutor.model.state import CHANGES, STEP_OF_ROLE, TERMINAL, TRANSITIONS, Submission
from cutor.model.subjects import EVENTS
from cutor.projections.folds import incoming
from cutor.projections.folds.small_batch import StageRow
from cutor.projections.schema import SQL, TABLES, fold_statements, session_script
from docs.pages.views import VIEWS
from tests.integration.test_limits import CASES, HOOKS
from tests.property.submission_histories import OF_TYPE

ROOT = Path(__file__).parents[2]
CUTOR = ROOT / "cutor"
ACCOUNTS = "deploy/nats/cluster/accounts.conf"


def kind(event_type: Any) -> str:
    return str(event_type.__struct_config__.tag)


def of_transition(name: str) -> str:
    """Return the kind of an event by its name in TRANSITIONS: ``leased(runner)`` is one of ``leased``."""
    return name.partition("(")[0]


def same(found: Iterable[Any], wanted: Iterable[Any], where: str) -> None:
    """Hold what a place has against what it must have; what differs is told with the place."""
    left, right = set(found), set(wanted)
    assert left == right, f"{where}: missing {sorted(map(str, right - left))}, too much {sorted(map(str, left - right))}"


# -- an event of a submission: `Event` in cutor/model/events.py ------------------------------------------------------------


def test_each_event_has_its_transition_and_nothing_else_has_one() -> None:
    same({of_transition(name) for _, name in TRANSITIONS}, KINDS, "cutor/model/state.py: TRANSITIONS")


def test_each_event_but_the_first_says_what_it_changes() -> None:
    same(CHANGES, {*EVENT_TYPES} - {Submitted}, "cutor/model/state.py: CHANGES")


def test_those_that_end_a_submission_lead_to_an_end_and_no_other_does() -> None:
    ends = {
        of_transition(name) for (before, name), after in TRANSITIONS.items() if after in TERMINAL and before not in TERMINAL
    }
    same(TERMINAL_KINDS, ends, "cutor/model/events.py: Terminal")
    same(map(kind, get_args(Terminal)), TERMINAL_KINDS, "cutor/model/events.py: Terminal")


def test_each_event_is_read_for_the_fold() -> None:
    same(incoming.READERS, KINDS, "cutor/projections/folds/incoming.py: READERS")


def test_each_event_is_drawn_where_sql_is_held_against_evolve() -> None:
    """What SQL makes of an event cannot follow from Python: the property tests compare them, on histories with all events."""
    same(OF_TYPE, EVENT_TYPES, "tests/property/submission_histories.py: OF_TYPE")


NEEDS_NO_SQL: dict[str, str] = {}
"""Kinds that no statement of the fold names, each with the reason."""


def test_each_event_stands_in_the_sql_of_the_fold_or_has_a_reason() -> None:
    scripts = (session_script(), *(statement.sql for statement in fold_statements(EVENTS)))
    text = re.sub(r"--.*", "", "".join(scripts))
    named = {of_transition(name) for name in re.findall(r"'([a-z()-]+)'", text)}
    same(named & {*KINDS}, {*KINDS} - {*NEEDS_NO_SQL}, "cutor/projections/sql/session.sql, and fold/*.sql")


NO_TURN = {"cache-lost": "the way begins anew"}
"""Kinds that a submission on its usual way does not have, each with the reason."""


def test_each_event_has_its_turn_on_the_usual_way_or_a_reason() -> None:
    """A submission with another event is folded event by event: right, and several times as slow."""
    turns = (SQL / "fold/1_lives.sql").read_text().partition("END AS turn")[0]
    named = {of_transition(name) for name in re.findall(r"'([a-z()-]+)'", re.sub(r"--.*|lease_role = '\w+'", "", turns))}
    same(named, {*KINDS} - {*NO_TURN}, "cutor/projections/sql/fold/1_lives.sql: turns")


def test_what_statements_of_the_fold_are_for_are_events_or_what_others_find() -> None:
    """A kind that is spelled otherwise in ``-- when:``, or is missing there, leaves its statement out of a batch."""
    statements = fold_statements(EVENTS)
    finding = "".join(statement.sql for statement in statements if statement.finds)
    found = {name for names in re.findall(r"^-- finds: (.*)$", finding, re.MULTILINE) for name in names.split()}
    same(
        {name for statement in statements for name in statement.wanted} - {*KINDS},
        found,
        "cutor/projections/sql/fold: -- when:",
    )
    with_stages = frozenset(kind(event_type) for event_type in EVENT_TYPES if stage_fields(event_type))
    for kinds in (with_stages, TERMINAL_KINDS):
        assert any(statement.wanted == kinds for statement in statements), f"fold/6_stages.sql: no -- when: {sorted(kinds)}"


def test_whom_an_event_calls_is_one_truth() -> None:
    """The consumers of a role are for the events that lead to its step from outside of it."""
    for role, steps in STEP_OF_ROLE.items():
        calls = [name for (before, name), after in TRANSITIONS.items() if after in steps and before not in steps]
        same(topology_promises.ROLES[role], calls, "cutor/bus/topology_promises.py: ROLES")
        consumers = yaml.safe_load((ROOT / "streams.yaml").read_text())["streams"]["EVENTS"]["consumers"]
        filters = {one.rpartition(".")[2] for one in consumers[f"{role}-{{tenant}}"]["filter_subjects"]}
        same(filters, calls, f"streams.yaml: {role}-{{tenant}}")


def test_somebody_may_publish_each_event() -> None:
    accounts = (ROOT / ACCOUNTS).read_text()
    allowed = {
        name
        for block in re.findall(r"publish \{(.*?)\]", accounts, re.DOTALL)
        for name in re.findall(r"cutor\.ev\.\*\.\*\.([a-z-]+)", block)
    }
    same(allowed, KINDS, ACCOUNTS)


def example(event_type: type[msgspec.Struct]) -> Any:
    """Return an event of a golden file."""
    from cutor.model.codec import decode

    return decode((ROOT / f"tests/golden/{kind(event_type)}.v1.json").read_bytes())


def holds_stages(shape: Any) -> bool:
    """Return whether a field of a type, or of one within it, is a stage or several."""
    if shape is Stage:
        return True
    if isinstance(shape, type) and issubclass(shape, msgspec.Struct):
        return any(holds_stages(field.type) for field in msgspec.structs.fields(shape))
    return any(map(holds_stages, get_args(shape)))


def stage_fields(shape: type[msgspec.Struct]) -> set[str]:
    return {field.name for field in msgspec.structs.fields(shape) if holds_stages(field.type)}


ONE = Stage(outcome="OK")
IN_FIELD = {"interrupted": Interrupted(stage="run", stages=(ONE,)), "stages": (ONE,)}


@pytest.mark.parametrize("event_type", EVENT_TYPES, ids=kind)
def test_stages_that_an_event_has_room_for_are_reported(event_type: type[Event]) -> None:
    fields = stage_fields(event_type)
    told = reported(msgspec.structs.replace(example(event_type), **{name: IN_FIELD.get(name, ONE) for name in fields}))
    assert (told is not None and told.stages == (ONE,)) == bool(fields), f"cutor/model/reported.py: {event_type}"


# -- a kind of stage: `StageKind` in cutor/model/limits.py ------------------------------------------------------------------


@pytest.mark.parametrize("shape", [RequestedLimits, LimitPolicies, LimitsSettings], ids=lambda shape: str(shape.__name__))
def test_each_stage_has_its_limits(shape: type[msgspec.Struct]) -> None:
    assert shape.__struct_fields__ == STAGE_KINDS, f"{shape.__module__}: {shape.__name__}"


def test_each_stage_stands_in_a_result() -> None:
    same(stage_fields(Result), STAGE_KINDS, "cutor/model/result.py: Result")
    same(
        {name if name in STAGE_KINDS else name.removesuffix("s") for name in stage_fields(Submission)},
        STAGE_KINDS,
        "cutor/model/state.py: Submission",
    )


def test_each_stage_stands_in_the_sql_of_the_fold() -> None:
    text = (SQL / "fold/6_stages.sql").read_text()
    same((name for name in STAGE_KINDS if f"'{name}'" in text), STAGE_KINDS, "cutor/projections/sql/fold/6_stages.sql")


def test_the_stage_whose_changes_to_the_box_stay_is_one_of_a_runners() -> None:
    """By another name every stage would have a box that is thrown away, and no run what was compiled."""
    assert CHANGING in get_args(JailedStage), "cutor/jail/inside/protocol.py: CHANGING"


def test_each_stage_and_limit_is_explained() -> None:
    for page in ("docs/reference/request.md", "docs/explanation/limits.md"):
        text = (ROOT / page).read_text()
        same((name for name in STAGE_KINDS if f"`{name}`" in text), STAGE_KINDS, page)
    text = (ROOT / "docs/reference/request.md").read_text()
    same((name for name in UNITS if f"`{name}`" in text), UNITS, "docs/reference/request.md")


# -- a limit: `Limit` in cutor/model/limits.py ---------------------------------------------------------------------------


def test_each_limit_can_be_asked_for_and_has_a_unit() -> None:
    assert tuple(UNITS) == tuple(LIMIT_WORDS) == Limit.__struct_fields__
    assert RequestedLimit.__struct_fields__ == Limit.__struct_fields__, "cutor/model/limits.py: RequestedLimit"


def test_each_limit_is_known_where_it_is_enforced() -> None:
    same(measure.Limits._fields, Limit.__struct_fields__, "cutor/jail/inside/measure.py: Limits")


@pytest.mark.parametrize("kind", STAGE_KINDS)
def test_each_limit_has_a_default_and_a_maximum(kind: StageKind) -> None:
    """A limit that events from before it do not have is null in them, and so it would be here, where it is left out."""
    policy = of_stage(DEFAULT_LIMITS, kind)
    for numbers in (policy.default, policy.maximum):
        without = [name for name in UNITS if not isinstance(getattr(numbers, name), int)]
        assert not without, f"cutor/model/limits.py: DEFAULT_LIMITS.{kind}: {without}"


def test_each_limit_is_tried_by_a_program_that_keeps_to_it_and_one_that_does_not() -> None:
    same((case.limit for case in CASES), UNITS, "tests/integration/test_limits.py: CASES")
    same((case.limit for case in HOOKS), UNITS, "tests/integration/test_limits.py: HOOKS")


def test_why_each_limit_has_its_defaults_is_explained() -> None:
    heads = [row[0] for row in rows("Where the defaults come from", (ROOT / "docs/explanation/limits.md").read_text())]
    same((word for head in heads for word in head.split(", ")), LIMIT_WORDS.values(), "docs/explanation/limits.md")


@pytest.mark.parametrize("name", Limit.__struct_fields__)
def test_each_limit_is_enforced_somewhere(name: str) -> None:
    """A limit that is carried around and never looked at holds nobody."""
    used = [
        path
        for part in ("jail", "nix", "containers", "roles")
        for path in (CUTOR / part).rglob("*.py")
        if f".{name}" in path.read_text()
    ]
    assert used, f"limits.{name}: cutor/jail/inside/measure.py, or whatever holds a stage to it"


@pytest.mark.parametrize("script", ["tables/stages.sql", "small/stages.sql"])
def test_each_limit_is_a_column_in_the_order_of_rows(script: str) -> None:
    text = (SQL / script).read_text()
    struct = (
        text.partition("STRUCT (")[2].partition(")")[0]
        if script.startswith("tables")
        else text.partition("{")[2].partition("}")[0]
    )
    assert tuple(re.findall(r"\b[a-z_]+(?= BIGINT|': )", struct)) == Limit.__struct_fields__, f"cutor/projections/sql/{script}"


def test_rows_of_stages_are_as_long_as_the_sql_that_reads_them_expects() -> None:
    row = StageRow(("t", "i"), "run", 1, 0, None, "OK", None, None, 0, 0, True)  # type: ignore[arg-type]
    numbers, texts = row.laid_out()
    text = (SQL / "small/stages.sql").read_text()
    for name, found in (("numbers", numbers), ("texts", texts)):
        places = {int(place) for place in re.findall(rf"\b{name}\[(\d+)\]", text)}
        assert places == {*range(1, len(found) + 1)}, f"cutor/projections/sql/small/stages.sql: {name}"


def test_an_outcome_that_a_limit_explains_names_one() -> None:
    same({name for name, _ in LIMIT_OF_OUTCOME.values()} - {*UNITS}, (), "cutor/model/stages.py: LIMIT_OF_OUTCOME")
    same({*LIMIT_OF_OUTCOME} - {*get_args(StageOutcome)}, (), "cutor/model/stages.py: LIMIT_OF_OUTCOME")


# -- a view: `TABLES` in cutor/projections/schema.py ------------------------------------------------------------------------


def test_each_script_of_views_is_run() -> None:
    same(TABLES, (path.stem for path in (SQL / "tables").glob("*.sql")), "cutor/projections/schema.py: TABLES")


def test_each_view_is_on_its_page() -> None:
    named = {
        name
        for path in (SQL / "tables").glob("*.sql")
        for name in re.findall(r"^CREATE (?:TABLE|VIEW) ([a-z_]+)\b(?!\.)", path.read_text(), re.MULTILINE)
    }
    same(VIEWS, named, "docs/pages/views.py: VIEWS")


# -- a metric: `METRICS` in cutor/metrics/table.py --------------------------------------------------------------------------


def test_each_metric_is_exposed() -> None:
    defined = {value.name for value in vars(table).values() if isinstance(value, table.Metric)}
    same((metric.name for metric in table.METRICS), defined, "cutor/metrics/table.py: METRICS")
    assert len(table.METRICS) == len(defined), "one is in METRICS twice"


@pytest.mark.parametrize("name", [name for name, value in vars(table).items() if isinstance(value, table.Metric)])
def test_each_metric_gets_a_value_somewhere(name: str) -> None:
    files = [path for path in CUTOR.rglob("*.py") if re.search(rf"\b{name}\b", path.read_text()) and path.name != "table.py"]
    assert [path for path in files if "cutor.metrics" in path.read_text()], f"cutor/metrics/table.py: nothing observes {name}"


# -- an event of environments: `EnvironmentEvent` in cutor/model/environments.py ----------------------------------------------


@pytest.mark.parametrize("event_type", get_args(EnvironmentEvent), ids=kind)
def test_each_event_of_environments_is_in_the_comment_of_its_view(event_type: type[msgspec.Struct]) -> None:
    assert kind(event_type) in (SQL / "tables/environments.sql").read_text(), "cutor/projections/sql/tables/environments.sql"


def test_an_example_is_of_the_type_that_it_stands_for() -> None:
    assert type(example(Parked)) is Parked


# -- the page -----------------------------------------------------------------------------------------------------------------

PAGE = (ROOT / "docs/explanation/architecture.md").read_text()
FILES = {
    path.relative_to(ROOT).as_posix() for part in ("cutor", "deploy", "docs", "tests") for path in (ROOT / part).rglob("*.*")
}


def rows(heading: str, page: str = PAGE) -> list[list[str]]:
    """Return the cells of the table below a heading of the page, but for its first line."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("row", rows("The way of the data through the code"), ids=lambda row: str(row[0])[:40])
def test_each_hop_of_the_walk_is_there(row: list[str]) -> None:
    """As many names as files, in their order: a name that goes leaves a file without one."""
    files, names = (re.findall(r"`([^`]+)`", cell) for cell in row[1:])
    assert len(files) == len(names) > 0, f"docs/explanation/architecture.md: a name for each file: {files}, {names}"
    for path, name in zip(files, names, strict=True):
        defined = re.compile(rf"(def|class|TABLE) {name}\b|^{name}: Final", re.MULTILINE)
        assert defined.search((ROOT / path).read_text()), f"docs/explanation/architecture.md: {name} is not in {path}"


@pytest.mark.parametrize("row", rows("Where to change what"), ids=lambda row: str(row[0]))
def test_each_place_that_the_page_names_is_there(row: list[str]) -> None:
    for path in re.findall(r"`([\w/.-]+\.(?:py|sql|conf|toml|yaml))`", "|".join(row)):
        assert path == "streams.yaml" or any(f"/{known}".endswith(f"/{path}") for known in FILES), f"{row[0]}: {path}"


DEFINING = "\n".join(
    path.read_text() for path in [*CUTOR.rglob("*.py"), *CUTOR.rglob("*.sql"), ROOT / "tests/property/submission_histories.py"]
)
NO_NAMES = {"match"}
"""What the page says of Python itself."""


@pytest.mark.parametrize("row", rows("Where to change what"), ids=lambda row: str(row[0]))
def test_each_name_that_the_page_says_to_change_is_defined(row: list[str]) -> None:
    """The files alone would be there still when a table in them is called otherwise."""
    for name in {*re.findall(r"`(\w+)`", "|".join(row))} - NO_NAMES:
        defined = re.search(rf"^ *(?:(?:async )?def |class )?{name}\b *(?:\(|=|:)", DEFINING, re.MULTILINE)
        assert defined, f"docs/explanation/architecture.md, {row[0]}: nothing defines {name}"


CHECKS = Path(__file__).read_text()


def named_by_checks(concept: str) -> set[str]:
    """Return the files that the messages of this file's section on a concept name."""
    section = re.search(rf"^# -- {re.escape(concept)}: .*?(?=^# -- )", CHECKS, re.MULTILINE | re.DOTALL)
    assert section is not None, f"tests/unit/test_one_place.py: nothing on {concept}"
    there = {path.rpartition("/")[2] for path in FILES}
    return {path.rpartition("/")[2] for path in re.findall(r"[\w/]+\.(?:py|sql|yaml|conf|md)\b", section[0])} & there


@pytest.mark.parametrize("concept", re.findall(r"^# -- (an? [^:]+): ", CHECKS, re.MULTILINE))
def test_the_page_names_each_file_that_a_check_names(concept: str) -> None:
    (cells,) = (row for row in rows("Where to change what") if row[0] == concept)
    left_out = {name for name in named_by_checks(concept) if name not in "|".join(cells)}
    assert not left_out, f"docs/explanation/architecture.md, {concept}: {sorted(left_out)}"
