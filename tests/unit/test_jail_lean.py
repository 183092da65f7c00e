"""What inits have in place of typing and json: alike in what they use of it, and loading nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cutor.jail.inside.lean import json_text, json_value, suppress

ROOT = Path(__file__).parents[2]
FREE = {"typing", "re", "json", "enum", "collections", "contextlib", "functools", "signal", "socket", "warnings", "dataclasses"}
"""Modules of the standard library that an init must not load: each takes a millisecond or several."""
RECORDS = """
class Point(NamedTuple):
    x: int
    y: int = 2
    name: str = "p"

    def sum(self):
        return self.x + self.y


class Nothing(NamedTuple):
    pass


def refused(make):
    try:
        make()
    except TypeError:
        return True


made = Point(1)
print([
    made, Point(1, 3, "q"), Point(name="r", x=5), made.sum(), made._replace(y=7), made._asdict(), made._fields,
    tuple(made), made == Point(1, 2), made == (1, 2, "p"), hash(made) == hash((1, 2, "p")), Nothing(), isinstance(made, tuple),
    [refused(make) for make in (Point, lambda: Point(1, 2, "p", 4), lambda: Point(1, x=1), lambda: Point(1, z=1))],
])
"""


def python(text: str) -> str:
    """Return what Python prints, started as an init's is."""
    command = [sys.executable, "-S", "-E", "-c", f"import sys; sys.path[0] = {str(ROOT)!r}\n{text}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_named_tuple_is_as_typings() -> None:
    lean = python(
        "sys.modules['cutor'] = type(sys)('cutor'); cutor = sys.modules['cutor']; cutor.__path__ = [sys.path[0] + '/cutor']\n"
        f"from cutor.jail.inside.lean import NamedTuple\nassert 'typing' not in sys.modules\n{RECORDS}"
    )
    assert lean == python(f"from typing import NamedTuple\n{RECORDS}")
    assert "[True, True, True, True]" in lean


def test_an_init_loads_nothing_that_takes_long() -> None:
    """The package is that of the image: an `__init__` that loads nothing."""
    loaded = python(
        "cutor = sys.modules['cutor'] = type(sys)('cutor'); cutor.__path__ = [sys.path[0] + '/cutor']\n"
        "import cutor.jail.inside.worker_init\nprint(*sys.modules)"
    ).split()
    assert "cutor.jail.inside.worker_init" in loaded
    assert FREE & set(loaded) == set()


@pytest.mark.parametrize(
    "value", [{}, {"a": [1, -2.5, True, False, None, 'ä\u20ac"\\\n\x00\ud800'], "b": {"c": []}}, [], "", 0, 1e300, [[[]]]]
)
def test_json_is_as_json_has_it(value: Any) -> None:
    text = json_text(value)
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert json_value(text) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": object()}, {"a": b""}, {1, 2}])
def test_what_has_no_json_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        json_text(value)


@pytest.mark.parametrize("text", ["", "x", "{", '{"a"}', "[1,]", "NaN", "-Infinity", "{} {}", '{"a":"\n"}', "\ufeff{}", "tru"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        json_value(text)


def test_a_deep_text_is_refused() -> None:
    with pytest.raises(RecursionError):
        json_value("[" * 1_000_000)


def test_suppress_lets_others_through() -> None:
    with suppress(FileExistsError, KeyError):
        raise KeyError("a")
    with pytest.raises(FileNotFoundError), suppress(FileExistsError):
        raise FileNotFoundError("b")
    with suppress(OSError):
        pass
