"""What the inits of child containers need of `typing`, `collections.abc`, `contextlib`, `signal` and `json`, and no more.

Those modules, with what they load, are half of the CPU time that an init takes until it is ready, and one starts for every
container. So what is here comes of parts that the interpreter has in it anyway. Where `typing` is loaded already, as it is on
the host, its own names are here; in an init nothing looks at annotations.
"""

from __future__ import annotations

import sys
from _json import encode_basestring, make_encoder, make_scanner

TYPE_CHECKING = False

if TYPE_CHECKING or "typing" in sys.modules:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from signal import SIGCONT, SIGKILL, SIGSTOP, pidfd_send_signal
    from typing import Any, Final, Literal, NamedTuple, Protocol
else:
    from _collections import _tuplegetter
    from _collections_abc import Callable, Iterable, Iterator, Mapping, Sequence
    from _signal import SIGCONT, SIGKILL, SIGSTOP, pidfd_send_signal

    class _Unchecked:
        """Stands for what only a type checker looks at."""

        def __getitem__(self, _parameters):
            return self

    Any = Final = Literal = _Unchecked()

    class Protocol:
        """The base of a class that says what others have."""

    class NamedTuple(tuple):
        """A tuple whose places have names: what a subclass annotates, with its defaults. Made and used as typing's."""

        __slots__ = ()

        def __init_subclass__(cls):
            cls._fields = tuple(cls.__annotations__)
            cls._field_defaults = {name: cls.__dict__[name] for name in cls._fields if name in cls.__dict__}
            for place, name in enumerate(cls._fields):
                setattr(cls, name, _tuplegetter(place, ""))

        def __new__(cls, *values, **named):
            if named or len(values) != len(cls._fields):
                rest = cls._fields[len(values) :]
                known = cls._field_defaults | named
                if len(values) > len(cls._fields) or not named.keys() <= set(rest) or not known.keys() >= set(rest):
                    raise TypeError(f"{cls.__name__} is made of {', '.join(cls._fields)}")
                values += tuple(known[name] for name in rest)
            return tuple.__new__(cls, values)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._asdict().items())})"

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **named):
            return type(self)(**(self._asdict() | named))


class suppress:  # noqa: N801 (as contextlib has it)
    """Goes on behind a block that raised one of these errors."""

    def __init__(self, *errors: type[BaseException]) -> None:
        self._errors = errors

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: object) -> bool:
        return kind is not None and issubclass(kind, self._errors)


class _Strict:
    """How JSON is read: numbers that are none are refused, as everything that is no JSON is."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> None:
        raise ValueError(f"{name} is not JSON")


def json_text(value: Any) -> str:
    """Return a value of dicts, lists, strings, numbers, booleans and None as JSON, as short as can be, letters as they are.

    Raises ValueError for a number that is none and for what contains itself, TypeError for what is nothing of these.
    """
    encode = make_encoder({}, _refuse, encode_basestring, None, ":", ",", False, False, False)
    return "".join(encode(value, 0))


def json_value(text: str) -> Any:
    """Return the value of a JSON text without space around it. Raises ValueError, and RecursionError for a deep one."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("no JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON value")
    return value


def _refuse(value: object) -> None:
    raise TypeError(f"a {type(value).__name__} has no JSON")


_scan = make_scanner(_Strict())  # type: ignore[arg-type] # it takes what has these names

__all__ = [
    "SIGCONT",
    "SIGKILL",
    "SIGSTOP",
    "TYPE_CHECKING",
    "Any",
    "Callable",
    "Final",
    "Iterable",
    "Iterator",
    "Literal",
    "Mapping",
    "NamedTuple",
    "Protocol",
    "Sequence",
    "json_text",
    "json_value",
    "pidfd_send_signal",
    "suppress",
]
