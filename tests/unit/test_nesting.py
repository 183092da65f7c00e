"""How deep a body may be nested is one bound for everybody, wherever on the stack they stand."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import msgspec
import pytest

from cutor.bus.bulk.columns import Columns
from cutor.bus.message import Stored
from cutor.cli.events import _raw
from cutor.journal.replay import _body
from cutor.model.build_progress import decode_progress
from cutor.model.codec import EventError, decode_policy, encode, version_of
from cutor.model.decisions import ParkedResolved
from cutor.model.environments import EnvironmentEvent, EnvironmentRemoved
from cutor.model.errors import InvalidRequest
from cutor.model.events import EVENT_TYPES
from cutor.model.limits import Policy
from cutor.model.messages import Unreadable, is_malformed, read_decision, read_environment, read_message
from cutor.model.nesting import NESTING, check_nesting
from cutor.model.request import parse_request
from cutor.model.subjects import EVENTS
from cutor.projections.archive.references import references_in
from cutor.projections.folds.readings import is_json, read
from tests.unit.histories import SUBMITTED, leased

T = TypeVar("T")
FRAMES = (0, 10, 30, 60)
LEVELS = (1, NESTING - 1, NESTING, NESTING + 1, *range(900, 1031, 13), 100_000)
"""Of all arrays and objects of a body, the outermost among them."""
REF = b'{"sha256":"%b","size_bytes":70000,"chunks":1}' % (b"0" * 64)


def beneath(frames: int, call: Callable[[], T]) -> T:
    """Call something from so many calls deeper."""
    return beneath(frames - 1, call) if frames else call()


def nested(body: bytes, levels: int) -> bytes:
    """Return an object with an unknown field, so that all of it has so many levels."""
    pairs, odd = divmod(levels - 1, 2)
    return body[:-1] + b',"added":' + b'[{"x":' * pairs + (b"[]" if odd else b"0") + b"}]" * pairs + b"}"


def is_an_event(body: bytes) -> bool:
    return not isinstance(read_message("cutor.ev.default.a.leased", body), Unreadable)


def is_a_submission(body: bytes) -> bool:
    message = read_message("cutor.ev.default.a.submitted", body)
    return not isinstance(message, Unreadable) and not is_malformed(message)


def is_of_an_environment(body: bytes) -> bool:
    return not isinstance(read_environment("cutor.env.k", body), Unreadable)


def is_a_decision(body: bytes) -> bool:
    return not isinstance(read_decision("cutor.dead.parked.default.a", body), Unreadable)


def is_a_policy(body: bytes) -> bool:
    try:
        return bool(decode_policy(body))
    except EventError:
        return False


def is_read_by_the_fold(body: bytes) -> bool:
    """Whether a body stands in the columns as an event, and as JSON; the same for both."""
    [part] = read(Columns.of([Stored(EVENTS, 1, "cutor.ev.default.a.leased", 1000, None, {}, body)]))
    assert (part.faults[0] is None) == (part.bodies[0] is not None) == (part.versions[0] is not None)
    return part.faults[0] is None


def refers(body: bytes) -> bool:
    return bool(references_in(body))


DECISION = encode(ParkedResolved(action="dropped", reason="the contest is over"))
READERS: dict[str, tuple[Callable[[bytes], bool], bytes]] = {
    "an event": (is_an_event, encode(leased("builder"))),
    "a submission": (is_a_submission, encode(SUBMITTED)),
    "of an environment": (is_of_an_environment, encode(EnvironmentRemoved(key="k", reason="r"))),
    "a decision": (is_a_decision, DECISION),
    "a policy": (is_a_policy, encode(Policy())),
    "a version": (lambda body: version_of(body) is not None, b'{"kind":"leased"}'),
    "the fold": (is_read_by_the_fold, encode(leased("builder"))),
    "JSON": (is_json, b'{"x":1}'),
    "a reference": (refers, b'{"x":%b}' % REF),
    "progress of a build": (lambda body: decode_progress(body) is not None, b'{"lease":1,"text":""}'),
    "in a replay": (lambda body: "event" in _body(body), b'{"x":1}'),
    "in a list of events": (lambda body: _raw(body) is not None, b'{"x":1}'),
}


@pytest.mark.parametrize(("reads", "body"), READERS.values(), ids=READERS)
def test_who_reads_it_stands_where_they_like(reads: Callable[[bytes], bool], body: bytes) -> None:
    assert reads(body)
    for levels in LEVELS:
        deep = nested(body, levels)
        found = {beneath(frames, lambda deep=deep: reads(deep)) for frames in FRAMES}  # type: ignore[misc]
        assert found == {levels <= NESTING}, levels


def test_why_it_is_none_is_said() -> None:
    body = nested(encode(leased("builder")), NESTING + 1)
    assert read_message("cutor.ev.default.a.leased", body) == Unreadable("not an event: nested too deeply")
    rejected = read_message("cutor.ev.default.a.submitted", nested(encode(SUBMITTED), NESTING + 1))
    assert getattr(rejected, "fault", None) == "not an event: nested too deeply"


def refuses(body: bytes) -> bool:
    try:
        check_nesting(body)
    except RecursionError:
        return True
    return False


@pytest.mark.parametrize("text", ["[" * 2000, '{"' * 2000, '\\"[' * 500, "\\" * 999 + "[{" * 500, "\n\x7f{[\N{SNOWMAN}" * 99])
def test_brackets_within_strings_are_text(text: str) -> None:
    for ascii_only in (True, False):
        written = json.dumps([text, {text: ""}, [], "", text], ensure_ascii=ascii_only).encode()
        assert not refuses(written)
        inner = NESTING - 2
        assert not refuses(b"[" * inner + written + b"]" * inner)
        assert refuses(b"[" * (inner + 1) + written + b"]" * (inner + 1))


def test_what_stands_beside_each_other_is_not_deep() -> None:
    assert not refuses(b"[" + b",".join([b'{"a":[[]]}'] * 5000) + b"]")
    assert refuses(b"[[]," * (NESTING + 1) + b"0" + b"]" * (NESTING + 1))


@pytest.mark.parametrize("seed", range(20))
def test_the_count_is_that_of_a_reader(seed: int) -> None:
    """Random documents around the bound, with all that may stand in strings."""
    rng = random.Random(seed)
    for _ in range(20):
        value: Any = "".join(rng.choices('[]{}"\\/,: a\n', k=rng.randint(0, 40)))
        levels = rng.randint(NESTING - 3, NESTING + 3)
        for _ in range(levels):
            beside = "".join(rng.choices('[]{}"\\', k=rng.randint(0, 9)))
            value = rng.choice([[beside, value, [beside]], {beside: value}, [value], {"x": beside, "y": value}])
        depth = _levels(value)
        assert refuses(msgspec.json.encode(value)) == (depth > NESTING)
        assert refuses(json.dumps(value, indent=1).encode()) == (depth > NESTING)


def _levels(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(_levels, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    return 0


NO_JSON = (b"", b'"' * 999, b"[" * 64, b"]" * 999 + b"[" * 999, b'["' + b"[" * 999, b"\\" * 99 + b'"{' * 99)


@pytest.mark.parametrize("body", NO_JSON)
def test_what_is_no_json_is_left_to_its_reader(body: bytes) -> None:
    assert not refuses(body)
    assert not is_json(body)


@pytest.mark.parametrize("shape", [*EVENT_TYPES, *get_args(EnvironmentEvent), ParkedResolved, Policy])
def test_what_cutor_writes_is_far_from_the_bound(shape: Any) -> None:
    """No type has room for what is not typed, or for itself: bodies without unknown fields need not be counted."""
    assert _typed_levels(msgspec.inspect.type_info(shape)) < 10  # type: ignore[attr-defined]


def _typed_levels(info: Any) -> int:
    assert not isinstance(info, msgspec.inspect.AnyType | msgspec.inspect.RawType)
    parts = [getattr(info, name) for name in ("item_type", "key_type", "value_type", "type") if hasattr(info, name)]
    parts += [*getattr(info, "item_types", ()), *getattr(info, "types", ()), *(f.type for f in getattr(info, "fields", ()))]
    inner = max((_typed_levels(part) for part in parts), default=0)
    return inner + (not isinstance(info, msgspec.inspect.UnionType | msgspec.inspect.Metadata) and bool(parts))


REQUESTS = (b'{"wish":%b}', b'{"files":%b,"test_cases":[]}', b'{"files":[],"test_cases":[],"labels":{"a":%b}}', b"%b",
            b'{"files":[],"test_cases":[],"limits":{"run":{"cpu_time_ms":%b}}}')  # fmt: skip


@pytest.mark.parametrize("form", REQUESTS)
@pytest.mark.parametrize("levels", [NESTING + 1, 1000, 100_000])
def test_a_request_so_deep_is_refused_in_one_line(form: bytes, levels: int) -> None:
    """By its types, which say the same from wherever on the stack."""

    def refusal() -> str:
        with pytest.raises(InvalidRequest) as raised:
            parse_request(form % (b"[" * levels + b"]" * levels))
        return str(raised.value)

    [line] = {beneath(frames, refusal) for frames in FRAMES}
    assert re.fullmatch(r"request: .{1,120}", line)
